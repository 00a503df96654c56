package proxy

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// A change of one group leaves the routes, the other groups and their targets as they are.
func TestAChangeCostsWhatItChanges(t *testing.T) {
	r := newRig(t, model.PaceFast)
	one, two, three := named(t, "one"), named(t, "two"), named(t, "three")
	r.proxy.Apply(r.table([]Group{unchecked("a", one), unchecked("b", two)}, Rule{Action: forwardTo("a")}))
	routes, other := r.proxy.table.Load(), r.proxy.groups["b"].members[0]
	r.proxy.Change(Delta{Groups: []Group{unchecked("a", three)}})
	r.expect("/", 200, "three")
	if r.proxy.table.Load() != routes || r.proxy.groups["b"].members[0] != other {
		t.Error("more was made anew than the group that changed")
	}
	lb := r.table(nil, Rule{Action: forwardTo("b")}).Balancers[0]
	r.proxy.Change(Delta{Balancers: []Balancer{lb}})
	r.expect("/", 200, "two")
	r.awaitState("a", three, elbtypes.TargetHealthStateEnumUnused)
	r.proxy.Change(Delta{GoneGroups: []string{"b", "unknown"}})
	r.expect("/", 503, "")
	r.proxy.Change(Delta{GoneBalancers: []string{"lb"}})
	if _, err := net.Dial("tcp", r.url("")[len("http://"):]); err == nil {
		t.Error("the port is open still")
	}
	if len(r.proxy.uses) > 0 || len(r.proxy.targets) != 1 {
		t.Errorf("left: %v, %d targets", r.proxy.uses, len(r.proxy.targets))
	}
}

// What another proxy saw of targets is where this one begins: the sick one gets no request before its first check.
func TestWhatWasKnownOfTargetsIsKept(t *testing.T) {
	r := newRig(t, model.PaceFast)
	asked := make(chan struct{})
	slow := func(answer string) Target {
		return backend(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/health" {
				<-asked
			}
			w.Write([]byte(answer))
		})
	}
	defer close(asked)
	good, bad := slow("good"), slow("bad")
	r.proxy.Known = map[string]model.TargetHealth{}
	for target, state := range map[Target]elbtypes.TargetHealthStateEnum{good: "healthy", bad: "unhealthy"} {
		h := model.TargetHealth{TargetGroupARN: "g", ID: target.ID, Port: target.Port, State: state}
		r.proxy.Known[h.Key()] = h
	}
	r.serve(checked("g", good, bad))
	for range 6 {
		r.expect("/", 200, "good")
	}
	for _, h := range r.proxy.Health() {
		if want := map[int32]elbtypes.TargetHealthStateEnum{good.Port: "healthy", bad.Port: "unhealthy"}[h.Port]; h.State != want {
			t.Errorf("%+v, want %s", h, want)
		}
	}
}

// A target is drained when neither this proxy nor its predecessor has a request in flight.
func TestATargetThatIsBusyElsewhereIsNotDrained(t *testing.T) {
	r := newRig(t, model.PaceFast)
	var busy atomic.Bool
	busy.Store(true)
	r.proxy.Elsewhere = func(string) bool { return busy.Load() }
	target := named(t, "x")
	r.serve(unchecked("g", target))
	r.expect("/", 200, "x")
	leaving := target
	leaving.DrainingSince = time.Now()
	r.serve(unchecked("g", leaving))
	r.awaitState("g", target, elbtypes.TargetHealthStateEnumDraining)
	key := model.TargetKey("g", target.ID, target.Port)
	r.proxy.Settle()
	if got := r.proxy.Busy(); len(got) != 1 || got[0] != key || r.health[key].Drained {
		t.Fatalf("busy %v, %+v", got, r.health[key])
	}
	busy.Store(false)
	r.proxy.Settle()
	r.await("drained", func() bool { return r.health[key].Drained })
}

// A proxy that leaves closes its listeners at once and nothing else: connections are asked to end, those in use are served.
func TestLeavingIsNoticedByNobody(t *testing.T) {
	r := newRig(t, model.PaceFast)
	arrived, release := make(chan struct{}), make(chan struct{})
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/long" {
			close(arrived)
			<-release
		}
		w.Write([]byte("x"))
	})))
	r.expect("/", 200, "x") // a connection that stays open
	long := make(chan int, 1)
	go func() {
		other := &http.Client{Transport: &http.Transport{}}
		res, err := other.Get(r.url("/long"))
		if err != nil {
			t.Error(err)
			long <- 0
			return
		}
		res.Body.Close()
		long <- res.StatusCode
	}()
	<-arrived
	left := make(chan struct{})
	go func() {
		defer close(left)
		r.proxy.Leave(context.Background(), 300*time.Millisecond)
	}()
	for !r.proxy.leaving.Load() {
		time.Sleep(time.Millisecond)
	}
	for {
		c, err := net.Dial("tcp", r.url("")[len("http://"):])
		if err != nil {
			break
		}
		c.Close()
	}
	req := r.request("GET", "/", nil)
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal("the open connection was not served:", err)
	}
	res.Body.Close()
	if !res.Close {
		t.Error("the client was not asked to close its connection")
	}
	close(release)
	if status := <-long; status != 200 {
		t.Errorf("the request in flight got %d", status)
	}
	<-left
}

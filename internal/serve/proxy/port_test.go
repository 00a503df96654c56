package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

func TestAPortThatAnotherProgramHasIsSaidAndTakenLater(t *testing.T) {
	r := newRig(t, model.PaceFast)
	other, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r.proxy.Apply(r.table(nil, Rule{Action: fixed("here")}))
	want := fmt.Sprintf("port %d is in use by another program", r.port)
	r.await("the problem is said", func() bool { return r.problems["listener"] == want })
	other.Close()
	r.await("the problem is gone", func() bool { return r.problems["listener"] == "" })
	r.expect("/", 200, "here")
	if r.told != 2 {
		t.Errorf("it was told %d times", r.told)
	}
	r.proxy.Apply(r.table(nil, Rule{Action: fixed("there")}))
	r.expect("/", 200, "there")
	if r.told != 2 {
		t.Errorf("it was told %d times, though nothing had changed", r.told)
	}
}

func TestOneAddressOfManyThatIsMissing(t *testing.T) {
	r := newRig(t, model.PaceFast)
	r.proxy.Addresses = []string{"127.0.0.1", "203.0.113.7"}
	r.proxy.Apply(r.table(nil, Rule{Action: fixed("here")}))
	r.await("the problem is said", func() bool { return strings.Contains(r.problems["listener"], "203.0.113.7") })
	r.expect("/", 200, "here")
}

func TestAPortIsGivenBackAndTakenAtOnce(t *testing.T) {
	r := newRig(t, model.PaceFast)
	arrived, release := make(chan struct{}), make(chan struct{})
	target := backend(t, func(_ http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/long" {
			close(arrived)
			<-release
		}
	})
	table := r.serve(unchecked("g", target))
	done := make(chan int, 1)
	go func() {
		status, _ := r.get("/long")
		done <- status
	}()
	<-arrived
	for range 20 {
		r.proxy.Apply(Table{Groups: table.Groups})
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal("the port is not free:", err)
		}
		l.Close()
		r.proxy.Apply(table)
		if status, _, _ := r.do(r.request("GET", "/", nil, func(req *http.Request) { req.Close = true })); status != 200 {
			t.Fatal(status)
		}
	}
	close(release)
	if status := <-done; status != 200 {
		t.Errorf("the request in flight got %d", status)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problems["listener"] != "" {
		t.Error(r.problems)
	}
}

func TestLoadBalancersShareAPort(t *testing.T) {
	r := newRig(t, model.PaceFast)
	table := r.table(nil, Rule{Action: fixed("one")})
	table.Balancers = append(table.Balancers, Balancer{ARN: "two", DNSName: "two-2.elb.us-east-1.localhost", IdleTimeout: time.Second,
		Listeners: []Listener{{ARN: "listener2", Port: r.port, Rules: []Rule{{Action: fixed("two")}}}}})
	r.proxy.Apply(table)
	for name, want := range map[string]string{"lb-1.elb.us-east-1.localhost": "one", "TWO-2.elb.us-east-1.localhost:8080": "two",
		"shop.example": "one"} {
		r.expect("/", 200, want, host(name))
	}
	table.Balancers = table.Balancers[1:] // it has the port to itself now
	r.proxy.Apply(table)
	r.expect("/", 200, "two", host("shop.example"))
	if s := r.proxy.Stats("two"); s.Requests.Load() != 2 {
		t.Errorf("%d requests", s.Requests.Load())
	}
}

func TestCloseEndsEverything(t *testing.T) {
	r := newRig(t, model.PaceFast)
	table := r.serve(checked("g", named(t, "x")))
	r.expect("/", 200, "x")
	if err := r.proxy.Close(); err != nil {
		t.Fatal(err)
	}
	r.proxy.Apply(table) // comes too late
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := r.proxy.Close(); err != nil {
		t.Error("a second time:", err)
	}
}

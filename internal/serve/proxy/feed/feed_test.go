package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// flaky is a store whose updates fail while broken is set.
type flaky struct {
	store.Store
	broken  atomic.Bool
	follows bool // the server of this store does not lead
}

func (s *flaky) Update(ctx context.Context, f func(store.Tx) error) error {
	if s.follows {
		return &store.NotLeaderError{Leader: "other"}
	}
	if s.broken.Load() {
		return errors.New("the disk is full")
	}
	return s.Store.Update(ctx, f)
}

type rig struct {
	t     testing.TB
	store *mem.Store
	flaky *flaky
	port  int
}

// newRig runs a feed and a proxy over a store that holds one load balancer "lb", its listener "l" and a group "g".
func newRig(t testing.TB) *rig {
	r := &rig{t: t, store: mem.New(store.Schema())}
	r.flaky = &flaky{Store: r.store}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	put(t, r.store, func(tx store.Tx) {
		store.LoadBalancers.Put(tx, balancerRow("lb", "lb.elb", epoch, nil))
		store.Listeners.Put(tx, listenerRow("l", "lb", int32(r.port), forward(tuple("g", 1)), nil))
		store.TargetGroups.Put(tx, groupRow("g", nil))
		store.TargetHealths.Put(tx, &model.TargetHealth{TargetGroupARN: "g", ID: "long-gone", Port: 1})
	})
	log := slog.New(slog.DiscardHandler)
	f := New(r.flaky, "self", log)
	p := proxy.New(proxy.Config{Addresses: []string{"127.0.0.1"}, OnHealth: f.Health, OnProblem: f.Problem, Pace: model.PaceFast,
		Now: time.Now, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, p) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.Close()
		r.store.Close()
	})
	return r
}

// await waits until the store makes ok true.
func (r *rig) await(what string, ok func(store.Reader) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	changes := r.store.Watch(ctx)
	for {
		done := false
		r.store.View(func(rd store.Reader) { done = ok(rd) })
		if done {
			return
		}
		if _, open := <-changes.C(); !open {
			r.t.Fatal("waited in vain: ", what)
		}
	}
}

func (r *rig) awaitState(key string, state types.TargetHealthStateEnum) {
	r.t.Helper()
	r.await(key+" is "+string(state), func(rd store.Reader) bool {
		h, ok := store.TargetHealths.Get(rd, key)
		return ok && h.State == state
	})
}

func (r *rig) target(task string, h http.HandlerFunc) *model.Target {
	s := httptest.NewServer(h)
	r.t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	n, err := strconv.Atoi(port)
	if err != nil {
		r.t.Fatal(err)
	}
	return &model.Target{TargetGroupARN: "g", ID: "127.0.0.1", Port: int32(n), Address: "127.0.0.1", Task: task}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func (r *rig) get() string {
	r.t.Helper()
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", r.port))
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

func TestChangesAreServedAtOnce(t *testing.T) {
	r := newRig(t)
	a := r.target("", says("a"))
	put(t, r.store, func(tx store.Tx) { store.Targets.Put(tx, a) })
	r.awaitState(a.Key(), types.TargetHealthStateEnumHealthy)
	var slowest time.Duration
	for i := range 20 {
		want := fmt.Sprint("answer ", i)
		put(t, r.store, func(tx store.Tx) {
			store.Rules.Put(tx, ruleRow("r", "l", 1, []types.Action{{Type: types.ActionTypeEnumFixedResponse,
				FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: new("200"), MessageBody: &want}}}, values("path-pattern", "/*")))
		})
		began := time.Now()
		for r.get() != want {
			if time.Since(began) > 5*time.Second {
				t.Fatal("the change is never served")
			}
		}
		slowest = max(slowest, time.Since(began))
	}
	if slowest > 100*time.Millisecond {
		t.Errorf("the slowest change took %s", slowest)
	}
	put(t, r.store, func(tx store.Tx) { store.Rules.Delete(tx, "r") })
	for began := time.Now(); r.get() != "a"; {
		if time.Since(began) > 5*time.Second {
			t.Fatal("the rule is served still")
		}
	}
}

func TestWhatTheProxySeesIsWritten(t *testing.T) {
	r := newRig(t)
	good, bad := r.target("", says("good")), r.target("task", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	put(t, r.store, func(tx store.Tx) {
		store.Targets.Put(tx, good)
		store.Targets.Put(tx, bad)
	})
	r.awaitState(good.Key(), types.TargetHealthStateEnumHealthy)
	r.await("the bad target's checks go on", func(rd store.Reader) bool {
		h, ok := store.TargetHealths.Get(rd, bad.Key())
		return ok && h.Reason == types.TargetHealthReasonEnumInitialHealthChecking
	})
	r.await("what nobody has is forgotten", func(rd store.Reader) bool {
		_, ok := store.TargetHealths.Get(rd, model.TargetKey("g", "long-gone", 1))
		return !ok
	})
	put(t, r.store, func(tx store.Tx) {
		for _, old := range []*model.Target{good, bad} {
			leaving := *old
			leaving.DrainingSince = time.Now()
			store.Targets.Put(tx, &leaving)
		}
	})
	r.await("a client's target goes when it is drained", func(rd store.Reader) bool {
		_, target := store.Targets.Get(rd, good.Key())
		_, health := store.TargetHealths.Get(rd, good.Key())
		return !target && !health
	})
	r.await("a task's target waits for control", func(rd store.Reader) bool {
		h, ok := store.TargetHealths.Get(rd, bad.Key())
		_, there := store.Targets.Get(rd, bad.Key())
		return ok && h.Drained && there
	})
	put(t, r.store, func(tx store.Tx) { store.Targets.Delete(tx, bad.Key()) })
	r.await("its health goes with it", func(rd store.Reader) bool {
		_, ok := store.TargetHealths.Get(rd, bad.Key())
		return !ok
	})
}

func TestAProblemOfAPortIsWritten(t *testing.T) {
	r := newRig(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := int32(other.Addr().(*net.TCPAddr).Port)
	put(t, r.store, func(tx store.Tx) {
		store.Listeners.Put(tx, listenerRow("l2", "lb", taken, forward(tuple("g", 1)), nil))
	})
	problem := func(rd store.Reader) string {
		l, _ := store.Listeners.Get(rd, "l2")
		return l.Problem
	}
	r.await("the problem is written", func(rd store.Reader) bool { return strings.Contains(problem(rd), "in use by another program") })
	other.Close()
	r.await("and taken back", func(rd store.Reader) bool { return problem(rd) == "" })
}

func TestAWriteThatFailsIsMadeAgain(t *testing.T) {
	r := newRig(t)
	r.flaky.broken.Store(true)
	seen := make(chan struct{}, 100)
	a := r.target("", func(http.ResponseWriter, *http.Request) { seen <- struct{}{} })
	put(t, r.store, func(tx store.Tx) { store.Targets.Put(tx, a) })
	<-seen
	r.flaky.broken.Store(false)
	r.awaitState(a.Key(), types.TargetHealthStateEnumHealthy)
}

// TestWhatAFollowersProxySeesTheLeaderWrites: in batches, again after a failure, and drained only when nobody can have requests in flight.
func TestWhatAFollowersProxySeesTheLeaderWrites(t *testing.T) {
	s := mem.New(store.Schema())
	defer s.Close()
	f := New(&flaky{Store: s, follows: true}, "self", slog.New(slog.DiscardHandler))
	const n = handAtATime + 500
	target := func(i int) *model.Target {
		return &model.Target{TargetGroupARN: "g", ID: fmt.Sprint("i-", i), Port: 80}
	}
	put(t, s, func(tx store.Tx) {
		store.TargetGroups.Put(tx, groupRow("g", map[string]string{"deregistration_delay.timeout_seconds": "60"}))
		store.Listeners.Put(tx, listenerRow("l", "lb", 80, forward(tuple("g", 1)), nil))
		store.TargetHealths.Put(tx, &model.TargetHealth{TargetGroupARN: "g", ID: "gone", Port: 1})
		for i := range n {
			store.Targets.Put(tx, target(i))
		}
	})
	drains := func(i int, since time.Time) {
		leaving := target(i)
		leaving.DrainingSince = since
		put(t, s, func(tx store.Tx) { store.Targets.Put(tx, leaving) })
		f.Health(model.TargetHealth{TargetGroupARN: "g", ID: leaving.ID, Port: 80, State: types.TargetHealthStateEnumDraining, Drained: true})
	}
	for i := range n {
		f.Health(model.TargetHealth{TargetGroupARN: "g", ID: target(i).ID, Port: 80, State: types.TargetHealthStateEnumHealthy})
	}
	f.Problem("l", "in use")
	f.orphan(model.TargetKey("g", "gone", 1))
	drains(0, time.Now())
	drains(1, time.Now().Add(-time.Hour))
	calls := 0
	f.Hand = func(ctx context.Context, r Report) error {
		if calls++; calls == 2 {
			return errors.New("it was lost")
		}
		return Receive(ctx, s, r)
	}
	if err := f.write(t.Context()); err == nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := f.write(t.Context()); err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	s.View(func(r store.Reader) {
		healthy := 0
		for h := range store.TargetHealths.Scan(r, "") {
			if h.State != types.TargetHealthStateEnumHealthy {
				t.Errorf("%+v", h)
			}
			healthy++
		}
		_, waits := store.Targets.Get(r, target(0).Key())
		_, gone := store.Targets.Get(r, target(1).Key())
		if l, _ := store.Listeners.Get(r, "l"); healthy != n-2 || l.Problem != "in use" || !waits || gone {
			t.Errorf("%d healthy, %q, the one that drains is there: %t, the drained one: %t", healthy, l.Problem, waits, gone)
		}
	})
	if b := f.take(); len(b.health) != 1 || len(b.problems)+len(b.orphans) != 0 {
		t.Errorf("left: %d healths, %v, %v", len(b.health), b.problems, b.orphans)
	}
}

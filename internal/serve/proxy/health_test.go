package proxy

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

const (
	initial   = elbtypes.TargetHealthStateEnumInitial
	well      = elbtypes.TargetHealthStateEnumHealthy
	unwell    = elbtypes.TargetHealthStateEnumUnhealthy
	draining  = elbtypes.TargetHealthStateEnumDraining
	unusedNow = elbtypes.TargetHealthStateEnumUnused
)

func TestCodes(t *testing.T) {
	for codes, fits := range map[string]map[int]bool{
		"":                 {200: true, 201: false},
		"200,301":          {200: true, 301: true, 300: false},
		"200-299, 404":     {204: true, 404: true, 300: false},
		"x,200-y,-,204":    {204: true, 200: false},
		"299-200":          {250: false},
		"200-299,300-399,": {301: true, 400: false},
	} {
		for status, want := range fits {
			if codeFits(codes, status) != want {
				t.Errorf("%q with %d is not %v", codes, status, want)
			}
		}
	}
}

func TestHealthGoesUpAndDownWithItsReasons(t *testing.T) {
	r := newRig(t, model.PaceFast)
	status := atomic.Int64{}
	status.Store(200)
	var agent atomic.Value
	target := backend(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/health" {
			agent.Store(req.UserAgent())
			w.WriteHeader(int(status.Load()))
		}
	})
	r.serve(checked("g", target))
	r.awaitState("g", target, well)
	if agent.Load() != "ELB-HealthChecker/2.0" {
		t.Errorf("checks come from %v", agent.Load())
	}
	status.Store(502)
	r.awaitState("g", target, unwell)
	status.Store(204)
	r.awaitState("g", target, well)

	var got []string
	for _, h := range r.history[model.TargetKey("g", target.ID, target.Port)] {
		got = append(got, string(h.State)+" "+string(h.Reason)+" "+h.Description)
	}
	want := []string{"initial Elb.RegistrationInProgress Target registration is in progress", "healthy  ",
		"unhealthy Target.ResponseCodeMismatch Health checks failed with these codes: [502]", "healthy  "}
	if len(got) != len(want) {
		t.Fatalf("history %q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("step %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestWhyChecksFail(t *testing.T) {
	hang := make(chan struct{})
	slow := backend(t, func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-hang:
		case <-req.Context().Done():
		}
	})
	t.Cleanup(func() { close(hang) })
	refused := Target{ID: "refused", Address: "127.0.0.1", Port: int32(freePort(t))}
	rude, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rude.Close() })
	go func() {
		for {
			c, err := rude.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	r := newRig(t, model.PaceAWS)
	closes := targetAt(t, rude.Addr().String())
	g := checked("g", slow, refused, closes)
	g.Check.Timeout = 100 * time.Millisecond
	r.serve(g)
	for target, want := range map[Target]elbtypes.TargetHealthReasonEnum{slow: "Target.Timeout", refused: "Target.FailedHealthChecks",
		closes: "Target.FailedHealthChecks"} {
		r.awaitState("g", target, unwell)
		r.mu.Lock()
		h := r.health[model.TargetKey("g", target.ID, target.Port)]
		r.mu.Unlock()
		if h.Reason != want {
			t.Errorf("%s: reason %s (%s), want %s", target.ID, h.Reason, h.Description, want)
		}
	}
}

func TestHealthCheckOnAnotherPort(t *testing.T) {
	r := newRig(t, model.PaceFast)
	target := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	other := named(t, "well")
	g := checked("g", target)
	g.Check.Port = int(other.Port)
	r.serve(g)
	r.awaitState("g", target, well)
}

func TestAnUnusedGroupsTargetsAreNotAsked(t *testing.T) {
	r := newRig(t, model.PaceFast)
	var asked atomic.Int64
	target := backend(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	table := r.table([]Group{checked("g", target)}, Rule{Action: fixed("x")})
	r.proxy.Apply(table)
	r.awaitState("g", target, unusedNow)
	if h := r.health[model.TargetKey("g", target.ID, target.Port)]; h.Reason != "Target.NotInUse" {
		t.Errorf("reason %s", h.Reason)
	}
	if asked.Load() != 0 {
		t.Error("it was asked")
	}
	r.serve(checked("g", target)) // a rule leads to it now
	r.awaitState("g", target, well)
	r.proxy.Apply(table)
	r.awaitState("g", target, unusedNow)
}

// lab is a target whose checks the test makes itself.
func lab(pace model.Pace, check HealthCheck) *target {
	p := New(Config{Pace: pace, Now: time.Now, OnHealth: func(model.TargetHealth) {}})
	t := newTarget(p, "g", Target{ID: "t", Port: 1, Address: "127.0.0.1"})
	t.update(t.conf, Group{ARN: "g", Check: check}, true)
	return t
}

func TestASlowStarterHasTheTimeItsOwnerGaveIt(t *testing.T) {
	bad := verdict{reason: elbtypes.TargetHealthReasonEnumFailedHealthChecks, text: "Health checks failed"}
	check := HealthCheck{Interval: 30 * time.Second, UnhealthyThreshold: 3, HealthyThreshold: 5}
	synctest.Test(t, func(t *testing.T) {
		x := lab(model.PaceFast, check)
		for range 59 { // a check a second
			x.judge(check, bad)
			if x.state != initial || x.reason != elbtypes.TargetHealthReasonEnumInitialHealthChecking {
				t.Fatalf("%s (%s) too soon", x.state, x.reason)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		x.judge(check, bad)
		if x.state != unwell {
			t.Fatalf("%s after 60 s of failed checks, as three at an interval of 30 s take", x.state)
		}
		x.judge(check, verdict{})
		if x.state != well {
			t.Fatalf("%s after its first good check", x.state)
		}
		x.judge(check, bad)
		x.judge(check, bad)
		if x.state != well {
			t.Fatal("two of three bad checks are enough")
		}
		x.judge(check, bad)
		if x.state != unwell {
			t.Fatal("three bad checks of one that was healthy are not enough")
		}
		for i := range 5 {
			if x.state != unwell {
				t.Fatalf("healthy again after %d good checks", i)
			}
			x.judge(check, verdict{})
		}
		if x.state != well {
			t.Fatal("five good checks are not enough")
		}
	})
}

func TestThresholdsAtAWSPace(t *testing.T) {
	bad := verdict{reason: elbtypes.TargetHealthReasonEnumFailedHealthChecks, text: "Health checks failed"}
	check := HealthCheck{Interval: 30 * time.Second, UnhealthyThreshold: 2, HealthyThreshold: 3}
	x := lab(model.PaceAWS, check)
	for i, step := range []struct {
		v    verdict
		want elbtypes.TargetHealthStateEnum
	}{{bad, initial}, {bad, unwell}, {verdict{}, unwell}, {verdict{}, unwell}, {bad, unwell}, {verdict{}, unwell}, {verdict{}, unwell},
		{verdict{}, well}, {bad, well}, {verdict{}, well}, {bad, well}, {bad, unwell}} {
		x.judge(check, step.v)
		if x.state != step.want {
			t.Fatalf("step %d: %s, want %s", i, x.state, step.want)
		}
	}
	other := check
	other.Path = "/other"
	x.judge(other, verdict{})
	x.judge(other, verdict{})
	x.judge(other, verdict{})
	if x.state != unwell {
		t.Error("what a check found that is not made any more counts")
	}
}

func TestFailOpen(t *testing.T) {
	r := newRig(t, model.PaceFast)
	sick := func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/health" {
			w.WriteHeader(500)
			return
		}
		io.WriteString(w, "sick")
	}
	a, b := backend(t, sick), named(t, "well")
	r.serve(checked("g", a))
	r.expect("/", 200, "sick")
	g := checked("g", a, b)
	r.serve(g)
	r.awaitState("g", b, well)
	for range 6 {
		r.expect("/", 200, "well")
	}
	g.MinHealthyPercent = 60 // one of two is too few
	r.serve(g)
	seen := map[string]bool{}
	for range 6 {
		_, body := r.get("/")
		seen[body] = true
	}
	if len(seen) != 2 {
		t.Errorf("with too few healthy targets only %v answered", seen)
	}
	g.MinHealthyPercent, g.MinHealthy = 0, 2
	r.serve(g)
	clear(seen)
	for range 6 {
		_, body := r.get("/")
		seen[body] = true
	}
	if len(seen) != 2 {
		t.Errorf("with too few healthy targets only %v answered", seen)
	}
}

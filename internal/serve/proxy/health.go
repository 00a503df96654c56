package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// watch asks the target whether it is well until it is gone.
func (t *target) watch() {
	for {
		t.mu.Lock()
		check, wait := t.check, t.check.Interval
		skip := check.Disabled || !t.used || t.state == elbtypes.TargetHealthStateEnumDraining
		if t.proxy.Pace != model.PaceAWS && !t.seen {
			wait = min(wait, timeouts.ProxyProbe)
		}
		url := checkURL(t.conf, check)
		t.mu.Unlock()
		if !skip {
			t.judge(check, t.proxy.ask(t.ctx, url, check))
		}
		timer := time.NewTimer(max(wait, 100*time.Millisecond))
		select {
		case <-t.ctx.Done():
			timer.Stop()
			return
		case <-t.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func checkURL(t Target, check HealthCheck) string {
	port := int(t.Port)
	if check.Port != 0 {
		port = check.Port
	}
	return "http://" + net.JoinHostPort(t.Address, strconv.Itoa(port)) + check.Path
}

// verdict is what one check found; reason is "" when the target is well.
type verdict struct {
	reason elbtypes.TargetHealthReasonEnum
	text   string
}

// ask makes one check. The sentences are those of DescribeTargetHealth.
func (p *Proxy) ask(ctx context.Context, url string, check HealthCheck) verdict {
	ctx, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return verdict{elbtypes.TargetHealthReasonEnumFailedHealthChecks, "Health checks failed: " + err.Error()}
	}
	req.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	res, err := p.checker.RoundTrip(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || timeout(err):
		return verdict{elbtypes.TargetHealthReasonEnumTimeout, "Request timed out"}
	case err != nil:
		return verdict{elbtypes.TargetHealthReasonEnumFailedHealthChecks, "Health checks failed"}
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // the status has said it all
	res.Body.Close()
	if !codeFits(check.Codes, res.StatusCode) {
		return verdict{elbtypes.TargetHealthReasonEnumResponseCodeMismatch,
			fmt.Sprintf("Health checks failed with these codes: [%d]", res.StatusCode)}
	}
	return verdict{}
}

// codeFits reads "200", "200-299" and lists of them; "" means 200.
func codeFits(codes string, status int) bool {
	for part := range strings.SplitSeq(or(codes, "200"), ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		low, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		high := low
		if isRange {
			if high, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		if low <= status && status <= high {
			return true
		}
	}
	return false
}

// judge moves the state along the thresholds. What was found by a check that has been changed meanwhile does not count.
func (t *target) judge(check HealthCheck, v verdict) {
	t.mu.Lock()
	before := t.state
	if t.check == check && t.ctx.Err() == nil {
		switch {
		case !t.used || t.state == elbtypes.TargetHealthStateEnumDraining || t.state == elbtypes.TargetHealthStateEnumUnused:
		case v.reason == "":
			t.passed()
		default:
			t.failed(v)
		}
	}
	after := t.state
	t.mu.Unlock()
	if before != after {
		t.proxy.refresh(t.group)
	}
}

// passed notes a good check: a new target is healthy after one (ELB user guide, "Target health status"), a failed one after
// HealthyThreshold of them. At the fast pace a target that was slow to start need not prove itself for longer than one that was
// not. It needs the lock.
func (t *target) passed() {
	if t.state == elbtypes.TargetHealthStateEnumHealthy {
		t.streak = 0
		return
	}
	t.streak = max(t.streak, 0) + 1
	first := !t.seen && t.proxy.Pace != model.PaceAWS
	if t.state == elbtypes.TargetHealthStateEnumInitial || first || t.streak >= t.check.HealthyThreshold {
		t.seen = true
		t.become(elbtypes.TargetHealthStateEnumHealthy, "", "")
	}
}

// failed notes a bad check. At the fast pace a new target is asked more often than its owner wanted; that must not make it fail
// sooner, so it also has the time that UnhealthyThreshold checks would take at the interval. It needs the lock.
func (t *target) failed(v verdict) {
	if t.state == elbtypes.TargetHealthStateEnumUnhealthy {
		t.streak = 0
		t.become(elbtypes.TargetHealthStateEnumUnhealthy, v.reason, v.text)
		return
	}
	if t.streak = min(t.streak, 0) - 1; t.streak == -1 {
		t.failing = t.proxy.Now()
	}
	enough := -t.streak >= t.check.UnhealthyThreshold
	if enough && !t.seen && t.proxy.Pace != model.PaceAWS {
		enough = t.proxy.Now().Sub(t.failing) >= time.Duration(t.check.UnhealthyThreshold-1)*t.check.Interval
	}
	switch {
	case enough:
		t.become(elbtypes.TargetHealthStateEnumUnhealthy, v.reason, v.text)
	case t.state == elbtypes.TargetHealthStateEnumInitial:
		t.become(elbtypes.TargetHealthStateEnumInitial, elbtypes.TargetHealthReasonEnumInitialHealthChecking,
			"Initial health checks in progress")
	}
}

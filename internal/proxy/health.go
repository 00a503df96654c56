package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// probe is how often a target that was never healthy is asked at the fast pace.
const probe = time.Second

// watch asks the target whether it is well until stop is closed.
func (t *target) watch() {
	for {
		t.mu.Lock()
		check, wait := t.check, t.check.Interval
		skip := check.Disabled || !t.used || t.state == elbtypes.TargetHealthStateEnumDraining
		if t.proxy.Pace != model.PaceAWS && !t.seen {
			wait = min(wait, probe)
		}
		url := t.checkAddress()
		t.mu.Unlock()
		if !skip {
			t.judge(t.proxy.ask(url, check))
		}
		timer := time.NewTimer(max(wait, 100*time.Millisecond))
		select {
		case <-t.stop:
			timer.Stop()
			return
		case <-t.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// verdict is what one check found; reason is "" when the target is well.
type verdict struct {
	reason elbtypes.TargetHealthReasonEnum
	text   string
}

// ask makes one check. The sentences are those of DescribeTargetHealth.
func (p *Proxy) ask(url string, check HealthCheck) verdict {
	ctx, cancel := context.WithTimeout(context.Background(), check.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return verdict{elbtypes.TargetHealthReasonEnumFailedHealthChecks, "Health checks failed: " + err.Error()}
	}
	req.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	res, err := p.checker.RoundTrip(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return verdict{elbtypes.TargetHealthReasonEnumTimeout, "Request timed out"}
	case err != nil:
		return verdict{elbtypes.TargetHealthReasonEnumFailedHealthChecks, "Health checks failed"}
	}
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	res.Body.Close()
	if !codeFits(check.Codes, res.StatusCode) {
		return verdict{elbtypes.TargetHealthReasonEnumResponseCodeMismatch, fmt.Sprintf("Health checks failed with these codes: [%d]", res.StatusCode)}
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

// judge moves the state along the thresholds: a new target is healthy after one good check (ELB user guide, "Target health
// status"), a failed one after HealthyThreshold of them.
func (t *target) judge(v verdict) {
	t.mu.Lock()
	before := t.state
	well := v.reason == ""
	switch {
	case t.state == elbtypes.TargetHealthStateEnumDraining || t.state == elbtypes.TargetHealthStateEnumUnused || !t.used:
	case well && t.state == elbtypes.TargetHealthStateEnumHealthy:
		t.streak = 0
	case well:
		t.streak = max(t.streak, 0) + 1
		// At the fast pace a target that was slow to start need not prove itself for longer than one that was not.
		late := !t.seen && t.proxy.Pace != model.PaceAWS
		if t.state == elbtypes.TargetHealthStateEnumInitial || late || t.streak >= t.check.HealthyThreshold {
			t.seen = true
			t.become(elbtypes.TargetHealthStateEnumHealthy, "", "")
		}
	case t.state == elbtypes.TargetHealthStateEnumUnhealthy:
		t.streak = 0
		t.become(elbtypes.TargetHealthStateEnumUnhealthy, v.reason, v.text)
	default:
		t.streak = min(t.streak, 0) - 1
		if -t.streak >= t.check.UnhealthyThreshold {
			t.become(elbtypes.TargetHealthStateEnumUnhealthy, v.reason, v.text)
		}
	}
	after := t.state
	t.mu.Unlock()
	if before != after {
		t.proxy.refresh(t.group)
	}
}

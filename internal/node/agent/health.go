package agent

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// check is a container's health check with its defaults filled in.
type check struct {
	command     []string
	interval    time.Duration
	timeout     time.Duration
	retries     int
	startPeriod time.Duration
}

// checkOf reads a health check; false when there is none.
func checkOf(h *types.HealthCheck) (check, bool) {
	if h == nil || len(h.Command) == 0 {
		return check{}, false
	}
	k := check{
		command: h.Command, interval: timeouts.HealthInterval, timeout: timeouts.HealthTimeout, retries: 3,
		startPeriod: time.Duration(deref(h.StartPeriod)) * time.Second,
	}
	if h.Interval != nil {
		k.interval = time.Duration(*h.Interval) * time.Second
	}
	if h.Timeout != nil {
		k.timeout = time.Duration(*h.Timeout) * time.Second
	}
	if h.Retries != nil {
		k.retries = int(*h.Retries)
	}
	switch h.Command[0] {
	case "NONE":
		return check{}, false
	case "CMD":
		k.command = h.Command[1:]
	case "CMD-SHELL":
		k.command = append([]string{"/bin/sh", "-c"}, h.Command[1:]...)
	}
	return k, len(k.command) > 0
}

// probing is how a container's health comes from its probes.
type probing struct {
	check    check
	started  time.Time // of the container
	eager    bool      // probe each second until the first success or the first interval has passed
	health   types.HealthStatus
	failures int
	next     time.Time // when the next probe is due that counts
}

// begin sets when probes are due. The first that counts is one interval after the container's start.
func (p *probing) begin(now time.Time) {
	p.next = p.started.Add(p.check.interval)
	for p.next.Before(now) { // an agent that took over keeps the rhythm
		p.next = p.next.Add(p.check.interval)
	}
}

// wait is how long after now the next probe is due.
func (p *probing) wait(now time.Time) time.Duration {
	due := p.next
	if p.eager && p.health != types.HealthStatusHealthy {
		if soon := now.Add(timeouts.HealthFirst); soon.Before(due) {
			due = soon
		}
	}
	return max(due.Sub(now), 0)
}

// took takes the outcome of a probe that began at the time at. A success makes the container HEALTHY at once, also in its start
// period. A failure counts when it was due (an eager probe's does not) and the start period has passed.
func (p *probing) took(at time.Time, ok bool) types.HealthStatus {
	counts := !at.Before(p.next)
	for !p.next.After(at) {
		p.next = p.next.Add(p.check.interval)
	}
	if ok {
		p.failures, p.health = 0, types.HealthStatusHealthy
		return p.health
	}
	starting := p.health != types.HealthStatusHealthy && at.Sub(p.started) < p.check.startPeriod
	if counts && !starting {
		if p.failures++; p.failures >= p.check.retries {
			p.health = types.HealthStatusUnhealthy
		}
	}
	return p.health
}

// probe begins to check the container's health, until it ends or is asked to.
func (t *task) probe(c *container) {
	k, ok := checkOf(c.def.HealthCheck)
	if !ok || c.stopProbes != nil {
		return
	}
	ctx, cancel := context.WithCancel(t.ctx)
	c.stopProbes = cancel
	cfg := &t.agent.cfg
	p := &probing{check: k, started: c.obs.StartedAt, eager: cfg.Pace != model.PaceAWS, health: c.obs.Health}
	t.ops.Go(func() {
		now := cfg.Now()
		p.begin(now)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(p.wait(now)):
			}
			at := cfg.Now()
			ok := t.exec(ctx, c.id, k)
			if ctx.Err() != nil {
				return
			}
			health := p.took(at, ok)
			t.post(func() {
				if c.phase == running && ctx.Err() == nil {
					c.obs.Health = health
				}
			})
			now = cfg.Now()
		}
	})
}

// exec runs one probe; anything but exit code 0 in time is a failure.
func (t *task) exec(ctx context.Context, id string, k check) bool {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	exit, output, err := t.agent.cfg.Runtime.Exec(ctx, id, k.command)
	if err != nil || exit != 0 {
		t.log.Debug("health check failed", "container", id, "exit", exit, "output", output, "error", err)
		return false
	}
	return true
}

// health is the task's: that of its essential containers with a health check. One UNHEALTHY makes it so; all must be HEALTHY.
func (t *task) health() types.HealthStatus {
	health := types.HealthStatusUnknown
	for _, c := range t.containers {
		if _, has := checkOf(c.def.HealthCheck); !has || !c.essential() {
			continue
		}
		switch c.obs.Health {
		case types.HealthStatusUnhealthy:
			return types.HealthStatusUnhealthy
		case types.HealthStatusHealthy:
			health = types.HealthStatusHealthy
		default:
			return types.HealthStatusUnknown
		}
	}
	return health
}

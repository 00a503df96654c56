package agent

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

const (
	oomReason = "OutOfMemoryError: Container killed due to memory usage"
	// essentialExited is the stoppedReason of a task that ended because a container did.
	essentialExited = "Essential container in task exited"
)

// watch begins what goes on while a container runs.
func (t *task) watch(c *container) {
	if !t.ending {
		t.armStartTimeout(c)
		t.probe(c)
	}
}

// observe takes what the runtime says of a container; only an exit means anything.
func (t *task) observe(s ContainerState) {
	for _, c := range t.containers {
		if c.id != s.ID || s.Status != ContainerExited {
			continue
		}
		if s.Run != c.rec.Run && s.Run != "" && c.rec.Run != "" {
			continue // of an earlier run
		}
		switch c.phase {
		case starting:
			c.early = &s
		case running:
			reason := ""
			if s.OOMKilled {
				reason = oomReason
			}
			t.exit(c, s, reason)
		}
	}
}

// compare repairs what events missed: states is everything that the runtime held of the task in the agent's list of that number.
func (t *task) compare(list int64, states []ContainerState) {
	seen, silent := map[string]bool{}, map[string]bool{}
	for _, s := range states {
		seen[s.ID], silent[s.ID] = true, s.Silent
		t.observe(s)
	}
	for _, c := range t.containers {
		c.obs.Silent = c.phase == running && silent[c.id]
		if c.phase == running && !seen[c.id] && c.listed < list {
			t.exit(c, ContainerState{ID: c.id, Status: ContainerExited}, lostReason)
		}
	}
}

// exit notes that the container's process has ended. A state without a time is of a container that is gone: its exit code is
// not known.
func (t *task) exit(c *container, s ContainerState, reason string) {
	known := !s.FinishedAt.IsZero()
	if !known {
		s.FinishedAt = t.agent.cfg.Now()
	}
	if s.FinishedAt.Before(c.obs.StartedAt) { // it ended before Start had returned
		s.FinishedAt = c.obs.StartedAt
	}
	c.phase = exited
	c.obs.FinishedAt, c.obs.Reason, c.obs.Silent = s.FinishedAt, reason, false
	if known || reason != lostReason {
		c.obs.ExitCode = new(s.ExitCode)
	}
	t.log.Info("container ended", "container", c.name(), "exitCode", s.ExitCode, "reason", reason)
	if c.stopProbes != nil {
		c.stopProbes()
		c.stopProbes = nil
	}
	if t.restarts(c, s) {
		return
	}
	c.obs.Status = model.Stopped
	if c.essential() || t.every(exited) {
		if t.obs.ExecutionStoppedAt.IsZero() {
			t.obs.ExecutionStoppedAt = s.FinishedAt
		}
		t.end(types.TaskStopCodeEssentialContainerExited, essentialExited)
	}
}

// restarts sends the container back to its start when its restart policy says so: the exit code is not an ignored one, and it
// has run for the policy's period, so that it is restarted at most once in each.
func (t *task) restarts(c *container, s ContainerState) bool {
	p := c.def.RestartPolicy
	if t.ending || t.as.Stop || p == nil || !deref(p.Enabled) || reasonLost(c) {
		return false
	}
	for _, code := range p.IgnoredExitCodes {
		if code == s.ExitCode {
			return false
		}
	}
	period := timeouts.RestartPeriod
	if p.RestartAttemptPeriod != nil {
		period = time.Duration(*p.RestartAttemptPeriod) * time.Second
	}
	ran := s.FinishedAt.Sub(c.obs.StartedAt)
	if !c.startedFrom.IsZero() { // which the machine's clock does not change
		ran = t.agent.cfg.Now().Sub(c.startedFrom)
	}
	if ran < period {
		return false
	}
	c.rec.Restarts++
	c.phase, c.obs.Health = waiting, types.HealthStatusUnknown
	if c.rec.Image.Ref == "" {
		c.pulled = false
	}
	t.log.Info("container restarts by its policy", "container", c.name(), "restarts", c.rec.Restarts)
	return true
}

func reasonLost(c *container) bool { return c.obs.Reason == lostReason }

// finishLogs carries the container's last lines away. It waits for a moment; what is left follows in the background. It comes
// after the container's deletion: until then the shim may still be copying output into the files.
func (t *task) finishLogs(c *container) {
	if c.logs == todo || c.finish != todo {
		return
	}
	c.finish = busy
	carry := func(wait time.Duration, then func(error)) {
		t.async(t.ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			return t.agent.cfg.Logs.Finish(ctx, c.id)
		}, then)
	}
	carry(timeouts.LogDrain, func(err error) {
		c.finish = done
		if err == nil {
			return
		}
		c.shipping = true
		carry(timeouts.LogDrainLater, func(err error) {
			c.shipping = false
			if err != nil {
				t.log.Warn("the last lines of a log could not be carried and are lost", "container", c.name(), "error", err)
			}
		})
	})
}

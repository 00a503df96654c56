package agent

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/uuid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// stepUp takes the task as far towards RUNNING as it can go now. What does not depend on each other runs side by side: the
// network, each image, each log.
func (t *task) stepUp() {
	if !t.begun {
		t.begun = true
		if err := refuse(t.as.Task, t.def, t.containers); err != nil {
			t.failed(err)
			return
		}
		if err := t.takeGPUs(); err != nil {
			t.failed(err)
			return
		}
		if err := t.agent.refuseEFS(t.def); err != nil {
			t.failed(err)
			return
		}
		if t.obs.ConnectivityAt.IsZero() {
			t.obs.ConnectivityAt = t.agent.cfg.Now()
		}
	}
	t.connect()
	t.fetchHandout()
	for _, c := range t.containers {
		t.pull(c)
		t.openLogs(c, false)
	}
	if t.mode != types.NetworkModeAwsvpc || t.network == done {
		t.raise(model.Pending)
	}
	for _, c := range t.containers {
		t.create(c)
		t.start(c)
		if t.ending {
			return
		}
	}
	t.checkRunning()
}

// pull brings the container's image to the machine.
func (t *task) pull(c *container) {
	if c.pulling || c.pulled || c.phase != waiting || loginSecret(&c.def) && t.handing != done {
		return
	}
	c.pulling = true
	if t.obs.PullStartedAt.IsZero() {
		t.obs.PullStartedAt = t.agent.cfg.Now()
	}
	var image Image
	login := t.given(c).Registry
	t.async(t.starts, func(ctx context.Context) (err error) {
		image, err = t.agent.pulls.get(ctx, deref(c.def.Image), login)
		return err
	}, func(err error) {
		c.pulling = false
		if t.ending {
			return
		}
		if err != nil {
			t.obs.PullStoppedAt = t.agent.cfg.Now()
			t.startFailed(c, asError(err, "CannotPullContainerError", "pull "+deref(c.def.Image)))
			return
		}
		c.pulled, c.rec.Image, c.obs.ImageDigest = true, image, image.Digest
		for _, other := range t.containers {
			if !other.pulled && other.phase == waiting {
				return
			}
		}
		t.obs.PullStoppedAt = t.agent.cfg.Now()
	})
}

// openLogs makes the container's log ready. again: it was open before this agent started.
func (t *task) openLogs(c *container, again bool) {
	if c.logs != todo || !again && (c.phase != waiting || logSecrets(&c.def) && t.handing != done) {
		return
	}
	c.logs = busy
	spec := LogSpec{ID: c.id, TaskID: t.id, Container: c.name(), Dir: t.logDir(c), Config: t.logConfig(c), Resume: again, Firelens: t.firelens(c)}
	var files LogFiles
	ctx := t.starts
	if again {
		ctx = t.ctx
	}
	t.async(ctx, func(ctx context.Context) (err error) {
		files, err = t.agent.cfg.Logs.Open(ctx, spec)
		return err
	}, func(err error) {
		c.logs, c.logFiles = done, files
		switch {
		case err == nil || t.ending && errors.Is(err, context.Canceled):
		case again:
			t.log.Warn("the container's log cannot be carried on", "container", c.name(), "error", err)
		default:
			t.startFailed(c, asError(err, "ResourceInitializationError", "open the log of container "+c.name()))
		}
	})
}

// create makes the container as soon as its image, network and log are there and its dependencies allow it. The first of a
// task is made alone, because it also makes what the task's containers share.
func (t *task) create(c *container) {
	if c.phase != waiting || !c.pulled || c.logs != done || !t.hasHandout(c) || !t.connected(c) || t.otherIsFirst(c) {
		return
	}
	ready, err := t.dependencies(c, true)
	if err != nil {
		t.startFailed(c, err)
	}
	if err != nil || !ready {
		return
	}
	again := c.made
	c.phase, c.made, c.rec.Run = creating, true, uuid.NewString()
	plan := t.plan(c)
	t.async(t.ctx, func(ctx context.Context) error {
		if err := plan.prepare(); err != nil {
			return err
		}
		return attempt(ctx, func() error {
			if again {
				if err := t.agent.cfg.Runtime.Delete(ctx, c.id); err != nil {
					return err
				}
				again = false
			}
			return t.agent.cfg.Runtime.Create(ctx, plan.spec)
		})
	}, func(err error) {
		c.phase = created
		if err != nil && t.startAgain(c, err) {
			return
		}
		if err != nil {
			t.startFailed(c, asError(err, "CannotCreateContainerError", "create container "+c.name()))
			return
		}
		c.obs.RuntimeID = c.id
	})
}

// otherIsFirst tells whether the task's first container is being made and it is not c.
func (t *task) otherIsFirst(c *container) bool {
	underWay := false
	for _, other := range t.containers {
		if other.phase > creating && other.made {
			return false
		}
		underWay = underWay || other != c && other.phase == creating
	}
	return underWay
}

// start starts the container's process when its dependencies allow it.
func (t *task) start(c *container) {
	if c.phase != created {
		return
	}
	ready, err := t.dependencies(c, false)
	if err != nil {
		t.startFailed(c, err)
	}
	if err != nil || !ready {
		return
	}
	c.phase, c.startedFrom, c.listed = starting, t.agent.cfg.Now(), t.agent.lists.Load()
	t.async(t.ctx, func(ctx context.Context) error {
		return attempt(ctx, func() error { return t.agent.cfg.Runtime.Start(ctx, c.id) })
	}, func(err error) {
		if err != nil && t.startAgain(c, err) {
			return
		}
		if err != nil {
			t.startFailed(c, asError(err, "CannotStartContainerError", "start container "+c.name()))
			return
		}
		t.started(c)
	})
}

// started notes that the container's process runs.
func (t *task) started(c *container) {
	c.phase, c.ran = running, true
	c.obs.Status, c.obs.ExitCode, c.obs.Reason = model.Running, nil, ""
	c.obs.StartedAt, c.obs.FinishedAt = t.agent.cfg.Now(), time.Time{}
	t.checkRunning()
	if early := c.early; early != nil {
		c.early = nil
		t.observe(*early)
		return
	}
	t.watch(c)
}

// checkRunning lifts the task to RUNNING when each of its containers has started, whether or not it has ended since.
func (t *task) checkRunning() {
	if t.ending {
		return
	}
	for _, c := range t.containers {
		if c.phase < running && !c.ran {
			return
		}
	}
	if t.obs.StartedAt.IsZero() {
		t.obs.StartedAt = t.agent.cfg.Now()
		t.log.Info("task runs")
	}
	t.raise(model.Running)
}

// startFailed gives up a container that cannot start, and with an essential one the task.
func (t *task) startFailed(c *container, err *Error) {
	t.log.Info("container cannot start", "container", c.name(), "error", err)
	c.phase = exited
	c.obs.Status, c.obs.Reason = model.Stopped, err.Error()
	if c.essential() || t.every(exited) {
		t.failed(err)
	}
}

// startAgain makes a container anew whose creation or start failed in a task that an earlier agent began: what the runtime was
// doing for that agent may still be going on, and what it then cleans up may be the new container's. Six times at most, over 16 s:
// an interrupted start of a shim takes containerd up to 10 s to give up.
func (t *task) startAgain(c *container, err error) bool {
	if !t.inherited || t.ending || c.tries == 6 {
		return false
	}
	c.tries++
	t.log.Warn("container cannot start after a restart of Berth; making it anew", "container", c.name(), "error", err)
	c.phase = creating
	t.after(125*time.Millisecond<<c.tries, func() { c.phase = waiting })
	return true
}

// attempt repeats op while it fails for reasons that may pass (the runtime restarts), for some seconds. An *Error is final.
func attempt(ctx context.Context, op func() error) error {
	delay := 100 * time.Millisecond
	for {
		err := op()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if _, final := errors.AsType[*Error](err); final || delay > timeouts.AttemptLast {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(delay):
		}
		delay *= 2
	}
}

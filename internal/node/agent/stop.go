package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// stepDown takes the task as far towards STOPPED as it can go now.
func (t *task) stepDown() {
	t.raise(model.Stopping)
	for _, c := range t.containers {
		switch c.phase {
		case waiting, created:
			c.phase, c.obs.Status = exited, model.Stopped
		case running:
			if t.dependentsGone(c) {
				t.signal(c)
			}
		}
	}
	if t.every(exited) && !t.starting() {
		t.letGo()
	}
}

// starting tells whether some step of the start is still under way; it ends soon, because its context has.
func (t *task) starting() bool {
	return t.network == busy || slices.ContainsFunc(t.containers, func(c *container) bool {
		return c.network == busy || c.logs == busy || c.pulling
	})
}

// signal asks the container to end, and arms its stopTimeout. An agent that took over asks again: whether its predecessor's
// signal was sent is not known.
func (t *task) signal(c *container) {
	if c.signaled {
		return
	}
	c.signaled = true
	if c.rec.StopAt.IsZero() {
		c.rec.StopAt, t.dirty = t.agent.cfg.Now(), true
	}
	if c.stopProbes != nil {
		c.stopProbes()
		c.stopProbes = nil
	}
	t.send(c, stopSignal(c.rec.Image.StopSignal))
	waited := max(t.agent.cfg.Now().Sub(c.rec.StopAt), 0) // a clock that was set back does not lengthen it
	t.after(c.stopTimeout()-waited, func() { t.kill(c) })
}

// kill ends the container, until it has ended.
func (t *task) kill(c *container) {
	if c.phase != running {
		return
	}
	t.log.Info("container did not end within its stopTimeout; killing it", "container", c.name(), "stopTimeout", c.stopTimeout())
	t.send(c, syscall.SIGKILL)
	t.after(timeouts.KillAgain, func() { t.kill(c) })
}

// stuck gives up a container whose processes the kernel does not end: its task goes on without it, as on ECS. The release deletes
// it when they have ended.
func (t *task) stuck(c *container, err *Error) {
	if c.phase != running || !t.ending {
		return
	}
	t.log.Error("container cannot be stopped; its task goes on without it", "container", c.name(), "error", err)
	c.phase = exited
	c.obs.Status, c.obs.Reason, c.obs.Silent = model.Stopped, err.Error(), false
}

func (t *task) send(c *container, sig syscall.Signal) {
	t.async(t.ctx, func(ctx context.Context) error {
		return attempt(ctx, func() error { return t.agent.cfg.Runtime.Signal(ctx, c.id, sig) })
	}, func(err error) {
		if final, ok := errors.AsType[*Error](err); ok && sig == syscall.SIGKILL {
			t.stuck(c, final)
			return
		}
		if err != nil {
			t.log.Warn("container cannot be signalled", "container", c.name(), "signal", sig, "error", err)
		}
	})
}

// letGo releases what the task holds and then ends it. Everything is tried until it succeeds.
func (t *task) letGo() {
	if t.release == todo {
		t.noteEnd()
		if !t.recorded() {
			return // what the runtime knows of the end is deleted with the container
		}
		t.release = busy
		overdue := t.after(timeouts.ReleaseWait, func() { t.overdue = true })
		held := t.held()
		t.async(t.ctx, held.free, func(error) {
			overdue.Stop()
			t.release = done
			t.leaveGPUs()
		})
	}
	if t.release == busy && !t.overdue {
		return
	}
	for _, c := range t.containers {
		t.finishLogs(c)
	}
	if t.obs.Status == model.Stopped || slices.ContainsFunc(t.containers, func(c *container) bool { return c.finish == busy }) {
		return
	}
	if t.obs.Interface != nil {
		t.obs.Interface.Status = "DELETED"
	}
	t.raise(model.Stopped)
	t.obs.StoppedAt = t.agent.cfg.Now()
	t.log.Info("task stopped", "code", t.obs.StopCode, "reason", t.obs.StoppedReason)
}

// recorded tells whether the record on the disk is of what is observed now.
func (t *task) recorded() bool {
	return !t.saving && !t.dirty && t.obs.Seq == t.last.Seq && reflect.DeepEqual(*t.obs, t.last)
}

// noteEnd notes when the last container ended, and that the task's interface goes.
func (t *task) noteEnd() {
	if t.obs.ExecutionStoppedAt.IsZero() {
		for _, c := range t.containers {
			if c.ran && c.obs.FinishedAt.After(t.obs.ExecutionStoppedAt) {
				t.obs.ExecutionStoppedAt = c.obs.FinishedAt
			}
		}
	}
	if t.mode == types.NetworkModeAwsvpc {
		t.raise(model.Deprovisioning)
	}
}

// holding is what a task may hold of the machine.
type holding struct {
	agent      *Agent
	containers []string // runtime ids, in the order in which they are deleted
	networks   []string
	folders    []string
}

func (t *task) held() holding {
	h := holding{agent: t.agent, folders: []string{t.filesDir(), filepath.Join(t.dir, "volumes")}}
	for _, c := range slices.Backward(t.containers) {
		if c.made {
			h.containers = append(h.containers, c.id)
		}
		if perContainer(t.mode) {
			h.networks = append(h.networks, c.id)
		}
	}
	if t.mode == types.NetworkModeAwsvpc {
		h.networks = append(h.networks, t.id)
	}
	return h
}

// free gives everything back, in the order containers, networks, folders. It returns early only when ctx ends. A container whose
// processes do not end holds up neither the others nor the networks.
func (h holding) free(ctx context.Context) error {
	rt, network := h.agent.cfg.Runtime, h.agent.cfg.Network
	var stuck []string
	for _, id := range h.containers {
		err := h.insist(ctx, "container "+id, timeouts.ReleaseRetry, func() error {
			err := rt.Delete(ctx, id)
			if final, ok := errors.AsType[*Error](err); ok && final.Name == "CannotStopContainerError" {
				h.agent.cfg.Log.Error("a container cannot be removed; trying again later", "container", id, "error", err)
				stuck = append(stuck, id)
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, id := range h.networks {
		if err := h.insist(ctx, "network "+id, timeouts.ReleaseRetry, func() error { return network.Teardown(ctx, id) }); err != nil {
			return err
		}
	}
	for _, id := range stuck {
		if err := h.insist(ctx, "container "+id, timeouts.StuckRetry, func() error { return rt.Delete(ctx, id) }); err != nil {
			return err
		}
	}
	for _, dir := range h.folders {
		if err := h.insist(ctx, "folder "+dir, timeouts.ReleaseRetry, func() error { return removeFilesDir(dir) }); err != nil {
			return err
		}
	}
	return nil
}

// insist repeats op until it succeeds or ctx ends; longest bounds the growing pauses.
func (h holding) insist(ctx context.Context, what string, longest time.Duration, op func() error) error {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, longest) {
		err := op()
		if err == nil {
			return nil
		}
		h.agent.cfg.Log.Warn("cannot be released; trying again", "what", what, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
}

// erase deletes the task's folder. Logs of the json-file driver stay for Config.KeepLogs, and with them the record that tells
// their age.
func (t *task) erase() {
	var err error
	for _, c := range t.containers {
		if c.ran && keepsLogs(c.def.LogConfiguration) {
			t.rec.LogsKept = true
		} else {
			err = errors.Join(err, os.RemoveAll(t.logDir(c)))
		}
	}
	if t.rec.LogsKept {
		err = errors.Join(err, t.rec.save(t.dir), os.RemoveAll(filepath.Join(t.dir, assignmentFile)))
	} else {
		err = errors.Join(err, os.RemoveAll(t.dir))
	}
	if err != nil {
		t.log.Warn("the task's folder cannot be deleted; trying again later", "error", err)
	}
}

// keepsLogs tells whether a container's log is on this machine only.
func keepsLogs(l *types.LogConfiguration) bool {
	return l == nil || l.LogDriver == types.LogDriverJsonFile
}

func (t *task) logDir(c *container) string { return filepath.Join(t.dir, "logs", c.name()) }

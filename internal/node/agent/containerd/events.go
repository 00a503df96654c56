package containerd

import (
	"context"
	"fmt"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/recovery/note"
	"github.com/berthdev/berth/internal/timeouts"
)

// watch follows containerd's exit events until ctx ends, across its restarts, and then closes the channel of exits.
func (r *Runtime) watch(ctx context.Context) {
	defer close(r.exits)
	for pause := firstResubscribe; ctx.Err() == nil; pause = min(2*pause, lastResubscribe) {
		since := time.Now()
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(since) > timeouts.Resubscribe {
			pause = firstResubscribe
		}
		r.log.Debug("containerd's events are interrupted; subscribing again", "error", err, "in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

const (
	firstResubscribe = 20 * time.Millisecond
	lastResubscribe  = 300 * time.Millisecond
)

// catchUps are when, after subscribing, the list is searched for exits that happened while nobody was subscribed. containerd
// does not say when a subscription has begun, so it is done early and again when it surely has.
var catchUps = []time.Duration{50 * time.Millisecond, 700 * time.Millisecond, timeouts.CatchUpLast}

func (r *Runtime) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	envelopes, errs := r.client.EventService().Subscribe(ctx, fmt.Sprintf(`topic=="/tasks/exit",namespace==%q`, r.c.Namespace))
	begun, next := time.Now(), 0
	timer := time.NewTimer(catchUps[0])
	defer timer.Stop()
	for {
		select {
		case err := <-errs:
			return err
		case <-timer.C:
			r.catchUp(ctx)
			if next++; next < len(catchUps) {
				timer.Reset(time.Until(begun.Add(catchUps[next])))
			}
		case e := <-envelopes:
			r.exited(ctx, e)
		}
	}
}

// exited sends on the end of a container's first process.
func (r *Runtime) exited(ctx context.Context, e *events.Envelope) {
	if e == nil || e.Event == nil {
		return
	}
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		r.log.Warn("an event of containerd cannot be read", "topic", e.Topic, "error", err)
		return
	}
	exit, ok := v.(*apievents.TaskExit)
	if !ok || exit.ID != exit.ContainerID { // a health check's process
		return
	}
	l, err := r.labelsOf(ctx, exit.ContainerID)
	if err != nil || l.taskID == "" { // already deleted, or a step of a build
		return
	}
	if r.stale(ctx, exit) {
		return
	}
	r.send(agent.ContainerState{ID: exit.ContainerID, TaskID: l.taskID, Name: l.name, Run: l.run, Labels: l.own, Status: agent.ContainerExited,
		ExitCode: int32(exit.ExitStatus), FinishedAt: exit.ExitedAt.AsTime(),
		OOMKilled: r.oomKilled(l.taskID, exit.ContainerID, int32(exit.ExitStatus))})
}

// stale tells whether the process that ended is of a container that was deleted before it was started, perhaps to be made anew.
func (r *Runtime) stale(ctx context.Context, exit *apievents.TaskExit) bool {
	if _, begun := note.Read(r.note(exit.ContainerID)); !begun {
		return true
	}
	p, err := r.process(ctx, exit.ContainerID)
	return err == nil && p.Pid != exit.Pid
}

// catchUp sends the exits in the list that were not sent yet.
func (r *Runtime) catchUp(ctx context.Context) {
	all, err := r.List(ctx)
	if err != nil {
		return
	}
	for _, s := range all {
		if _, begun := note.Read(r.note(s.ID)); s.Status == agent.ContainerExited && begun && !r.told(s.ID) {
			r.send(s)
		}
	}
}

// told tells whether the exit of a container was passed on by this Runtime.
func (r *Runtime) told(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended[id]
}

// send notes an exit and passes it on.
func (r *Runtime) send(s agent.ContainerState) {
	r.mu.Lock()
	if _, known := r.labels[s.ID]; known { // else it is deleted already
		r.ended[s.ID] = true
	}
	r.mu.Unlock()
	n := note.Note{ExitCode: s.ExitCode, FinishedAt: s.FinishedAt, OOMKilled: s.OOMKilled}
	if err := note.End(r.note(s.ID), n); err != nil {
		r.log.Warn("the end of a container cannot be noted", "container", s.ID, "error", err)
	}
	select {
	case r.exits <- s:
	default: // nobody listens; List tells the same
		r.log.Warn("an exit was not taken; it will be found by listing", "container", s.ID)
	}
}

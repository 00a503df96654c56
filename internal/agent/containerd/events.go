package containerd

import (
	"context"
	"fmt"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"

	"github.com/berthdev/berth/internal/agent"
)

// watch follows containerd's exit events until ctx ends, across its restarts, and then closes the channel of exits.
func (r *Runtime) watch(ctx context.Context) {
	defer close(r.exits)
	pause := 20 * time.Millisecond
	for ctx.Err() == nil {
		since := time.Now()
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(since) > 10*time.Second {
			pause = 20 * time.Millisecond
		}
		r.log.Debug("containerd's events are interrupted; subscribing again", "error", err, "in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

func (r *Runtime) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	envelopes, errs := r.client.EventService().Subscribe(ctx, fmt.Sprintf(`topic=="/tasks/exit",namespace==%q`, r.c.Namespace))
	for {
		select {
		case err := <-errs:
			return err
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
	s := agent.ContainerState{ID: exit.ContainerID, TaskID: l.taskID, Name: l.name, Labels: l.own, Status: agent.ContainerExited,
		ExitCode: int32(exit.ExitStatus), FinishedAt: exit.ExitedAt.AsTime()}
	s.OOMKilled = r.oomKilled(s.TaskID, s.ID, s.ExitCode)
	n := noted{Exited: true, ExitCode: s.ExitCode, FinishedAt: s.FinishedAt, OOMKilled: s.OOMKilled}
	if _, begun := r.notes(s.ID).read(); begun { // else it was deleted while this ran
		if err := r.notes(s.ID).exited(n); err != nil {
			r.log.Warn("the end of a container cannot be noted", "container", s.ID, "error", err)
		}
	}
	select {
	case r.exits <- s:
	default: // nobody listens; List tells the same
		r.log.Warn("an exit was not taken; it will be found by listing", "container", s.ID)
	}
}

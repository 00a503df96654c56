package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// Gauge is what a Runtime may be besides: it measures a task as a whole without asking anybody but the kernel. Of one that is none the
// containers are measured one by one.
type Gauge interface {
	// TaskUse is what the containers, given by their runtime ids, and those before them in the task used.
	TaskUse(taskID string, containers []string) (TaskUse, error)
}

// TaskUse is what a task has used since its start, and the memory that it uses now.
type TaskUse struct {
	CPU                    time.Duration
	Memory, Received, Sent uint64 // bytes; Memory without caches that can be dropped
}

// Meter tells what the tasks used since it was asked last. It is used by one goroutine.
type Meter struct {
	a    *Agent
	last map[string]reading
}

type reading struct {
	at time.Time
	TaskUse
}

// NewMeter makes a Meter of the agent's tasks.
func (a *Agent) NewMeter() *Meter { return &Meter{a: a, last: map[string]reading{}} }

// Tasks tells how many tasks were measured the last time.
func (m *Meter) Tasks() int { return len(m.last) }

// Take measures. A task that is measured for the first time, or whose counters went back, is told of the next time.
func (m *Meter) Take(ctx context.Context) (out model.Usage) {
	m.a.mu.Lock()
	var views []*View
	for _, t := range m.a.tasks {
		if v := t.view.Load(); v != nil {
			views = append(views, v)
		}
	}
	m.a.mu.Unlock()
	slices.SortFunc(views, func(a, b *View) int { return strings.Compare(a.Task.ID, b.Task.ID) })
	now := make(map[string]reading, len(views))
	for _, v := range views {
		var running []string
		for _, c := range v.Observed.Containers {
			if c.RuntimeID != "" && c.Status == model.Running {
				running = append(running, c.RuntimeID)
			}
		}
		if len(running) == 0 {
			continue
		}
		r := reading{at: m.a.cfg.Now()}
		var err error
		if r.TaskUse, err = m.use(ctx, v.Task.ID, running); err != nil {
			continue
		}
		now[v.Task.ID] = r
		old, known := m.last[v.Task.ID]
		over := r.at.Sub(old.at)
		if !known || over <= 0 || r.CPU < old.CPU {
			continue
		}
		u := model.TaskUsage{TaskID: v.Task.ID, Over: over, CPU: r.CPU - old.CPU, Memory: r.Memory}
		if r.Received >= old.Received && r.Sent >= old.Sent { // a container of its own network may have begun anew
			u.Received, u.Sent = r.Received-old.Received, r.Sent-old.Sent
		}
		out.Tasks = append(out.Tasks, u)
	}
	m.last = now
	return out
}

func (m *Meter) use(ctx context.Context, task string, containers []string) (sum TaskUse, err error) {
	if g, ok := m.a.cfg.Runtime.(Gauge); ok {
		return g.TaskUse(task, containers)
	}
	for i, id := range containers {
		u, err := m.a.cfg.Runtime.Usage(ctx, id)
		if err != nil {
			return sum, err
		}
		sum.CPU += u.CPU.Total
		sum.Memory += u.Memory.Working()
		if i > 0 && m.a.sharesNetwork(task) {
			continue
		}
		for _, n := range u.Networks {
			sum.Received += n.Received.Bytes
			sum.Sent += n.Sent.Bytes
		}
	}
	return sum, nil
}

// sharesNetwork tells whether the containers of a task have one network.
func (a *Agent) sharesNetwork(task string) bool {
	a.mu.Lock()
	t := a.tasks[task]
	a.mu.Unlock()
	return t != nil && t.as.Task.NetworkMode == "awsvpc"
}

package fake

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
)

// maxLines and maxContainers bound what is kept: the oldest lines of a container and the oldest containers go first.
const (
	maxLines      = 1000
	maxContainers = 1000
)

// Logs keeps containers' lines in memory, by runtime id, and uses no file. It accepts every log driver.
type Logs struct {
	faults
	now func() time.Time

	mu    sync.Mutex
	specs map[string]agent.LogSpec
	lines map[string][]agent.LogEvent
	order []string // of lines' containers, oldest first
}

func newLogs(now func() time.Time) *Logs {
	return &Logs{now: now, specs: map[string]agent.LogSpec{}, lines: map[string][]agent.LogEvent{}}
}

// Open implements agent.Logs.
func (l *Logs) Open(ctx context.Context, spec agent.LogSpec) (agent.LogFiles, error) {
	if err := l.take("Open"); err != nil {
		return agent.LogFiles{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.specs[spec.ID] = spec
	return agent.LogFiles{}, ctx.Err()
}

// Finish implements agent.Logs.
func (l *Logs) Finish(ctx context.Context, id string) error {
	if err := l.take("Finish"); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.specs, id)
	return ctx.Err()
}

// Lines are a container's lines, oldest first.
func (l *Logs) Lines(id string) []agent.LogEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[id])
}

func (l *Logs) line(id, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.specs[id].ID == "" {
		return // a container that runs without an agent's log, or after its log's end
	}
	if _, known := l.lines[id]; !known {
		if l.order = append(l.order, id); len(l.order) > maxContainers {
			delete(l.lines, l.order[0])
			l.order = l.order[1:]
		}
	}
	lines := append(l.lines[id], agent.LogEvent{At: l.now(), Message: text})
	l.lines[id] = lines[max(0, len(lines)-maxLines):]
}

package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/timeouts"
)

// downReason is the stoppedReason of tasks that `berth down` ended.
const downReason = "berth down stopped the tasks of this machine."

// stopTasks ends every task that this machine was told to run, as a StopTask would: the stop signal, the containers' stopTimeouts,
// SIGKILL, those that others depend on last; all tasks side by side. It returns the names of those that have not ended when the
// longest of their stopTimeouts is well over. Interrupted, it may be repeated: a stopTimeout goes on where it was.
func (in *Instance) stopTasks(ctx context.Context, rt agent.Runtime, out io.Writer, log *slog.Logger) (left []string, err error) {
	var set, open []model.Assignment // the agent gets those too that have ended, so that it keeps what it knows of them
	patience := time.Duration(0)
	for _, as := range agent.Remembered(in.Path("tasks"), log) {
		as.Stop = true
		if set = append(set, as.Assignment); !as.Ended() {
			open, patience = append(open, as.Assignment), max(patience, model.StopTime(&as.Definition, timeouts.StopDefault, timeouts.StopLongest))
		}
	}
	if len(open) == 0 {
		return nil, nil
	}
	w := newDownWatch(open, out)
	a := agent.New(agent.Config{Runtime: rt, Network: noNetwork{}, Logs: noLogs{}, StateDir: in.Path("tasks"), VolumeDir: in.Path("volumes"),
		RunDir: filepath.Join(in.RunDir(), "files"), Region: in.Region, Pace: in.Pace, Report: w.report, Log: log,
		StopCode: types.TaskStopCodeTerminationNotice, StopReason: downReason})
	a.SetAssignments(set)
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running) }()
	w.wait(ctx, patience+timeouts.DownMargin)
	cancel()
	if err := <-ended; err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("interrupted while tasks were being stopped; berth down goes on with it, berth down --now kills them: %w", ctx.Err())
	}
	return w.left(), nil
}

// downWatch follows the end of tasks and tells people.
type downWatch struct {
	out  io.Writer
	all  int
	mu   sync.Mutex
	open map[string]string // what has not ended: the task's name by its id
	done chan struct{}     // closed when nothing is open
}

func newDownWatch(set []model.Assignment, out io.Writer) *downWatch {
	w := &downWatch{out: out, all: len(set), open: map[string]string{}, done: make(chan struct{})}
	for _, as := range set {
		w.open[as.Task.ID] = fmt.Sprintf("%s:%d %s", as.Task.Family, as.Task.Revision, as.Task.ID)
	}
	fmt.Fprintf(out, "stopping %d tasks: each gets its stop signal and its stopTimeout (--now kills at once)\n", w.all)
	return w
}

func (w *downWatch) report(r model.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name, open := w.open[r.TaskID]
	if !open || r.Observed.Status != model.Stopped {
		return
	}
	delete(w.open, r.TaskID)
	fmt.Fprintf(w.out, "  %d of %d stopped: %s\n", w.all-len(w.open), w.all, name)
	for _, c := range r.Observed.Containers {
		if c.ExitCode == nil && c.Reason != "" {
			fmt.Fprintf(w.out, "    container %s: %s\n", c.Name, c.Reason)
		}
	}
	if len(w.open) == 0 {
		close(w.done)
	}
}

// wait returns when all have ended, patience is over, or ctx is done; meanwhile it says now and then what it waits for.
func (w *downWatch) wait(ctx context.Context, patience time.Duration) {
	over := time.NewTimer(patience)
	defer over.Stop()
	tick := time.NewTicker(timeouts.DownSay)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.done:
			return
		case <-over.C:
			return
		case <-tick.C:
			fmt.Fprintf(w.out, "  waiting for %v\n", w.left())
		}
	}
}

func (w *downWatch) left() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, name := range w.open {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// noNetwork leaves the tasks' networks to the end of `berth down`, which removes all of them together.
type noNetwork struct{}

// Setup implements agent.Network.
func (noNetwork) Setup(context.Context, agent.NetworkSpec) (agent.NetworkInfo, error) {
	return agent.NetworkInfo{}, nil
}

// Teardown implements agent.Network.
func (noNetwork) Teardown(context.Context, string) error { return nil }

// List implements agent.Network.
func (noNetwork) List(context.Context) ([]string, error) { return nil, nil }

// noLogs leaves what is not carried away in its files: the next `berth up` carries it.
type noLogs struct{}

// Open implements agent.Logs.
func (noLogs) Open(context.Context, agent.LogSpec) (agent.LogFiles, error) {
	return agent.LogFiles{}, nil
}

// Finish implements agent.Logs.
func (noLogs) Finish(context.Context, string) error { return nil }

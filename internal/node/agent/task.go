package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// task is the worker of one task. Its goroutine owns every field but told, the mailbox and the view: functions that touch the
// others run on it, by post.
type task struct {
	agent *Agent
	id    string
	dir   string
	log   *slog.Logger
	as    model.Assignment
	def   *types.TaskDefinition
	mode  types.NetworkMode

	rec        *record
	obs        *model.Observed // &rec.Observed
	containers []*container
	last       model.Observed // as last reported
	dirty      bool           // the record differs from what was last saved
	saving     bool
	saved      savedAssignment

	ctx         context.Context // ends with the agent
	starts      context.Context // ends when the task's start is given up
	cancelStart context.CancelFunc
	ops         sync.WaitGroup

	inherited bool // from an earlier agent, which may have died in the middle of a start
	begun     bool
	network   step // of the task's own namespace
	handing   step // of what the containers are given at their start
	handout   *model.Handout
	ending    bool
	release   step
	overdue   bool // the release takes so long that STOPPED is reported before it is done
	dismissed bool // no longer assigned

	told model.Assignment // what Agent.reconcile last said, with a nil Task for a dismissal; guarded by the agent's mu
	mail mailbox
	view atomic.Pointer[View]
}

// savedAssignment says which assignment is on the disk. What the server holds of the task's observation is not saved again and again.
type savedAssignment struct {
	done, stop bool
}

// newTask makes the worker of an assigned task, from what the runtime holds of it and from its record.
func newTask(a *Agent, as model.Assignment, found []ContainerState) *task {
	t := &task{
		agent: a, id: as.Task.ID, dir: filepath.Join(a.cfg.StateDir, as.Task.ID), log: a.cfg.Log.With("task", as.Task.ID),
		as: as, told: as, def: &as.Definition, mode: as.Task.NetworkMode, mail: mailbox{wake: make(chan struct{}, 1)},
	}
	if t.mode == "" {
		t.mode = types.NetworkModeBridge
	}
	t.restore()
	t.takeOver(found)
	t.publish()
	return t
}

// run drives the task until it has ended and is no longer wanted, or ctx ends.
func (t *task) run(ctx context.Context) {
	t.ctx = ctx
	t.starts, t.cancelStart = context.WithCancel(ctx)
	defer t.ops.Wait()
	defer t.cancelStart()
	defer t.stopTimers()
	t.resume()
	for {
		t.step()
		t.flush()
		if t.gone() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.mail.wake:
			for _, apply := range t.mail.take() {
				apply()
			}
		}
	}
}

// step does whatever can be done now. It never waits.
func (t *task) step() {
	if !t.ending && (t.as.Stop || t.dismissed) {
		t.end(t.agent.cfg.StopCode, t.agent.cfg.StopReason)
	}
	if !t.ending {
		t.stepUp()
	}
	if t.ending { // stepUp may have found that the task cannot start
		t.stepDown()
	}
}

// assign takes a newer assignment of the same task.
func (t *task) assign(as model.Assignment) {
	t.as, t.dismissed = as, false
	t.dirty = t.dirty || t.saved.stop != as.Stop
	t.publish()
}

// dismiss says that the node no longer has the task: it is stopped and forgotten.
func (t *task) dismiss() { t.dismissed, t.dirty = true, true }

// gone tells whether nothing is left to do, and then forgets the task.
func (t *task) gone() bool {
	if !t.dismissed || t.obs.Status != model.Stopped || t.release != done || t.saving {
		return false
	}
	if slices.ContainsFunc(t.containers, func(c *container) bool { return c.shipping || c.finish == busy }) {
		return false
	}
	t.erase()
	return true
}

// end makes the task stop. A code says that it ends by itself, and why; "" says that it was told to.
func (t *task) end(code types.TaskStopCode, reason string) {
	if t.ending {
		return
	}
	t.ending = true
	t.cancelStart()
	t.obs.StopCode, t.obs.StoppedReason = code, reason
	if t.obs.StoppingAt.IsZero() {
		t.obs.StoppingAt = t.agent.cfg.Now()
	}
	t.raise(model.Stopping)
	t.log.Info("task stops", "code", code, "reason", reason)
}

// failed ends a task that could not start.
func (t *task) failed(err *Error) { t.end(types.TaskStopCodeTaskFailedToStart, err.Error()) }

// raise lifts the task's status; it never falls.
func (t *task) raise(s model.TaskStatus) {
	if t.obs.Status.Before(s) {
		t.obs.Status = s
	}
}

// post gives the task's goroutine something to do. It never blocks; what is posted after the task's end is dropped.
func (t *task) post(apply func()) { t.mail.put(apply) }

// async runs op beside the task's goroutine and applies its outcome on it.
func (t *task) async(ctx context.Context, op func(context.Context) error, then func(error)) {
	t.ops.Go(func() {
		err := op(ctx)
		t.post(func() {
			if t.ctx.Err() == nil { // a dying agent's operations fail for that reason only: the next one looks itself
				then(err)
			}
		})
	})
}

// after applies f on the task's goroutine when d has passed.
func (t *task) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(max(d, 0), func() { t.post(f) })
}

// flush saves the record and then reports, when something has changed. Saving goes on beside the task, so that a slow disk does
// not hold up its start; what changes meanwhile is saved next.
func (t *task) flush() {
	t.obs.Health = t.health()
	t.last.Seq = t.obs.Seq
	changed := !reflect.DeepEqual(*t.obs, t.last)
	if !changed && !t.dirty {
		return
	}
	if t.saving {
		t.publish()
		return
	}
	if changed {
		t.obs.Seq++
		t.last = cloneObserved(t.obs)
	}
	t.dirty, t.saving = false, true
	t.publish()
	data, err := json.Marshal(t.rec)
	observed := cloneObserved(t.obs)
	assignment := t.assignmentToSave()
	t.async(t.ctx, func(context.Context) error {
		if err != nil {
			return err
		}
		if assignment != nil {
			if err := saveFile(t.dir, assignmentFile, assignment); err != nil {
				return err
			}
		}
		return saveRecord(t.dir, data)
	}, func(err error) {
		t.saving = false
		if err != nil {
			t.log.Error("the task's record cannot be saved; a restart of Berth now would lose sight of its last step", "error", err)
		}
		if changed {
			t.agent.cfg.Report(model.Report{TaskID: t.id, Observed: observed})
		}
	})
}

// assignmentToSave encodes the assignment when the one on the disk says something else, so that an agent without a server knows
// what to run.
func (t *task) assignmentToSave() []byte {
	want := savedAssignment{done: true, stop: t.as.Stop || t.dismissed}
	if t.saved == want {
		return nil
	}
	as := t.as
	as.Stop = want.stop
	data, err := model.EncodeJSON(as)
	if err != nil {
		t.log.Error("the task's assignment cannot be saved; without the server, a restart of Berth now would leave the task alone", "error", err)
		return nil
	}
	t.saved = want
	return data
}

// byName finds a container; nil when there is none.
func (t *task) byName(name string) *container {
	i := slices.IndexFunc(t.containers, func(c *container) bool { return c.name() == name })
	if i < 0 {
		return nil
	}
	return t.containers[i]
}

func (t *task) every(in phase) bool {
	return !slices.ContainsFunc(t.containers, func(c *container) bool { return c.phase != in })
}

func (t *task) stopTimers() {
	for _, c := range t.containers {
		if c.startTimer != nil {
			c.startTimer.Stop()
		}
		if c.stopProbes != nil {
			c.stopProbes()
		}
	}
}

func cloneObserved(o *model.Observed) model.Observed {
	c := *o
	c.Containers = slices.Clone(o.Containers)
	for i := range c.Containers {
		if code := c.Containers[i].ExitCode; code != nil {
			c.Containers[i].ExitCode = new(*code)
		}
	}
	if o.Interface != nil {
		c.Interface = new(*o.Interface)
	}
	return c
}

// mailbox is an unbounded queue of functions: posting must never wait for a task, and each task posts only what it started.
type mailbox struct {
	mu    sync.Mutex
	queue []func()
	wake  chan struct{} // capacity 1
}

func (m *mailbox) put(f func()) {
	m.mu.Lock()
	m.queue = append(m.queue, f)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue
	m.queue = nil
	return q
}

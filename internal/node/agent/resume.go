package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/berthdev/berth/internal/model"
)

// RememberedTask is what an agent was told of a task and what it saw of it.
type RememberedTask struct {
	model.Assignment
	rec *record
}

// Ended tells whether the task has ended, and holds nothing any more.
func (r RememberedTask) Ended() bool {
	return r.rec == nil && r.Task.Observed.Status == model.Stopped || r.rec != nil && r.rec.Observed.Status == model.Stopped
}

// Remembered returns the tasks that the agent with this state directory was told of last, in the order of their ids.
func Remembered(stateDir string, log *slog.Logger) []RememberedTask {
	entries, err := os.ReadDir(stateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the agent's state cannot be read", "error", err)
	}
	var all []RememberedTask
	for _, e := range entries {
		dir := filepath.Join(stateDir, e.Name())
		as, err := loadAssignment(dir)
		if err == nil {
			rec, _ := loadRecord(dir) // without it the agent goes on from the server's
			all = append(all, RememberedTask{as, rec})
		} else if !errors.Is(err, fs.ErrNotExist) && e.IsDir() {
			log.Warn("what was assigned is lost; the task waits for the server", "error", err)
		}
	}
	return all
}

// remember makes what an earlier agent was told the desired set, until the server has spoken.
func (a *Agent) remember() {
	told := map[string]model.Assignment{}
	for _, r := range Remembered(a.cfg.StateDir, a.cfg.Log) {
		told[r.Task.ID] = r.Assignment
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.arrived {
		a.desired = told
	}
}

// resumable tells whether a task of an earlier agent can be managed without the server: it is to end, or all its images are here.
// One that was still to be pulled would fail for want of the registry.
func (a *Agent) resumable(as model.Assignment) bool {
	rec, err := loadRecord(filepath.Join(a.cfg.StateDir, as.Task.ID))
	if err != nil || rec.LogsKept {
		return false
	}
	if as.Stop || rec.Observed.Status == model.Stopped {
		return true
	}
	for _, c := range as.Definition.ContainerDefinitions {
		if own := rec.Containers[deref(c.Name)]; own == nil || own.Image.Ref == "" {
			return false
		}
	}
	return true
}

// inventory reports again what the server has not seen: the agent that reported it may have been killed before it was sent. a.mu is
// held.
func (a *Agent) inventory() {
	for id, t := range a.tasks {
		as, wanted := a.desired[id]
		v := t.view.Load()
		if wanted && v != nil && as.Task.Observed.Seq < v.Observed.Seq {
			t.post(func() { t.last = model.Observed{} })
		}
	}
}

// restore sets the record and the containers from what was saved and what the server holds, whichever is newer.
func (t *task) restore() {
	rec, err := loadRecord(t.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.log.Warn("the task's record is lost; going on from the server's", "error", err)
	}
	t.inherited = rec != nil
	server := &t.as.Task.Observed
	if rec == nil {
		rec = &record{Observed: cloneObserved(server)}
	}
	if server.Seq > rec.Observed.Seq || server.Status == model.Stopped && rec.Observed.Status != model.Stopped {
		seq := max(server.Seq, rec.Observed.Seq)
		rec.Observed = cloneObserved(server)
		rec.Observed.Seq = seq
	}
	rec.LogsKept = false
	if rec.Containers == nil {
		rec.Containers = map[string]*containerRecord{}
	}
	if rec.CredentialsID == "" && t.role() != "" {
		rec.CredentialsID = uuid.NewString()
	}
	t.rec, t.obs, t.dirty = rec, &rec.Observed, true
	t.last = cloneObserved(server)
	t.containers = containersOf(t.as.Task, t.def)
	t.link()
}

// link ties each container to its observation and its record, making those that are missing.
func (t *task) link() {
	for _, c := range t.containers {
		if !slices.ContainsFunc(t.obs.Containers, func(o model.Container) bool { return o.Name == c.name() }) {
			t.obs.Containers = append(t.obs.Containers, model.Container{Name: c.name(), Image: deref(c.def.Image), Status: model.Pending})
		}
		if t.rec.Containers[c.name()] == nil {
			t.rec.Containers[c.name()] = &containerRecord{}
		}
		c.rec = t.rec.Containers[c.name()]
	}
	for _, c := range t.containers {
		i := slices.IndexFunc(t.obs.Containers, func(o model.Container) bool { return o.Name == c.name() })
		c.obs = &t.obs.Containers[i]
	}
}

// takeOver sets how far each container has come, from what the runtime holds of it.
func (t *task) takeOver(found []ContainerState) {
	for _, c := range t.containers {
		i := slices.IndexFunc(found, func(s ContainerState) bool { return s.ID == c.id })
		c.ran = !c.obs.StartedAt.IsZero()
		begun := c.obs.Status == model.Running && c.obs.FinishedAt.IsZero() // and is not on its way to a restart by its policy
		switch {
		case c.obs.Status == model.Stopped:
			c.phase, c.made = exited, true // what is gone may be deleted again
		case i < 0 || found[i].Status == ContainerCreated:
			c.made = i >= 0 // deleted and made again: how complete it is cannot be told
			c.lost = begun
			if c.lost {
				c.phase = running
			}
		default:
			c.phase, c.made, c.pulled = running, true, true
			t.tookOver(c, found[i])
		}
	}
}

// tookOver takes over a container whose process runs, or has ended while nobody looked.
func (t *task) tookOver(c *container, s ContainerState) {
	c.ran = true
	c.obs.RuntimeID, c.rec.Run = c.id, s.Run
	if c.obs.Status != model.Running {
		c.obs.Status = model.Running
		c.obs.StartedAt = t.agent.cfg.Now()
		if s.Status == ContainerExited && !s.FinishedAt.IsZero() {
			c.obs.StartedAt = s.FinishedAt
		}
	}
	if s.Status == ContainerExited {
		c.early = &s
	}
}

// resume goes on where an earlier agent stopped; for a new task it does nothing.
func (t *task) resume() {
	if t.rec.CredentialsID != "" { // it must be known before a container is told it
		if err := t.rec.save(t.dir); err != nil {
			t.log.Error("the task's record cannot be saved", "error", err)
		}
	}
	t.ending = t.obs.StopCode != "" || !t.obs.Status.Before(model.Stopping)
	if t.ending {
		t.cancelStart()
	}
	for _, c := range t.containers {
		if c.ran {
			t.openLogs(c, true)
		}
		switch {
		case c.lost:
			t.exit(c, ContainerState{ID: c.id, Status: ContainerExited}, lostReason)
		case c.phase == running && c.early != nil:
			t.checkRunning()
			t.observe(*c.early)
		case c.phase == running:
			t.watch(c)
		}
	}
}

const lostReason = "CannotInspectContainerError: the runtime no longer knows this container; the machine was restarted, or the " +
	"container was removed by other means than Berth"

// connectAgain repeats the network's Setup of a task that already runs: it repairs what a restart of the machine's network left
// broken, and tells the network which ports are taken. A failure changes nothing: the containers run as they are.
func (t *task) connectAgain(spec NetworkSpec, apply func(NetworkInfo)) {
	var info NetworkInfo
	t.async(t.ctx, func(ctx context.Context) (err error) {
		info, err = t.agent.cfg.Network.Setup(ctx, spec)
		return err
	}, func(err error) {
		if err != nil {
			t.log.Warn("the network of a running task could not be checked", "network", spec.ID, "error", err)
			return
		}
		apply(info)
	})
}

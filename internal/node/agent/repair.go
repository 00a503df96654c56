package agent

import (
	"context"
	"os"
	"path/filepath"

	"github.com/berthdev/berth/internal/timeouts"
)

// repair compares what the runtime and the network hold with what the tasks believe: it finds exits that were missed, and
// removes what belongs to no task. Runs beside the caller, one at a time, and only after recovery.
func (a *Agent) repair(ctx context.Context) {
	if !a.listing.CompareAndSwap(false, true) {
		return
	}
	a.workers.Go(func() {
		defer a.listing.Store(false)
		a.mu.Lock()
		ready, told := a.recovered, a.arrived && a.confirmed
		a.mu.Unlock()
		if !ready {
			a.look()
			return
		}
		asked, list := a.cfg.Now(), a.lists.Add(1)
		states, err := a.cfg.Runtime.List(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.cfg.Log.Warn("the runtime's containers cannot be listed", "error", err)
			}
			return
		}
		a.correct(list, byTask(states))
		if !told {
			return // nobody knows yet what else the server wants here
		}
		a.removeOrphans(ctx, states)
		if asked.Sub(a.swept) >= timeouts.SweepFolders {
			a.swept = asked
			a.sweep()
		}
	})
}

// correct tells each task what the runtime held in the list of that number.
func (a *Agent) correct(list int64, found map[string][]ContainerState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, t := range a.tasks {
		states := found[id]
		t.post(func() { t.compare(list, states) })
	}
}

// removeOrphans deletes containers and namespaces of tasks that this node does not have. A task is in a.tasks before it makes
// anything and until everything of it is gone, so what was listed and has no task now is nobody's.
func (a *Agent) removeOrphans(ctx context.Context, states []ContainerState) {
	for _, s := range states {
		if a.has(taskOf(s.ID, s.TaskID)) {
			continue
		}
		a.cfg.Log.Info("removing a container of no assigned task", "container", s.ID, "status", s.Status)
		if err := a.cfg.Runtime.Delete(ctx, s.ID); err != nil {
			a.cfg.Log.Warn("a container of no task cannot be deleted; trying again later", "container", s.ID, "error", err)
		}
	}
	ids, err := a.cfg.Network.List(ctx)
	if err != nil {
		a.cfg.Log.Warn("networks cannot be listed", "error", err)
		return
	}
	for _, id := range ids {
		if a.has(taskOf(id, "")) {
			continue
		}
		if err := a.cfg.Network.Teardown(ctx, id); err != nil {
			a.cfg.Log.Warn("a network of no task cannot be removed; trying again later", "network", id, "error", err)
		}
	}
}

func (a *Agent) has(taskID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tasks[taskID] != nil
}

// sweep deletes the folders of tasks that this node no longer has; those with json-file logs stay for KeepLogs.
func (a *Agent) sweep() {
	entries, err := os.ReadDir(a.cfg.StateDir)
	if err != nil {
		a.cfg.Log.Warn("the agent's state cannot be read", "error", err)
		return
	}
	for _, e := range entries {
		dir := filepath.Join(a.cfg.StateDir, e.Name())
		if !e.IsDir() || dir == filepath.Clean(a.cfg.VolumeDir) || a.has(e.Name()) {
			continue
		}
		rec, err := loadRecord(dir)
		if err == nil && rec.LogsKept && a.cfg.Now().Sub(rec.Observed.StoppedAt) < a.cfg.KeepLogs {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			a.cfg.Log.Warn("a task's folder cannot be deleted", "dir", dir, "error", err)
		}
	}
	if a.cfg.RunDir == "" {
		return
	}
	entries, _ = os.ReadDir(a.cfg.RunDir) // not there before the first task
	for _, e := range entries {
		if dir := filepath.Join(a.cfg.RunDir, e.Name()); !a.has(e.Name()) {
			if err := removeFilesDir(dir); err != nil {
				a.cfg.Log.Warn("a task's folder cannot be deleted", "dir", dir, "error", err)
			}
		}
	}
}

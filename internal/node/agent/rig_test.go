package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
	"github.com/berthdev/berth/internal/plan/task"
)

// rig is an agent on a fake machine, in a synctest bubble: time passes only while everything waits.
type rig struct {
	*testing.T
	machine *fake.Machine
	cfg     agent.Config
	agent   *agent.Agent
	kill    func() // ends the agent and waits for its last goroutine

	mu      sync.Mutex
	reports map[string][]model.Observed
	set     map[string]model.Assignment
	ids     int
}

// inBubble runs f with a rig whose agent runs.
func inBubble(t *testing.T, cfg fake.Config, f func(r *rig)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, machine: fake.New(cfg), reports: map[string][]model.Observed{}, set: map[string]model.Assignment{}}
		r.cfg = agent.Config{
			Runtime: r.machine.Runtime, Images: r.machine.Images, Network: r.machine.Network, Logs: r.machine.Logs,
			StateDir: dir, Region: "eu-north-1", Report: r.report, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			HostMetadataURL: "http://127.0.0.1:9999",
		}
		r.boot()
		defer func() { r.kill() }()
		f(r)
	})
}

// boot starts an agent, with nothing but what the machine and the state directory hold.
func (r *rig) boot() {
	a := agent.New(r.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	r.agent = a
	r.kill = func() {
		cancel()
		if err := <-ended; err != nil {
			r.Error(err)
		}
		r.kill = func() {}
	}
}

func (r *rig) report(rep model.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.reports[rep.TaskID]
	if n := len(all); n > 0 {
		if rep.Observed.Seq <= all[n-1].Seq {
			r.Errorf("task %s: report %d after %d", rep.TaskID, rep.Observed.Seq, all[n-1].Seq)
		}
		if rep.Observed.Status.Before(all[n-1].Status) {
			r.Errorf("task %s fell from %s to %s", rep.TaskID, all[n-1].Status, rep.Observed.Status)
		}
	}
	r.reports[rep.TaskID] = append(all, rep.Observed)
}

// define makes a task definition.
func define(mode types.NetworkMode, containers ...types.ContainerDefinition) types.TaskDefinition {
	return types.TaskDefinition{NetworkMode: mode, ContainerDefinitions: containers}
}

func container(name, image string, changes ...func(*types.ContainerDefinition)) types.ContainerDefinition {
	d := types.ContainerDefinition{Name: &name, Image: &image, Essential: new(true), Memory: new(int32(64))}
	for _, change := range changes {
		change(&d)
	}
	return d
}

func sidecar(d *types.ContainerDefinition) { d.Essential = new(false) }

func after(name string, c types.ContainerCondition) func(*types.ContainerDefinition) {
	return func(d *types.ContainerDefinition) {
		d.DependsOn = append(d.DependsOn, types.ContainerDependency{ContainerName: &name, Condition: c})
	}
}

func stopTimeout(s int32) func(*types.ContainerDefinition) {
	return func(d *types.ContainerDefinition) { d.StopTimeout = &s }
}

// add assigns a new task of the definition and returns its id.
func (r *rig) add(def types.TaskDefinition, changes ...func(*task.Spec)) string {
	newID := func() string { r.ids++; return fmt.Sprintf("%032x", r.ids) }
	spec := task.Spec{
		Scope: model.Scope{Account: "000000000000", Region: "eu-north-1"}, Cluster: "default",
		Definition: &model.TaskDefinition{Family: "fam", Revision: 3, Definition: def}, Now: time.Now(), NewID: newID,
	}
	for _, change := range changes {
		change(&spec)
	}
	t := task.New(spec)
	r.set[t.ID] = model.Assignment{Task: t, Definition: def}
	r.assign()
	return t.ID
}

// assign sends the whole set, each task with the last observation that the server holds.
func (r *rig) assign() {
	var set []model.Assignment
	for id, as := range r.set {
		r.mu.Lock()
		if all := r.reports[id]; len(all) > 0 {
			t := *as.Task
			t.Observed = all[len(all)-1]
			as.Task = &t
		}
		r.mu.Unlock()
		r.set[id] = as
		set = append(set, as)
	}
	r.agent.SetAssignments(set)
}

func (r *rig) stop(id string) {
	as := r.set[id]
	as.Stop = true
	r.set[id] = as
	r.assign()
}

func (r *rig) remove(id string) {
	delete(r.set, id)
	r.assign()
}

// seen is the last report of a task, after everything that can happen now has happened.
func (r *rig) seen(id string) model.Observed {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.reports[id]
	if len(all) == 0 {
		return model.Observed{}
	}
	return all[len(all)-1]
}

// reach lets time pass until the task has the status, and returns what was reported then.
func (r *rig) reach(id string, want model.TaskStatus) model.Observed {
	r.Helper()
	for range 12_000 { // 10 minutes
		if o := r.seen(id); !o.Status.Before(want) {
			if o.Status != want {
				r.Fatalf("task is %s, %q, past %s", o.Status, o.StoppedReason, want)
			}
			return o
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.Fatalf("task never reached %s: %+v", want, r.seen(id))
	return model.Observed{}
}

func named(o model.Observed, name string) model.Container {
	for _, c := range o.Containers {
		if c.Name == name {
			return c
		}
	}
	return model.Container{}
}

// history is the statuses that were reported, each once.
func (r *rig) history(id string) []model.TaskStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []model.TaskStatus
	for _, o := range r.reports[id] {
		if n := len(all); n == 0 || all[n-1] != o.Status {
			all = append(all, o.Status)
		}
	}
	return all
}

// empty fails when the machine still holds a container or a network.
func (r *rig) empty() {
	r.Helper()
	synctest.Wait()
	if all, err := r.machine.Runtime.List(r.Context()); err != nil || len(all) > 0 {
		r.Errorf("containers left over: %v %v", all, err)
	}
	if ids, _ := r.machine.Network.List(r.Context()); len(ids) > 0 {
		r.Errorf("networks left over: %v", ids)
	}
}

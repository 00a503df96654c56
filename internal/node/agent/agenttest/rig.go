package agenttest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/plan/task"
)

// rig is an agent on the machine under test, and the server that it reports to.
type rig struct {
	*testing.T
	env   Env
	cfg   agent.Config
	agent *agent.Agent
	kill  func()

	mu      sync.Mutex
	latest  map[string]model.Observed
	changed chan struct{} // closed at the next report
	set     map[string]model.Assignment
}

func newRig(t *testing.T, env Env) *rig {
	if env.Patience == 0 {
		env.Patience = 30 * time.Second
	}
	if len(env.Modes) == 0 {
		env.Modes = []types.NetworkMode{types.NetworkModeAwsvpc, types.NetworkModeBridge, types.NetworkModeHost, types.NetworkModeNone}
	}
	r := &rig{T: t, env: env, latest: map[string]model.Observed{}, changed: make(chan struct{}), set: map[string]model.Assignment{}}
	r.cfg = agent.Config{
		Runtime: env.Runtime, Images: env.Images, Network: env.Network, Logs: env.Logs, StateDir: t.TempDir(), RunDir: env.RunDir, Region: "us-east-1",
		Report: r.report, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Relist: time.Second,
	}
	r.boot()
	return r
}

func (r *rig) boot() {
	r.agent = agent.New(r.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.agent.Run(ctx) }()
	r.kill = func() {
		cancel()
		if err := <-ended; err != nil {
			r.Errorf("the agent ended: %v", err)
		}
		r.kill = func() {}
	}
}

// settle removes every task, and checks that nothing is left.
func (r *rig) settle() {
	var ids []string
	for id := range r.set {
		ids = append(ids, id)
	}
	clear(r.set)
	r.assign()
	for _, id := range ids {
		r.until(id, "has stopped", func(o model.Observed) bool { return o.Status == model.Stopped })
	}
	// STOPPED may be reported a moment before the last of the task is gone; a kill in between is another test's subject.
	for range 1000 {
		if all, err := r.env.Network.List(context.Background()); err != nil || len(all) == 0 {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	r.kill()
	if all, err := r.env.Runtime.List(context.Background()); err != nil || len(all) > 0 {
		r.Errorf("containers are left: %v %v", all, err)
	}
	if all, err := r.env.Network.List(context.Background()); err != nil || len(all) > 0 {
		r.Errorf("networks are left: %v %v", all, err)
	}
	if r.env.Settled != nil {
		r.env.Settled(r.T)
	}
}

func (r *rig) report(rep model.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.latest[rep.TaskID]; rep.Observed.Seq <= old.Seq || rep.Observed.Status.Before(old.Status) {
		r.Errorf("report %d %s came after %d %s", rep.Observed.Seq, rep.Observed.Status, old.Seq, old.Status)
	}
	r.latest[rep.TaskID] = rep.Observed
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits for a report that satisfies ok.
func (r *rig) until(id, what string, ok func(model.Observed) bool) model.Observed {
	r.Helper()
	deadline := time.After(r.env.Patience)
	for {
		r.mu.Lock()
		o, changed := r.latest[id], r.changed
		r.mu.Unlock()
		if ok(o) {
			return o
		}
		select {
		case <-changed:
		case <-deadline:
			r.Fatalf("after %s no report says that the task %s; the last: %+v", r.env.Patience, what, o)
		}
	}
}

// reach waits for a status, and fails when the task is past it.
func (r *rig) reach(id string, s model.TaskStatus) model.Observed {
	r.Helper()
	o := r.until(id, "is "+string(s), func(o model.Observed) bool { return !o.Status.Before(s) })
	if o.Status != s {
		r.Fatalf("the task is %s, past %s: %s %q %+v", o.Status, s, o.StopCode, o.StoppedReason, o.Containers)
	}
	return o
}

func (r *rig) program(name string, b Behaviour, changes ...func(*types.ContainerDefinition)) types.ContainerDefinition {
	d := r.env.Program(b)
	d.Name, d.Memory = &name, new(int32(64))
	if d.Essential == nil {
		d.Essential = new(true)
	}
	d.StopTimeout = new(int32(10))
	for _, change := range changes {
		change(&d)
	}
	return d
}

// script is a program that runs a shell script.
func (r *rig) script(name, script string, changes ...func(*types.ContainerDefinition)) types.ContainerDefinition {
	return r.program(name, Serve, append([]func(*types.ContainerDefinition){func(d *types.ContainerDefinition) {
		d.EntryPoint, d.Command = []string{"/bin/sh", "-c"}, []string{script}
	}}, changes...)...)
}

func sidecar(d *types.ContainerDefinition) { d.Essential = new(false) }

func after(name string, c types.ContainerCondition) func(*types.ContainerDefinition) {
	return func(d *types.ContainerDefinition) {
		d.DependsOn = append(d.DependsOn, types.ContainerDependency{ContainerName: &name, Condition: c})
	}
}

func define(mode types.NetworkMode, containers ...types.ContainerDefinition) types.TaskDefinition {
	return types.TaskDefinition{NetworkMode: mode, ContainerDefinitions: containers}
}

// add assigns a new task and returns its id.
func (r *rig) add(def types.TaskDefinition, changes ...func(*task.Spec)) string {
	spec := task.Spec{
		Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, Cluster: "default",
		Definition: &model.TaskDefinition{Family: "suite", Revision: 1, Definition: def}, Now: time.Now(), NewID: newID,
	}
	for _, change := range changes {
		change(&spec)
	}
	t := task.New(spec)
	r.set[t.ID] = model.Assignment{Task: t, Definition: def}
	r.assign()
	return t.ID
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// assign sends the whole set, each task with the newest observation.
func (r *rig) assign() {
	var all []model.Assignment
	r.mu.Lock()
	for id, as := range r.set {
		if o, ok := r.latest[id]; ok {
			t := *as.Task
			t.Observed = o
			as.Task = &t
			r.set[id] = as
		}
		all = append(all, as)
	}
	r.mu.Unlock()
	r.agent.SetAssignments(all)
}

func (r *rig) stop(id string) {
	as := r.set[id]
	as.Stop = true
	r.set[id] = as
	r.assign()
}

// restart ends the agent, as a kill does, and starts another.
func (r *rig) restart(meanwhile func()) {
	r.kill()
	if meanwhile != nil {
		meanwhile()
	}
	r.boot()
	r.assign()
}

// processes are the PIDs of a task's running containers, by name.
func (r *rig) processes(id string) map[string]uint32 {
	r.Helper()
	all, err := r.env.Runtime.List(context.Background())
	if err != nil {
		r.Fatal(err)
	}
	pids := map[string]uint32{}
	for _, s := range all {
		if s.TaskID == id && s.Status == agent.ContainerRunning {
			pids[s.Name] = s.PID
		}
	}
	return pids
}

func named(o model.Observed, name string) model.Container {
	i := slices.IndexFunc(o.Containers, func(c model.Container) bool { return c.Name == name })
	if i < 0 {
		return model.Container{}
	}
	return o.Containers[i]
}

// code is a container's exit code, -1 for none.
func code(o model.Observed, name string) int32 {
	if c := named(o, name); c.ExitCode != nil {
		return *c.ExitCode
	}
	return -1
}

// listens waits until the processes of a task catch SIGTERM: a shell that is stopped before it has read its trap, as the first
// process of its namespace, does not hear the signal. Only where processes are real.
func (r *rig) listens(id string) {
	r.Helper()
	if !r.env.Shell {
		return
	}
	for name, pid := range r.processes(id) {
		deadline := time.Now().Add(r.env.Patience)
		for !catches(pid, syscall.SIGTERM) {
			if time.Now().After(deadline) {
				r.Fatalf("container %s does not catch SIGTERM", name)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
}

// catches says whether a process has a handler of a signal. One that is runc's init still, a Go program, has some of its own.
func catches(pid uint32, sig syscall.Signal) bool {
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.HasPrefix(string(comm), "runc") {
		return false
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "SigCgt:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, _ := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return mask>>(sig-1)&1 == 1
}

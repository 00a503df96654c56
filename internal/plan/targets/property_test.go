package targets

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// world is a service with its targets, and whoever applies plans; it remembers what Plan may rely on.
type world struct {
	*fixture
	made   int
	quiet  map[string]bool // targets that were seen with no request in flight since they drain
	groups int
}

func newWorld(t *rapid.T) *world {
	names := []string{"ip", "ip2", "ec2"}[:rapid.IntRange(1, 3).Draw(t, "groups")]
	w := &world{fixture: web(names...), quiet: map[string]bool{}, groups: len(names)}
	w.Pace = rapid.SampledFrom([]model.Pace{model.PaceFast, model.PaceAWS}).Draw(t, "pace")
	for _, g := range w.Groups {
		g.Attributes["deregistration_delay.timeout_seconds"] = rapid.SampledFrom([]string{"", "0", "5", "60"}).Draw(t, "delay")
	}
	return w
}

func (w *world) find(key string) *model.Target {
	for _, t := range w.Targets {
		if t.Key() == key {
			return t
		}
	}
	return nil
}

func (w *world) taskOf(id string) *Task {
	tasks := w.Tasks
	for i := range tasks {
		if tasks[i].ID == id {
			return &tasks[i]
		}
	}
	return nil
}

// plan plans, checks each action against what is known, and applies it.
func (w *world) plan(t *rapid.T) {
	actions := Plan(w.Input)
	for _, a := range actions {
		switch a := a.(type) {
		case Register:
			w.register(t, a)
		case Drain:
			target := *w.find(a.Key)
			if !target.DrainingSince.IsZero() || !ending(w.taskOf(target.Task).Task) {
				t.Fatalf("%s drains, though %+v", a.Key, target)
			}
			target.DrainingSince = w.Now
			w.drop(a.Key)
			w.Targets = append(w.Targets, &target)
			delete(w.quiet, a.Key)
		case Remove:
			w.mayRemove(t, a.Key)
			w.drop(a.Key)
			delete(w.Health, a.Key)
		case Release:
			w.release(t, a.TaskID)
		}
	}
	if again := Plan(w.Input); len(again) > 0 {
		t.Fatalf("after\n%q\nthere is more to do\n%q", script(actions), script(again))
	}
}

func (w *world) drop(key string) {
	w.Targets = slices.DeleteFunc(slices.Clone(w.Targets), func(t *model.Target) bool { return t.Key() == key })
}

func (w *world) register(t *rapid.T, a Register) {
	task := w.taskOf(a.Target.Task)
	if task == nil || ending(task.Task) || task.Observed.Status != model.Running ||
		(task.ContainerChecks && task.Observed.Health != ecstypes.HealthStatusHealthy) {
		t.Fatalf("%s is registered for a task that may not take requests", a.Target.Key())
	}
	if w.find(a.Target.Key()) != nil {
		t.Fatalf("%s is registered twice", a.Target.Key())
	}
	w.Targets = append(slices.Clone(w.Targets), a.Target)
}

// mayRemove fails unless no request can reach the target, or its task cannot answer any.
func (w *world) mayRemove(t *rapid.T, key string) {
	target := w.find(key)
	task := w.taskOf(target.Task)
	if task == nil || task.Ended() || killed(task.Task) {
		return
	}
	delay := time.Duration(w.Groups[target.TargetGroupARN].Attr(delayAttribute, delayDefault)) * time.Second
	if delay == 0 && ending(task.Task) {
		return
	}
	if target.DrainingSince.IsZero() {
		t.Fatalf("%s is removed before it drained", key)
	}
	over := w.Now.Sub(target.DrainingSince) >= delay
	if !over && (w.Pace == model.PaceAWS || !w.quiet[key]) {
		t.Fatalf("%s is removed %s after it began to drain, with requests in flight", key, w.Now.Sub(target.DrainingSince))
	}
}

func (w *world) release(t *rapid.T, id string) {
	task := w.taskOf(id)
	for _, target := range w.Targets {
		if target.Task == id {
			t.Fatalf("task %s is released with target %s", id, target.Key())
		}
	}
	w.change(task, func(t *Task) { t.Released = true })
}

func (w *world) change(task *Task, f func(*Task)) {
	inner := *task.Task
	task.Task = &inner
	f(task)
}

// start adds a task that is not RUNNING yet.
func (w *world) start(t *rapid.T) {
	w.made++
	mode := rapid.SampledFrom([]func(*Task){func(*Task) {}, bridge, host}).Draw(t, "mode")
	w.task(fmt.Sprintf("t%d", w.made), mode, status(model.Pending), func(task *Task) {
		task.ContainerChecks = rapid.Bool().Draw(t, "checks")
		if len(task.Observed.Containers) > 1 {
			task.Observed.Containers[1].NetworkBindings[2].HostPort = new(int32(30000 + w.made))
		}
	})
}

// happen lets one thing happen.
func (w *world) happen(t *rapid.T) {
	w.Now = w.Now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, 10 * time.Second}).Draw(t, "pass"))
	events := []string{"start", "run", "well", "sick", "stop", "kill", "end", "leave", "quiet", "quiet", "deregister"}
	event := rapid.SampledFrom(events).Draw(t, "event")
	if event == "start" {
		w.start(t)
		return
	}
	if event == "quiet" {
		w.hush(rapid.IntRange(0, 3).Draw(t, "target"))
		return
	}
	if event == "deregister" {
		w.deregister(rapid.IntRange(0, 5).Draw(t, "target"))
		return
	}
	tasks := w.Tasks
	if len(tasks) == 0 {
		return
	}
	task := &tasks[rapid.IntRange(0, len(tasks)-1).Draw(t, "task")]
	w.change(task, func(t *Task) {
		switch event {
		case "run":
			if t.Observed.Status == model.Pending {
				t.Observed.Status = model.Running
			}
		case "well":
			t.Observed.Health = ecstypes.HealthStatusHealthy
		case "sick":
			t.Observed.Health = ecstypes.HealthStatusUnhealthy
		case "stop", "kill":
			if t.StopRequest == nil {
				stop(t)
				t.StopRequest.Kill = event == "kill"
			}
		case "leave":
			if t.Observed.Status == model.Running {
				t.Observed.Status = model.Deprovisioning
			}
		case "end":
			t.Observed.Status = model.Stopped
		}
	})
	w.Tasks = slices.DeleteFunc(tasks, func(t Task) bool { return t.Ended() && w.made%2 == 0 })
}

// deregister does what a client can do to a service's target.
func (w *world) deregister(n int) {
	if n < len(w.Targets) && w.Targets[n].DrainingSince.IsZero() {
		target := *w.Targets[n]
		target.DrainingSince = w.Now
		w.Targets = slices.Clone(w.Targets)
		w.Targets[n] = &target
		delete(w.quiet, target.Key())
		w.Health = maps.Clone(w.Health)
		delete(w.Health, target.Key())
	}
}

// hush tells of the nth draining target that no request is in flight.
func (w *world) hush(n int) {
	for _, target := range w.Targets {
		if target.DrainingSince.IsZero() {
			continue
		}
		if n--; n < 0 {
			w.Health = maps.Clone(w.Health)
			w.Health[target.Key()] = &model.TargetHealth{TargetGroupARN: target.TargetGroupARN, ID: target.ID, Port: target.Port,
				Drained: true}
			w.quiet[target.Key()] = true
			return
		}
	}
}

// Whatever happens: a task is released only without targets, a target is removed only when it is drained or its task is gone, and
// in the end the healthy tasks are registered everywhere and the others nowhere.
func TestPlanHoldsTheStopOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			w.happen(t)
			w.plan(t)
		}
		w.Now = w.Now.Add(delayDefault * time.Second)
		w.plan(t)
		w.arrived(t)
	})
}

func (w *world) arrived(t *rapid.T) {
	held := map[string]int{}
	for _, target := range w.Targets {
		held[target.Task]++
		if w.taskOf(target.Task) == nil {
			t.Fatalf("%s outlives its task", target.Key())
		}
		if task := w.taskOf(target.Task); !target.DrainingSince.IsZero() && !ending(task.Task) {
			t.Fatalf("%s stays deregistered, though task %s stays", target.Key(), task.ID)
		}
	}
	hosts := 0
	for i := range w.Tasks {
		task := &w.Tasks[i]
		want := 0
		switch {
		case task.Ended():
		case ending(task.Task):
			if !task.Released {
				t.Fatalf("task %s is never released", task.ID)
			}
		case task.NetworkMode == ecstypes.NetworkModeHost:
			hosts++ // they share one port of one machine: placement keeps them apart, this world does not
			continue
		case task.Observed.Status == model.Running && (!task.ContainerChecks || task.Observed.Health == ecstypes.HealthStatusHealthy):
			want = w.groups
			if task.NetworkMode == ecstypes.NetworkModeAwsvpc {
				want = min(want, 2) // not in the group of instances
			}
		default:
			continue // registered or not, as it was healthy before or not
		}
		if held[task.ID] != want {
			t.Fatalf("task %s (%s) has %d targets, want %d", task.ID, task.LastStatus(), held[task.ID], want)
		}
	}
}

// The order of the input decides nothing.
func TestPlanIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			w.happen(t)
			w.plan(t)
		}
		for range 3 {
			w.happen(t)
		}
		want := script(Plan(w.Input))
		in := w.Input
		in.Targets = rapid.Permutation(in.Targets).Draw(t, "targets")
		in.Tasks = rapid.Permutation(in.Tasks).Draw(t, "tasks")
		if got := script(Plan(in)); !slices.Equal(got, want) {
			t.Fatalf("plan is\n%q\nand in another order\n%q", want, got)
		}
	})
}

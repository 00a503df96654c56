package control

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/deploy"
	"github.com/berthdev/berth/internal/plan/task"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// standalone looks at a task of no service.
func (p *pass) standalone(id string) {
	t, ok := store.Tasks.Get(p.tx, id)
	if !ok || t.Ended() || t.Service != "" {
		p.waits(owner{ofTask, id}, false)
		return
	}
	v := &scene{Service: &model.Service{Cluster: t.Cluster, Status: inactive}, tasks: []*model.Task{t}, at: map[string]int{id: 0}}
	v.targets = slices.Collect(store.Targets.By(p.tx, store.ByTask, id))
	for _, stage := range []func(*scene){p.stopTasks, p.provision, p.reach} {
		if stage(v); p.probing() {
			return
		}
	}
}

// provision places a task that waits for a machine of its capacity provider, for as long as ECS does.
func (p *pass) provision(v *scene) {
	t := v.tasks[0]
	o := owner{ofTask, t.ID}
	if t.Ended() || t.NodeID != "" || t.Desired != model.Running || t.CapacityProvider == "" || p.frees {
		p.waits(o, false)
		return
	}
	end := t.CreatedAt.Add(timeouts.Provisioning)
	if !p.now.Before(end) {
		p.waits(o, false)
		v.put(p, p.ended(t, types.TaskStopCodeTaskFailedToStart, fmt.Sprintf("The task waited %.0f minutes for a container instance of capacity provider %s with room for it. "+
			"Instances belong to it by their attribute %s.", timeouts.Provisioning.Minutes(), t.CapacityProvider, model.AttributePool)))
		return
	}
	p.look(end)
	if p.tx.tx == nil {
		p.tx.wrote = true // places are taken within an Update only
		return
	}
	placed := *t
	d := p.Places.Place(p.tx.tx, &placed)
	p.waits(o, d.InstanceID == "")
	if d.InstanceID == "" {
		return
	}
	placed.InstanceID, placed.NodeID, placed.PlacedAt = d.InstanceID, d.NodeID, p.now
	placed.Version++
	v.put(p, &placed)
	p.say("placed task", "task", t.ID, "node", d.NodeID, "reason", d.Reason)
}

// stopTasks acts on requests that tasks end. One that no node holds ends at once; the others are desired STOPPED, and reach
// releases them to their agents when nothing can reach them any more.
func (p *pass) stopTasks(v *scene) {
	for _, old := range v.tasks {
		switch {
		case old.Ended() || old.StopRequest == nil:
		case p.full():
			return
		case old.NodeID == "":
			v.put(p, p.ended(old, old.StopRequest.Code, old.StopRequest.Reason))
		case old.Desired != model.Stopped:
			t := *old
			t.Desired, t.StoppingAt = model.Stopped, p.now
			t.Version++
			v.put(p, &t)
			p.say("stopping task", "task", t.ID, "reason", t.StopRequest.Reason)
		}
	}
}

// ended is a task made STOPPED that no agent will report of.
func (p *pass) ended(old *model.Task, code types.TaskStopCode, reason string) *model.Task {
	t := *old
	t.Desired, t.Released = model.Stopped, true
	if t.StoppingAt.IsZero() {
		t.StoppingAt = p.now
	}
	o := &t.Observed
	o.Status, o.StoppedAt = model.Stopped, p.now
	if o.StoppingAt.IsZero() {
		o.StoppingAt = p.now
	}
	if o.ExecutionStoppedAt.IsZero() && !o.StartedAt.IsZero() {
		o.ExecutionStoppedAt = p.now
	}
	if o.StopCode == "" && t.StopRequest == nil {
		o.StopCode, o.StoppedReason = code, reason
	}
	o.Containers = slices.Clone(o.Containers)
	for i := range o.Containers {
		o.Containers[i].Status = model.Stopped
	}
	if o.Interface != nil {
		gone := *o.Interface
		gone.Status = "DELETED"
		o.Interface = &gone
	}
	t.Version++
	return &t
}

// tellStuck says which containers do not end: their tasks are STOPPING until the kernel lets go of them, or go on without them. It
// also says of which nothing is heard.
func (p *pass) tellStuck(v *scene) {
	for _, t := range v.tasks {
		for _, c := range t.Observed.Containers {
			if why, ok := strings.CutPrefix(c.Reason, stuck); ok && !p.full() {
				p.event(v.Service, fmt.Sprintf("(service %s) (task %s) container %q cannot be stopped%s. Berth tries again until it ends.",
					v.Name, t.ID, c.Name, strings.TrimRight(why, ".")))
			}
			if c.Silent && !p.full() {
				p.event(v.Service, fmt.Sprintf("(service %s) (task %s) container %q runs on, but the shim that holds it does not answer: "+
					"it takes no commands, and is stopped by its cgroup.", v.Name, t.ID, c.Name))
			}
		}
	}
}

// stuck begins the reason of a container that the kernel does not end.
const stuck = "CannotStopContainerError"

// event adds to a service's events unless they say the same of not long ago.
func (p *pass) event(s *model.Service, text string) {
	if p.told(s, text) {
		return
	}
	// a copy of the time: what is stored must not hold the pass, and with it the transaction, in memory
	store.AddEvent(p.tx, s, types.ServiceEvent{Id: new(task.UUID(p.NewID())), Message: &text, CreatedAt: new(p.now)})
	p.say(text, "service", s.Key())
}

// told tells whether an event would say nothing new.
func (p *pass) told(s *model.Service, text string) bool {
	return !deploy.Repeats(text) && deploy.Told(store.EventsOf(p.tx, s), text, p.now)
}

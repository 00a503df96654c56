package control

import (
	"slices"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/deploy"
	"github.com/berthdev/berth/internal/plan/task"
	"github.com/berthdev/berth/internal/store"
)

// stopTasks acts on requests that tasks end. One that no node holds ends at once; the others are desired STOPPED, and targets
// releases them to their agents when nothing can reach them any more.
func (p *pass) stopTasks() {
	for _, state := range []string{store.TaskPending, store.TaskLive} {
		for _, old := range slices.Collect(store.Tasks.By(p.tx, store.ByState, state)) {
			switch {
			case old.StopRequest == nil:
			case state == store.TaskPending:
				p.end(old, old.StopRequest.Code, old.StopRequest.Reason)
			case old.Desired != model.Stopped:
				t := *old
				t.Desired, t.StoppingAt = model.Stopped, p.now
				t.Version++
				store.Tasks.Put(p.tx, &t)
				p.say("stopping task", "task", t.ID, "reason", t.StopRequest.Reason)
			}
		}
	}
}

// place puts the tasks of services that are nowhere yet on instances. (RunTask and StartTask place their own.)
func (p *pass) place() {
	waiting := slices.Collect(store.Tasks.By(p.tx, store.ByState, store.TaskPending))
	if len(waiting) == 0 {
		return
	}
	if look, ok := p.tx.(*probe); ok {
		look.wrote = true // places are taken within an Update only
		return
	}
	slices.SortStableFunc(waiting, func(a, b *model.Task) int { return a.CreatedAt.Compare(b.CreatedAt) })
	told := map[string]bool{}
	for _, old := range waiting {
		d := p.Places.Place(p.tx, old)
		if d.InstanceID == "" {
			if key := old.Cluster + "/" + old.Service; old.Service != "" && !told[key] {
				told[key] = true
				p.event(key, "(service "+old.Service+") was unable to place a task because no container instance met all of its "+
					"requirements. Reason: "+d.Explanation+" For more information, see the Troubleshooting section of the Amazon ECS "+
					"Developer Guide.")
			}
			continue
		}
		t := *old
		t.InstanceID, t.NodeID, t.PlacedAt = d.InstanceID, d.NodeID, p.now
		store.Tasks.Put(p.tx, &t)
		p.say("placed task", "task", t.ID, "node", t.NodeID, "reason", d.Reason)
	}
}

// event adds to a service's events unless it said the same not long ago.
func (p *pass) event(service, text string) {
	old, ok := store.Services.Get(p.tx, service)
	if !ok {
		return
	}
	events := deploy.AppendEvent(old.Events, text, task.UUID(p.NewID()), p.now)
	if len(events) == len(old.Events) && (len(events) == 0 || *events[0].Id == *old.Events[0].Id) {
		return
	}
	s := *old
	s.Events = events
	store.Services.Put(p.tx, &s)
	p.say(text, "service", service)
}

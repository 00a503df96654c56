package deploy

import (
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// world is a service and whoever applies its plans: control, as Plan's contract describes it.
type world struct {
	Input
	made    int // tasks ever
	back    int // rollbacks ever
	started int
	checks  bool // new tasks have container checks
	lbs     int  // new tasks have so many target groups
	told    []types.ServiceEvent
}

// listen makes plans know what was told.
func (w *world) listen() { w.Said = func(text string) bool { return Told(w.told, text, w.Now) } }

// apply plans once and applies it.
func apply(f *fixture) *world {
	w := &world{Input: f.Input}
	w.listen()
	w.apply(Plan(f.Input))
	return w
}

func (w *world) apply(actions []Action) {
	var running []string
	waiting := 0
	for _, a := range actions {
		switch a := a.(type) {
		case Account:
			for _, id := range a.TaskIDs {
				w.change(id, func(t *Task) { t.Accounted = true })
			}
		case Healthy:
			for _, id := range a.TaskIDs {
				w.change(id, func(t *Task) { t.SeenHealthy = true })
			}
		case Put:
			w.put(a.Deployment)
		case Stop:
			w.change(a.TaskID, func(t *Task) {
				t.StopRequest = &model.StopRequest{Code: a.Code, Reason: a.Text, At: w.Now}
				t.Desired = model.Stopped
			})
			if a.Pending {
				waiting++
			} else {
				running = append(running, a.TaskID)
			}
		case End:
			w.change(a.TaskID, func(t *Task) { ended(types.TaskStopCodeInfrastructureHealth)(t) })
		case Start:
			w.tell(StartedEvent(w.Service.Name, w.start(a), a.Replaced))
		case PutService:
			s := *w.Service
			s.Status, s.Steady, s.Throttle, s.RevisionID = a.Service.Status, a.Service.Steady, a.Service.Throttle, a.Service.RevisionID
			w.Service = &s
		case Event:
			w.tell(a.Text)
		}
	}
	if len(running) > 0 {
		w.tell(StoppedEvent(w.Service.Name, running))
	}
	if waiting > 0 {
		w.tell(StoppedPendingEvent(w.Service.Name, waiting))
	}
	w.Tasks = slices.DeleteFunc(slices.Clone(w.Tasks), func(t Task) bool { return t.Ended() && t.Accounted })
}

// change replaces a task by a changed copy.
func (w *world) change(id string, f func(*Task)) {
	w.Tasks = slices.Clone(w.Tasks)
	for i, t := range w.Tasks {
		if t.ID == id {
			inner := *t.Task
			w.Tasks[i].Task = &inner
			f(&w.Tasks[i])
		}
	}
}

func (w *world) put(d *model.Deployment) {
	w.Deployments = slices.Clone(w.Deployments)
	for i, was := range w.Deployments {
		if was.ID == d.ID {
			w.Deployments[i] = d
			return
		}
	}
	w.Deployments = slices.Insert(w.Deployments, 0, d)
	w.back++
	w.NewID = fmt.Sprintf("ecs-svc/%d", 900+w.back)
}

func (w *world) start(a Start) []string {
	var ids []string
	for range a.Count {
		w.made++
		w.started++
		id := fmt.Sprintf("t%04d", w.made)
		ids = append(ids, id)
		w.Tasks = append(slices.Clone(w.Tasks), Task{
			Task: &model.Task{ID: id, Cluster: w.Service.Cluster, Service: w.Service.Name, Deployment: a.Deployment,
				CreatedAt: w.Now, Desired: model.Running, Observed: model.Observed{Status: model.Provisioning}},
			ContainerChecks: w.checks, LoadBalancers: w.lbs,
		})
	}
	return ids
}

func (w *world) tell(text string) {
	if Told(w.told, text, w.Now) {
		return
	}
	w.told = append(w.told, types.ServiceEvent{Message: &text, CreatedAt: new(w.Now)})
}

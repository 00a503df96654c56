package deploy

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// sim is a world in which anything may happen to tasks, with its own account of the truth.
type sim struct {
	*world
	failures map[string]int32 // by deployment: what must be in FailedTasks
	revision int
	hosts    map[string]bool // draining, by instance
	lost     map[string]bool // by instance
}

func newSim(t *rapid.T) *sim {
	least, most := drawBounds(t)
	desired := rapid.Int32Range(0, 6).Draw(t, "desired")
	f := service(desired, least, most).rolling(1)
	f.Service.HealthCheckGracePeriodSeconds = rapid.SampledFrom([]int32{0, 0, 5}).Draw(t, "grace")
	if rapid.Bool().Draw(t, "breaker") {
		f.breaker(rapid.Bool().Draw(t, "rollback"))
	}
	w := &world{Input: f.Input, checks: rapid.Bool().Draw(t, "checks"), lbs: rapid.IntRange(0, 2).Draw(t, "lbs")}
	w.Limit = rapid.SampledFrom([]int{0, 0, 1, 2, 4}).Draw(t, "limit")
	w.listen()
	return &sim{world: w, failures: map[string]int32{}, revision: 1, hosts: map[string]bool{}, lost: map[string]bool{}}
}

// drawBounds draws percentages, now and then ones that leave no move.
func drawBounds(t *rapid.T) (least, most int32) {
	return rapid.SampledFrom([]int32{0, 50, 66, 100}).Draw(t, "least"), rapid.SampledFrom([]int32{100, 150, 200}).Draw(t, "most")
}

// counts are what the bounds are about, read from the tasks and not from the planner.
type counts struct{ well, inUse int }

func (s *sim) count() counts {
	var c counts
	for _, t := range s.Tasks {
		if t.Ended() || t.Lost {
			continue
		}
		if leaving := t.StopRequest != nil || t.Observed.Status.Rung() > model.Running.Rung(); !leaving {
			c.inUse++
			if s.well(t) {
				c.well++
			}
		} else if *s.Service.DeploymentConfiguration.MaximumPercent == 100 {
			c.inUse++
		}
	}
	return c
}

func (s *sim) well(t Task) bool {
	if t.Observed.Status != model.Running || (t.ContainerChecks && t.Observed.Health != types.HealthStatusHealthy) {
		return false
	}
	for _, target := range t.Targets {
		if target.State != "healthy" {
			return false
		}
	}
	if t.LoadBalancers > 0 || t.ContainerChecks {
		return len(t.Targets) == t.LoadBalancers
	}
	return s.Now.Sub(t.Observed.StartedAt) >= 2*time.Second
}

// plan plans, checks the bounds and that the plan is whole, and applies it: at once, or in as many steps as the limit asks for.
func (s *sim) plan(t *rapid.T) {
	for range 100 {
		ended := s.planOnce(t) // which is a change, and leads to another plan
		if s.Limit == 0 && !ended || len(Plan(s.Input)) == 0 {
			break
		}
	}
	if again := Plan(s.Input); len(again) > 0 {
		t.Fatalf("after all steps there is more to do:\n%q", script(again))
	}
	for _, d := range s.Deployments {
		if d.FailedTasks != s.failures[d.ID] {
			t.Fatalf("%s counts %d failures, there were %d", d.ID, d.FailedTasks, s.failures[d.ID])
		}
	}
}

func (s *sim) planOnce(t *rapid.T) (ended bool) {
	s.NewID = fmt.Sprintf("ecs-svc/%d", 900+s.back)
	before, actions := s.count(), Plan(s.Input)
	s.checkEnds(t, actions)
	failed := s.failedPrimary()
	s.apply(actions)
	after := s.count()
	desired := int(s.Service.DesiredCount)
	least := (desired*int(*s.Service.DeploymentConfiguration.MinimumHealthyPercent) + 99) / 100
	most := desired * int(*s.Service.DeploymentConfiguration.MaximumPercent) / 100
	if s.Service.Status == "ACTIVE" && after.well < min(before.well, least) {
		t.Fatalf("stops left %d of %d healthy tasks, at least %d must stay: %q", after.well, before.well, least, script(actions))
	}
	if after.inUse > max(before.inUse, most) {
		t.Fatalf("starts made %d of %d tasks, at most %d may be: %q", after.inUse, before.inUse, most, script(actions))
	}
	if failed && slices.ContainsFunc(actions, func(a Action) bool { _, ok := a.(Start); return ok }) {
		t.Fatalf("a failed deployment started tasks: %q", script(actions))
	}
	changed := 0
	for _, a := range actions {
		switch a := a.(type) {
		case Stop, End:
			changed++
		case Start:
			changed += a.Count
		case Account:
			if s.Limit > 0 && len(a.TaskIDs) > s.Limit {
				t.Fatalf("%d tasks are accounted for, the limit is %d", len(a.TaskIDs), s.Limit)
			}
		}
	}
	if s.Limit > 0 && changed > s.Limit {
		t.Fatalf("%d tasks are started and stopped, the limit is %d: %q", changed, s.Limit, script(actions))
	}
	return slices.ContainsFunc(actions, func(a Action) bool { _, ok := a.(End); return ok })
}

func (s *sim) primary() *model.Deployment {
	for _, d := range s.Deployments {
		if d.Status == model.DeploymentPrimary {
			return d
		}
	}
	return nil
}

// failedPrimary tells whether the deployment has failed and nothing newer was asked for.
func (s *sim) failedPrimary() bool {
	d := s.primary()
	return d != nil && d.RolloutState == types.DeploymentRolloutStateFailed
}

// rolling tells whether a task's own end counts as a failure.
func (s *sim) rolling(t Task) bool {
	d := s.primary()
	return d != nil && d.ID == t.Deployment && d.RolloutState == types.DeploymentRolloutStateInProgress
}

// end ends a task: by itself with that code, or, with none, as asked. Nobody asked for the end of one that was leaving already.
func (s *sim) end(t Task, code types.TaskStopCode) {
	if t.StopRequest == nil && code == "" {
		code = types.TaskStopCodeEssentialContainerExited
	}
	sick := t.StopRequest != nil && code == "" && failedHealth(t.StopRequest)
	ran := !t.Observed.StartedAt.IsZero()
	if sick || (code != "" && (!ran || s.rolling(t))) {
		s.failures[t.Deployment]++
	}
	s.change(t.ID, func(t *Task) {
		t.Observed.Status, t.Observed.StopCode, t.Observed.StoppedAt = model.Stopped, code, s.Now
		t.Desired = model.Stopped
	})
}

func (s *sim) begin(t Task) {
	s.change(t.ID, func(t *Task) { t.Observed.Status, t.Observed.StartedAt = model.Running, s.Now })
}

func (s *sim) check(t Task, ok bool) {
	health, state := types.HealthStatusUnhealthy, "unhealthy"
	if ok {
		health, state = types.HealthStatusHealthy, "healthy"
	}
	s.change(t.ID, func(t *Task) {
		if t.ContainerChecks {
			t.Observed.Health = health
		}
		t.Targets = nil
		for i := range t.LoadBalancers {
			t.Targets = append(t.Targets, TargetState{TargetGroupARN: fmt.Sprint("arn:", i), ID: "10.0.0.1", Port: 80, State: state})
		}
	})
}

// happen lets one thing happen to one task.
func (s *sim) happen(t *rapid.T, task Task) {
	events := []string{"place", "crash", "stop"}
	switch {
	case task.StopRequest != nil:
		events = []string{"end", "end", "crash"}
	case model.Running.Before(task.Observed.Status):
		events = []string{"crash"}
	case task.Observed.Status == model.Running:
		events = append(events, "well", "well", "sick", "leave")
	default:
		events = append(events, "run", "run", "run")
	}
	switch rapid.SampledFrom(events).Draw(t, "event") {
	case "place":
		host := rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "host")
		if task.InstanceID == "" {
			s.change(task.ID, func(t *Task) { t.InstanceID, t.Draining, t.Lost = host, s.hosts[host], s.lost[host] })
		}
	case "run":
		s.begin(task)
	case "well":
		s.check(task, true)
	case "sick":
		s.check(task, false)
	case "crash":
		s.end(task, types.TaskStopCodeEssentialContainerExited)
	case "end":
		s.end(task, "")
	case "leave":
		s.change(task.ID, func(t *Task) { t.Observed.Status = model.Deprovisioning })
	case "stop":
		s.change(task.ID, asked(types.TaskStopCodeUserInitiated, "Task stopped by user"))
	}
}

func (s *sim) update(change func(*model.Service)) {
	c := *s.Service
	change(&c)
	s.Service = &c
}

// deploy is what UpdateService does: a new revision and a new PRIMARY deployment beside the old one.
func (s *sim) deploy() {
	s.revision++
	digits := fmt.Sprint(s.revision)
	s.Revisions = maps.Clone(s.Revisions)
	s.Revisions[digits] = &model.ServiceRevision{ID: digits}
	s.Deployments = slices.Insert(slices.Clone(s.Deployments), 0, &model.Deployment{
		ID: "ecs-svc/" + digits, Cluster: "default", Service: "web", RevisionID: digits, Status: model.DeploymentPrimary,
		RolloutState: types.DeploymentRolloutStateInProgress, State: types.ServiceDeploymentStatusPending, CreatedAt: s.Now,
	})
	s.update(func(c *model.Service) { c.RevisionID = digits })
}

// step changes the world a little.
func (s *sim) step(t *rapid.T) {
	passes := []time.Duration{time.Millisecond, time.Second, 3 * time.Second, time.Minute}
	s.Now = s.Now.Add(rapid.SampledFrom(passes).Draw(t, "pass"))
	switch rapid.IntRange(0, 26).Draw(t, "step") {
	case 0:
		s.deploy()
	case 1:
		n := rapid.Int32Range(0, 6).Draw(t, "desired")
		s.update(func(c *model.Service) { c.DesiredCount = n })
	case 2:
		host := rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "host")
		s.hosts[host] = !s.hosts[host]
		for _, task := range s.Tasks {
			if task.InstanceID == host {
				s.change(task.ID, func(t *Task) { t.Draining = s.hosts[host] })
			}
		}
	case 4, 5:
		host := rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "host")
		s.lose(host, !s.lost[host])
	case 3:
		least, most := drawBounds(t)
		s.update(func(c *model.Service) {
			c.DeploymentConfiguration.MinimumHealthyPercent, c.DeploymentConfiguration.MaximumPercent = &least, &most
		})
	default:
		for range rapid.IntRange(1, 3).Draw(t, "events") {
			live := slices.DeleteFunc(slices.Clone(s.Tasks), func(t Task) bool { return t.Ended() || t.Lost })
			if len(live) > 0 {
				s.happen(t, live[rapid.IntRange(0, len(live)-1).Draw(t, "task")])
			}
		}
	}
}

// lose loses a machine, or finds it again.
func (s *sim) lose(host string, lost bool) {
	s.lost[host] = lost
	for _, task := range s.Tasks {
		if task.InstanceID == host {
			s.change(task.ID, func(t *Task) { t.Lost = lost })
		}
	}
}

// checkEnds: only tasks of lost machines are ended, and those that nobody asked to stop only when others stand in for them.
func (s *sim) checkEnds(t *rapid.T, actions []Action) {
	ends := map[string]bool{}
	for _, a := range actions {
		if e, ok := a.(End); ok {
			ends[e.TaskID] = true
		}
	}
	kept, unasked := 0, 0
	for _, task := range s.Tasks {
		switch {
		case task.Ended():
		case ends[task.ID] && !task.Lost:
			t.Fatalf("task %s is ended, and its machine is not lost", task.ID)
		case !task.Lost || task.StopRequest != nil || model.Running.Before(task.Observed.Status):
		case ends[task.ID]:
			unasked++
		default:
			kept++
		}
	}
	if well := s.count().well; unasked > 0 && s.Service.Status == "ACTIVE" && well+kept < int(s.Service.DesiredCount) {
		t.Fatalf("%d tasks are ended, though only %d are healthy and %d more are kept", unasked, well, kept)
	}
}

// calm lets everything go well until nothing is left to do.
func (s *sim) calm(t *rapid.T) {
	clear(s.hosts)
	for host := range s.lost {
		s.lose(host, rapid.Bool().Draw(t, host+" stays lost"))
	}
	for range 60 {
		s.Now = s.Now.Add(61 * time.Second) // past every throttle
		for _, task := range s.Tasks {
			switch {
			case task.Ended() || task.Lost:
				continue
			case task.StopRequest != nil || task.Observed.Status.Rung() > model.Running.Rung():
				s.end(task, "")
			case task.Observed.Status != model.Running:
				s.begin(task)
			default:
				s.check(task, true)
			}
			s.change(task.ID, func(t *Task) { t.InstanceID, t.Draining = "n1", false })
		}
		s.plan(t)
	}
}

// Whatever happens, the bounds hold, each plan is whole, failures are exact; and once the trouble ends the service gets there.
func TestPlanHoldsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(t)
		s.plan(t)
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			s.step(t)
			s.plan(t)
		}
		hopeless := s.failedPrimary()
		if b := boundsOf(s.Service); b.most == b.desired && b.least == b.desired && b.desired > 0 {
			hopeless = true // minimum and maximum leave no move
		}
		s.calm(t)
		if hopeless || s.failedPrimary() {
			return
		}
		if !s.Service.Steady || len(s.Tasks) != int(s.Service.DesiredCount) {
			t.Fatalf("steady %t with %d of %d tasks", s.Service.Steady, len(s.Tasks), s.Service.DesiredCount)
		}
		for _, d := range s.Deployments {
			if d.Live() != (d.ID == s.primary().ID) {
				t.Fatalf("deployment %s is %s beside the primary", d.ID, d.Status)
			}
			if d.Live() && d.State != types.ServiceDeploymentStatusSuccessful || !d.Live() && !final(d.State) {
				t.Fatalf("service deployment of %s (%s) is %s", d.ID, d.Status, d.State)
			}
		}
		for _, task := range s.Tasks {
			if task.Deployment != s.primary().ID || s.primary().RevisionID != s.Service.RevisionID {
				t.Fatalf("task of %s, primary %s, service at revision %s", task.Deployment, s.primary().ID, s.Service.RevisionID)
			}
		}
	})
}

// However the new revision's tasks fail, the breaker trips at its threshold and the service ends where it was.
func TestRollbackEndsAtTheOldRevision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(t)
		f := &fixture{s.Input}
		s.Input = f.breaker(true).Input
		least, most := int32(100), int32(200)
		n := rapid.Int32Range(1, 8).Draw(t, "wanted")
		s.update(func(c *model.Service) {
			c.DesiredCount = n
			c.DeploymentConfiguration.MinimumHealthyPercent, c.DeploymentConfiguration.MaximumPercent = &least, &most
		})
		s.calm(t)
		old := s.Service.RevisionID
		s.deploy()
		bad := s.Service.RevisionID
		s.plan(t)
		for range 400 {
			if s.Service.RevisionID == old {
				break
			}
			s.Now = s.Now.Add(61 * time.Second)
			for _, task := range s.Tasks {
				if task.Deployment == "ecs-svc/"+bad && !task.Ended() {
					s.spoil(t, task)
				}
			}
			s.plan(t)
			if well := s.count().well; well < int(n) {
				t.Fatalf("only %d of %d tasks are healthy while the bad revision fails", well, n)
			}
		}
		failed := s.Deployments[slices.IndexFunc(s.Deployments, func(d *model.Deployment) bool { return d.RevisionID == bad })]
		if !failed.BreakerTripped || failed.FailedTasks < BreakerThreshold(s.Service) {
			t.Fatalf("tripped %t after %d failures, threshold is %d", failed.BreakerTripped,
				failed.FailedTasks, BreakerThreshold(s.Service))
		}
		if more := failed.FailedTasks - BreakerThreshold(s.Service); more >= 2*n { // a round that ends and one that stops
			t.Fatalf("%d failures, threshold %d: it went on for longer than a round", failed.FailedTasks, BreakerThreshold(s.Service))
		}
		s.calm(t)
		if !s.Service.Steady || s.Service.RevisionID != old || s.primary().RevisionID != old {
			t.Fatalf("steady %t at revision %s, primary at %s, want %s", s.Service.Steady, s.Service.RevisionID,
				s.primary().RevisionID, old)
		}
		for _, d := range s.Deployments {
			if d.RevisionID == bad && d.State != types.ServiceDeploymentStatusRollbackSuccessful {
				t.Fatalf("the bad service deployment is %s", d.State)
			}
		}
	})
}

// spoil lets a task of a bad revision go one step towards its end.
func (s *sim) spoil(t *rapid.T, task Task) {
	switch {
	case task.StopRequest != nil:
		s.end(task, "")
	case task.Observed.Status == model.Running && (task.ContainerChecks || task.LoadBalancers > 0):
		if rapid.Bool().Draw(t, "crash") {
			s.end(task, types.TaskStopCodeEssentialContainerExited)
			return
		}
		s.check(task, false)
	case task.ContainerChecks || task.LoadBalancers > 0:
		if rapid.Bool().Draw(t, "run") {
			s.begin(task)
			return
		}
		s.end(task, types.TaskStopCodeTaskFailedToStart)
	default:
		s.end(task, types.TaskStopCodeTaskFailedToStart)
	}
}

// The order in which the input lists tasks and deployments decides nothing.
func TestPlanIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(t)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			s.step(t)
			s.plan(t)
		}
		s.step(t)
		want := script(Plan(s.Input))
		in := s.Input
		in.Tasks = rapid.Permutation(in.Tasks).Draw(t, "tasks")
		if got := script(Plan(in)); !slices.Equal(got, want) {
			t.Fatalf("plan is\n%q\nand in another order\n%q", want, got)
		}
	})
}

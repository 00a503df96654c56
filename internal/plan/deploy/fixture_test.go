package deploy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// now is the moment of every table; tasks are a minute old and have been RUNNING for half of it unless a test says otherwise.
var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const group = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/web/1"

// fixture builds an Input for service "web" with deployments ecs-svc/1, 2, … whose revisions bear the same digits.
type fixture struct{ Input }

func service(desired, least, most int32) *fixture {
	return &fixture{Input{
		Service: &model.Service{
			Cluster: "default", Name: "web", Status: "ACTIVE", DesiredCount: desired, RevisionID: "1",
			DeploymentConfiguration: types.DeploymentConfiguration{MinimumHealthyPercent: &least, MaximumPercent: &most},
		},
		Revisions: map[string]*model.ServiceRevision{},
		Now:       now, Pace: model.PaceFast, NewID: "ecs-svc/9",
	}}
}

// dep adds a deployment, newer than those before it.
func (f *fixture) dep(n int, status string, state types.DeploymentRolloutState, change ...func(*model.Deployment)) *fixture {
	digits := fmt.Sprint(n)
	d := &model.Deployment{
		ID: "ecs-svc/" + digits, Cluster: "default", Service: "web", RevisionID: digits, Status: status, RolloutState: state,
		State: types.ServiceDeploymentStatusInProgress, CreatedAt: now.Add(time.Duration(n-10) * time.Minute),
	}
	d.StartedAt = d.CreatedAt
	if state == types.DeploymentRolloutStateCompleted {
		d.State = types.ServiceDeploymentStatusSuccessful
	}
	for _, c := range change {
		c(d)
	}
	f.Deployments = slices.Insert(f.Deployments, 0, d)
	f.Revisions[digits] = &model.ServiceRevision{ID: digits}
	if status == model.DeploymentPrimary {
		f.Service.RevisionID = digits
	}
	return f
}

// primary, superseded and past add the usual deployments.
func (f *fixture) rolling(n int, change ...func(*model.Deployment)) *fixture {
	return f.dep(n, model.DeploymentPrimary, types.DeploymentRolloutStateInProgress, change...)
}

func (f *fixture) done(n int, change ...func(*model.Deployment)) *fixture {
	return f.dep(n, model.DeploymentPrimary, types.DeploymentRolloutStateCompleted, change...)
}

func (f *fixture) old(n int, change ...func(*model.Deployment)) *fixture {
	return f.dep(n, model.DeploymentActive, types.DeploymentRolloutStateCompleted, change...)
}

func (f *fixture) past(n int) *fixture {
	return f.dep(n, model.DeploymentInactive, types.DeploymentRolloutStateCompleted)
}

func (f *fixture) with(change func(*Input)) *fixture {
	change(&f.Input)
	return f
}

func (f *fixture) steady() *fixture { return f.with(func(in *Input) { in.Service.Steady = true }) }

func (f *fixture) breaker(rollback bool) *fixture {
	return f.with(func(in *Input) {
		in.Service.DeploymentConfiguration.DeploymentCircuitBreaker = &types.DeploymentCircuitBreaker{
			Enable: true, Rollback: rollback}
	})
}

// tasks adds tasks of deployment n, one for each letter of ids.
func (f *fixture) tasks(n int, ids string, change ...func(*Task)) *fixture {
	for _, id := range strings.Split(ids, "") {
		t := Task{Task: &model.Task{
			ID: id, Cluster: "default", Service: "web", Deployment: fmt.Sprintf("ecs-svc/%d", n), InstanceID: "n1",
			CreatedAt: now.Add(-time.Minute), Desired: model.Running, Observed: model.Observed{Status: model.Provisioning},
		}}
		for _, c := range change {
			c(&t)
		}
		f.Input.Tasks = append(f.Input.Tasks, t)
	}
	return f
}

// What may have become of a task.

func running(t *Task) {
	t.Observed.Status, t.Observed.StartedAt = model.Running, now.Add(-30*time.Second)
}

func fresh(t *Task) { running(t); t.Observed.StartedAt = now.Add(-time.Second) }

func unplaced(t *Task) { t.InstanceID = "" }

func draining(t *Task) { t.Draining = true }

func on(instance string) func(*Task) { return func(t *Task) { t.InstanceID = instance } }

func asked(code types.TaskStopCode, reason string) func(*Task) {
	return func(t *Task) {
		t.StopRequest = &model.StopRequest{Code: code, Reason: reason, At: now.Add(-5 * time.Second)}
		t.Desired = model.Stopped
	}
}

func scaledIn(t *Task) {
	asked(types.TaskStopCodeServiceSchedulerInitiated, "Scaling activity initiated by (deployment x)")(t)
}

func ended(code types.TaskStopCode) func(*Task) {
	return func(t *Task) {
		t.Observed.Status, t.Observed.StopCode, t.Desired = model.Stopped, code, model.Stopped
		t.Observed.StoppedAt = now
	}
}

var (
	crashed       = ended(types.TaskStopCodeEssentialContainerExited)
	failedToStart = ended(types.TaskStopCodeTaskFailedToStart)
	asRequested   = ended("")
)

// checked gives the task a container health check that says h.
func checked(h types.HealthStatus) func(*Task) {
	return func(t *Task) { running(t); t.ContainerChecks, t.Observed.Health = true, h }
}

// target gives the task a load balancer whose target is in that state; "" registers none.
func target(state string) func(*Task) {
	return func(t *Task) {
		running(t)
		t.LoadBalancers++
		if state != "" {
			t.Targets = append(t.Targets, TargetState{TargetGroupARN: group, ID: "10.0.0.2", Port: 8080, State: state,
				Description: "Health checks failed with these codes: [502]"})
		}
	}
}

// script spells actions, one a line, for whole-plan comparisons.
func script(actions []Action) []string {
	var out []string
	for _, a := range actions {
		out = append(out, line(a))
	}
	return out
}

func line(a Action) string {
	switch a := a.(type) {
	case Account:
		return fmt.Sprintf("account %s: %s", strings.Join(a.TaskIDs, ","), a.Reason)
	case Healthy:
		return "healthy " + strings.Join(a.TaskIDs, ",")
	case Put:
		d := a.Deployment
		s := fmt.Sprintf("put %s rev %s %s %s %s", d.ID, d.RevisionID, d.Status, d.RolloutState, d.State)
		if d.FailedTasks != 0 || d.BreakerCount != 0 {
			s += fmt.Sprintf(" failed %d/%d", d.FailedTasks, d.BreakerCount)
		}
		return s + ": " + a.Reason
	case Stop:
		what := "stop"
		if a.Pending {
			what = "stop pending"
		}
		return fmt.Sprintf("%s %s [%s %s]: %s", what, a.TaskID, a.Code, a.Text, a.Reason)
	case End:
		return "end " + a.TaskID + ": " + a.Reason
	case Start:
		s := fmt.Sprintf("start %d of %s", a.Count, a.Deployment)
		if a.Replaced > 0 {
			s += fmt.Sprintf(" replacing %d", a.Replaced)
		}
		return s + ": " + a.Reason
	case Event:
		return "event " + strings.TrimPrefix(a.Text, "(service web) ")
	case PutService:
		s := a.Service
		out := fmt.Sprintf("service %s rev %s steady %t", s.Status, s.RevisionID, s.Steady)
		if s.Throttle.Failures > 0 || s.Throttle.Until.After(now) {
			out += fmt.Sprintf(" throttle %d for %s", s.Throttle.Failures, s.Throttle.Until.Sub(now))
		}
		return out + ": " + a.Reason
	}
	return fmt.Sprintf("%#v", a)
}

// scaleText is the end of a Stop's line for a task of deployment n.
func scaleText(n int) string {
	return fmt.Sprintf("[ServiceSchedulerInitiated Scaling activity initiated by (deployment ecs-svc/%d)]", n)
}

type planCase struct {
	name string
	in   *fixture
	want []string
}

func runCases(t *testing.T, cases []planCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := script(Plan(c.in.Input))
			if !slices.Equal(got, c.want) {
				t.Errorf("plan is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
			}
			if again := script(Plan(c.in.Input)); !slices.Equal(got, again) {
				t.Errorf("the same input gave another plan:\n\t%s", strings.Join(again, "\n\t"))
			}
		})
	}
}

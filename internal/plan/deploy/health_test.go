package deploy

import (
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

const elbReason = "Task failed ELB health checks in (target-group " + group + ")"

func unhealthyTarget(id string) string {
	return "event (task " + id + ") (port 8080) is unhealthy in (target-group " + group +
		") due to (reason Health checks failed with these codes: [502])."
}

func TestHealthOfATask(t *testing.T) {
	elb := target
	for _, c := range []struct {
		name   string
		grace  int32
		change []func(*Task)
		want   phase
	}{
		{"not running", 0, nil, pending},
		{"no checks, settled", 0, []func(*Task){running}, healthy},
		{"no checks, fresh", 0, []func(*Task){fresh}, settling},
		{"no checks, never seen to start", 0, []func(*Task){running, func(t *Task) { t.Observed.StartedAt = time.Time{} }}, settling},
		{"container check passes, fresh", 0, []func(*Task){checked(good), fresh}, healthy},
		{"container check undecided", 0, []func(*Task){checked(open)}, settling},
		{"container check fails", 0, []func(*Task){checked(bad)}, unhealthy},
		{"container check fails in the grace period", 60, []func(*Task){checked(bad)}, settling},
		{"container check fails as the grace period ends", 30, []func(*Task){checked(bad)}, unhealthy},
		{"an unhealthy status without a check means nothing", 0,
			[]func(*Task){running, func(t *Task) { t.Observed.Health = bad }}, healthy},
		{"target healthy", 0, []func(*Task){elb("healthy")}, healthy},
		{"target not registered", 0, []func(*Task){elb("")}, settling},
		{"target initial", 0, []func(*Task){elb("initial")}, settling},
		{"target of a group without a listener", 0, []func(*Task){elb("unused")}, settling},
		{"target of a group without checks", 0, []func(*Task){elb("unavailable")}, healthy},
		{"target unhealthy", 0, []func(*Task){elb("unhealthy")}, unhealthy},
		{"target unhealthy in the grace period", 60, []func(*Task){elb("unhealthy")}, settling},
		{"target draining", 0, []func(*Task){elb("draining")}, settling},
		{"one of two targets healthy", 0, []func(*Task){elb("healthy"), elb("")}, settling},
		{"one of two targets unhealthy", 0, []func(*Task){elb("healthy"), elb("unhealthy")}, unhealthy},
		{"target healthy, container undecided", 0, []func(*Task){elb("healthy"), checked(open)}, settling},
		{"target undecided, container healthy", 0, []func(*Task){elb("initial"), checked(good)}, settling},
		{"both healthy", 0, []func(*Task){elb("healthy"), checked(good)}, healthy},
		{"asked to stop", 0, []func(*Task){running, scaledIn}, stopping},
		{"desired STOPPED", 0, []func(*Task){running, func(t *Task) { t.Desired = model.Stopped }}, stopping},
		{"ending by itself", 0, []func(*Task){running, func(t *Task) { t.Observed.Status = model.Deprovisioning }}, stopping},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := service(1, 100, 200).done(1).tasks(1, "a", c.change...)
			f.Service.HealthCheckGracePeriodSeconds = c.grace
			if got := newPlanner(f.Input).tasks[0].phase; got != c.want {
				t.Errorf("phase is %d, want %d", got, c.want)
			}
		})
	}
}

func TestUnhealthyTasksAreReplaced(t *testing.T) {
	runCases(t, []planCase{
		{"the replacement first where there is room", service(2, 100, 200).done(1).tasks(1, "a", target("unhealthy")).
			tasks(1, "b", target("healthy")), []string{
			unhealthyTarget("a"),
			"start 1 of ecs-svc/1 replacing 1: deployment ecs-svc/1 has 1 of 2 tasks",
		}},
		{"it stays until the replacement is healthy", service(2, 100, 200).done(1).tasks(1, "a", target("unhealthy")).
			tasks(1, "b", target("healthy")).tasks(1, "c", target("initial")), []string{unhealthyTarget("a")}},
		{"and stops then", service(2, 100, 200).done(1).tasks(1, "a", target("unhealthy")).
			tasks(1, "bc", target("healthy")), []string{
			unhealthyTarget("a"),
			"stop a [ServiceSchedulerInitiated " + elbReason + "]: " + elbReason,
		}},
		{"one that recovered makes its replacement superfluous", service(1, 100, 200).done(1).
			tasks(1, "ab", target("healthy")), []string{"stop b " + scaleText(1) + ": the service is to have 1 task"}},
		{"without room they stop one by one", service(2, 50, 100).done(1).tasks(1, "ab", checked(bad)), []string{
			"event (task a) failed container health checks.",
			"event (task b) failed container health checks.",
			"stop a [ServiceSchedulerInitiated Task failed container health checks]: not healthy, and maximumPercent (100) " +
				"leaves no room to start its replacement first",
		}},
		{"the replacement tells whom it replaces", service(1, 0, 100).done(1).tasks(1, "a", checked(bad),
			asked("ServiceSchedulerInitiated", containerChecksFailed), asRequested), []string{
			"account a: 1 task ended",
			"put ecs-svc/1 rev 1 PRIMARY COMPLETED SUCCESSFUL failed 1/0: 1 task failed",
			"start 1 of ecs-svc/1 replacing 1: deployment ecs-svc/1 has 0 of 1 task",
		}},
		{"those of a deployment in progress stop at once", service(2, 100, 200).old(1).rolling(2).
			tasks(1, "ab", running).tasks(2, "cd", checked(bad)), []string{
			"event (task c) failed container health checks.",
			"event (task d) failed container health checks.",
			"stop c [ServiceSchedulerInitiated Task failed container health checks]: Task failed container health checks",
			"stop d [ServiceSchedulerInitiated Task failed container health checks]: Task failed container health checks",
			"start 2 of ecs-svc/2 replacing 2: deployment ecs-svc/2 has 0 of 2 tasks",
		}},
	})
}

func TestTargetsAreNamedAsECSDoes(t *testing.T) {
	ec2 := func(t *Task) {
		t.Targets = []TargetState{{TargetGroupARN: group, ID: "i-0123", Port: 32875, State: "unhealthy", Reason: "Target.Timeout"}}
	}
	mute := func(t *Task) { t.Targets[0].Description = "" }
	for _, c := range []struct {
		change func(*Task)
		want   string
	}{
		{ec2, "(service web) (instance i-0123) (port 32875) is unhealthy in (target-group " + group +
			") due to (reason Target.Timeout)."},
		{mute, "(service web) (task a) (port 8080) is unhealthy in (target-group " + group +
			") due to (reason Health checks failed)."},
	} {
		f := service(2, 100, 200).done(1).tasks(1, "a", target("unhealthy"), c.change)
		if got := newPlanner(f.Input).tasks[0].event; got != c.want {
			t.Errorf("event is\n%s\nwant\n%s", got, c.want)
		}
	}
}

func TestNextLook(t *testing.T) {
	for _, c := range []struct {
		name string
		in   *fixture
		want time.Duration // from now; 0 for never
	}{
		{"nothing to wait for", service(1, 100, 200).done(1).tasks(1, "a", running), 0},
		{"a task settles", service(1, 100, 200).done(1).tasks(1, "a", fresh), time.Second},
		{"a throttle ends", service(1, 100, 200).done(1).with(func(in *Input) {
			in.Service.Throttle.Until = now.Add(5 * time.Second)
		}), 5 * time.Second},
		{"a grace period ends", service(1, 100, 200).done(1).tasks(1, "a", target("unhealthy")).with(func(in *Input) {
			in.Service.HealthCheckGracePeriodSeconds = 40
		}), 10 * time.Second},
		{"the first of several", service(2, 100, 200).done(1).tasks(1, "a", fresh).with(func(in *Input) {
			in.Service.Throttle.Until = now.Add(5 * time.Second)
		}), time.Second},
		{"no service", &fixture{}, 0},
	} {
		got := NextLook(c.in.Input)
		if c.want == 0 && !got.IsZero() || c.want != 0 && !got.Equal(now.Add(c.want)) {
			t.Errorf("%s: next look at %s, want %s from %s", c.name, got, c.want, now)
		}
	}
}

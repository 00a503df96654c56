package deploy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

func TestBreakerThreshold(t *testing.T) {
	for _, c := range []struct {
		kind    types.ThresholdType
		value   int32
		desired int32
		want    int32
	}{
		{"", 0, 1, 3}, {"", 0, 6, 3}, {"", 0, 7, 4}, {"", 0, 400, 200}, {"", 0, 5000, 200},
		{types.ThresholdTypeBoundedPercent, 10, 100, 10}, {types.ThresholdTypeBoundedPercent, 10, 5, 3},
		{types.ThresholdTypeBoundedPercent, 50, 9, 5},
		{types.ThresholdTypeCount, 1, 100, 1}, {types.ThresholdTypeCount, 7, 2, 7}, {types.ThresholdTypeCount, 0, 2, 1},
		{types.ThresholdTypeUnboundedPercent, 50, 1000, 500}, {types.ThresholdTypeUnboundedPercent, 50, 3, 2},
		{types.ThresholdTypeUnboundedPercent, 50, 0, 1},
	} {
		s := &model.Service{DesiredCount: c.desired}
		if c.kind != "" {
			s.DeploymentConfiguration.DeploymentCircuitBreaker = &types.DeploymentCircuitBreaker{
				ThresholdConfiguration: &types.ThresholdConfiguration{Type: c.kind, Value: c.value}}
		}
		if got := BreakerThreshold(s); got != c.want {
			t.Errorf("%s %d of %d tasks: threshold is %d, want %d", c.kind, c.value, c.desired, got, c.want)
		}
	}
}

func counted(n int32) func(*model.Deployment) {
	return func(d *model.Deployment) { d.BreakerCount, d.FailedTasks = n, n }
}

func TestFailuresAreCounted(t *testing.T) {
	sickTask := asked(types.TaskStopCodeServiceSchedulerInitiated, elbReason)
	for _, c := range []struct {
		name            string
		done            bool
		change          []func(*Task)
		failed, breaker int32
	}{
		{"never started", false, []func(*Task){failedToStart}, 1, 1},
		{"exited before it ran", false, []func(*Task){crashed}, 1, 1},
		{"crashed during the rollout", false, []func(*Task){running, crashed}, 1, 1},
		{"failed its checks", false, []func(*Task){running, sickTask, asRequested}, 1, 1},
		{"crashed while asked to stop for its health", false, []func(*Task){running, sickTask, crashed}, 1, 1},
		{"scaled in", false, []func(*Task){running, scaledIn, asRequested}, 0, 0},
		{"scaled in before it ran", false, []func(*Task){scaledIn, asRequested}, 0, 0},
		{"stopped by the user", false, []func(*Task){asked(types.TaskStopCodeUserInitiated, elbReason), asRequested}, 0, 0},
		{"its machine was lost", false, []func(*Task){running, ended(types.TaskStopCodeTerminationNotice)}, 0, 0},
		{"its machine was lost before it ran", false, []func(*Task){ended(types.TaskStopCodeInfrastructureHealth)}, 0, 0},
		{"never started, after the rollout", true, []func(*Task){failedToStart}, 1, 0},
		{"failed its checks after the rollout", true, []func(*Task){running, sickTask, asRequested}, 1, 0},
		{"crashed after the rollout", true, []func(*Task){running, crashed}, 0, 0},
		{"counted before", false, []func(*Task){failedToStart, func(t *Task) { t.Accounted = true }}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := service(1, 100, 200)
			if c.done {
				f.done(1)
			} else {
				f.rolling(1)
			}
			d := apply(f.tasks(1, "a", c.change...)).Deployments[0]
			if d.FailedTasks != c.failed || d.BreakerCount != c.breaker {
				t.Errorf("failed %d, breaker %d; want %d and %d", d.FailedTasks, d.BreakerCount, c.failed, c.breaker)
			}
		})
	}
}

func TestCircuitBreaker(t *testing.T) {
	runCases(t, []planCase{
		{"below the threshold it goes on", service(1, 100, 200).old(1).rolling(2, counted(1)).breaker(true).
			tasks(1, "a", running).tasks(2, "b", failedToStart), []string{
			"account b: 1 task ended",
			"put ecs-svc/2 rev 2 PRIMARY IN_PROGRESS IN_PROGRESS failed 2/2: 1 task failed",
			"service ACTIVE rev 2 steady false throttle 1 for 1s: tasks fail soon after they start (1 in a row never ran)",
		}},
		{"at the threshold it rolls back, in one step", service(1, 100, 200).old(1).rolling(2, counted(2)).breaker(true).
			tasks(1, "a", running).tasks(2, "b", failedToStart), []string{
			"account b: 1 task ended",
			"put ecs-svc/9 rev 1 PRIMARY IN_PROGRESS IN_PROGRESS: deployment ecs-svc/2 failed: back to revision 1 of deployment ecs-svc/1",
			"put ecs-svc/2 rev 2 ACTIVE FAILED ROLLBACK_IN_PROGRESS failed 3/3: 1 task failed; deployment failed: tasks failed to start.",
			"event (deployment ecs-svc/2) deployment failed: tasks failed to start.",
			"event rolling back to deployment ecs-svc/9.",
			"start 1 of ecs-svc/9: deployment ecs-svc/9 has 0 of 1 task",
			"service ACTIVE rev 1 steady false: tasks fail soon after they start (1 in a row never ran); " +
				"the service rolls back to revision 1; a new deployment ends the throttle",
		}},
		{"without rollback it only fails", service(2, 100, 200).old(1).rolling(2, counted(2)).breaker(false).
			tasks(1, "ab", running).tasks(2, "c", running, crashed).tasks(2, "d", fresh), []string{
			"account c: 1 task ended",
			"put ecs-svc/2 rev 2 PRIMARY FAILED STOPPED failed 3/3: 1 task failed; deployment failed: tasks failed to start.",
			"event (deployment ecs-svc/2) deployment failed: tasks failed to start.",
			"stop d " + scaleText(2) + ": the service is to have 2 tasks",
		}},
		{"a failed deployment starts nothing", service(2, 100, 200).dep(1, model.DeploymentPrimary,
			types.DeploymentRolloutStateFailed, stopped), nil},
		{"nor does it stop what is left", service(2, 100, 200).old(1).dep(2, model.DeploymentPrimary,
			types.DeploymentRolloutStateFailed, stopped).tasks(1, "a", running).tasks(2, "b", checked(bad)),
			[]string{"event (task b) failed container health checks."}},
		{"scaled in after a failure, the old deployment's tasks stay, the best of them", service(2, 100, 200).old(1).
			dep(2, model.DeploymentPrimary, types.DeploymentRolloutStateFailed, stopped).
			tasks(1, "a", running).tasks(1, "b", fresh).tasks(1, "c", unplaced).tasks(2, "d", running).
			tasks(2, "e", fresh).tasks(2, "f").tasks(2, "g", draining).tasks(1, "h", checked(bad)), []string{
			"event (task h) failed container health checks.",
			"stop pending g " + scaleText(2) + ": its container instance is draining",
			"stop pending f " + scaleText(2) + ": the service is to have 2 tasks",
			"stop pending c " + scaleText(1) + ": the service is to have 2 tasks",
			"stop e " + scaleText(2) + ": the service is to have 2 tasks",
			"stop h " + scaleText(1) + ": the service is to have 2 tasks",
			"stop b " + scaleText(1) + ": the service is to have 2 tasks",
		}},
		{"nothing to go back to", service(1, 100, 200).rolling(1, counted(2)).breaker(true).tasks(1, "a", failedToStart),
			[]string{
				"account a: 1 task ended",
				"put ecs-svc/1 rev 1 PRIMARY FAILED ROLLBACK_FAILED failed 3/3: 1 task failed; " +
					"deployment failed: tasks failed to start.",
				"event (deployment ecs-svc/1) deployment failed: tasks failed to start.",
				"service ACTIVE rev 1 steady false throttle 1 for 1s: tasks fail soon after they start (1 in a row never ran)",
			}},
		{"it is off unless enabled", service(1, 100, 200).old(1).rolling(2, counted(50)).
			tasks(1, "a", running).tasks(2, "b"), nil},
		{"a healthy task resets the count", service(2, 100, 200).old(1).rolling(2, counted(2)).breaker(true).
			tasks(1, "ab", running).tasks(2, "c", running).tasks(2, "d", fresh), []string{
			"healthy c",
			"put ecs-svc/2 rev 2 PRIMARY IN_PROGRESS IN_PROGRESS failed 2/0: a task became healthy",
			"stop a " + scaleText(1) + ": replaced by deployment ecs-svc/2",
		}},
		{"but each task only once", service(2, 100, 200).old(1).rolling(2, counted(2), func(d *model.Deployment) {
			d.BreakerCount = 1
		}).breaker(true).tasks(1, "a", running).tasks(2, "c", running, func(t *Task) { t.SeenHealthy = true }).tasks(2, "d", fresh), nil},
		{"and not when told otherwise", service(2, 100, 200).old(1).rolling(2, counted(2)).breaker(true).
			with(func(in *Input) {
				in.Service.DeploymentConfiguration.DeploymentCircuitBreaker.ResetOnHealthyTask = new(bool)
			}).tasks(1, "a", running).tasks(2, "c", running).tasks(2, "d", fresh), nil},
	})
}

func stopped(d *model.Deployment) { d.State = types.ServiceDeploymentStatusStopped }

func rollingBack(d *model.Deployment) {
	d.Status, d.RolledBackBy = model.DeploymentActive, "ecs-svc/3"
	d.RolloutState, d.State = types.DeploymentRolloutStateFailed, types.ServiceDeploymentStatusRollbackInProgress
	d.StateReason = breakerVerdict.rolledBack
}

func rollback(d *model.Deployment) { d.RollbackOf, d.RevisionID = "ecs-svc/2", "1" }

func TestRollback(t *testing.T) {
	runCases(t, []planCase{
		{"the failed deployment stays in sight while it is rolled back", service(1, 100, 200).old(1).old(2, rollingBack).
			rolling(3, rollback).tasks(1, "a", running).tasks(3, "b", fresh), nil},
		{"it ends well", service(1, 100, 200).past(1).old(2, rollingBack).rolling(3, rollback).tasks(3, "b", running), []string{
			"put ecs-svc/3 rev 1 PRIMARY COMPLETED SUCCESSFUL: all of its tasks are healthy",
			"put ecs-svc/2 rev 2 INACTIVE FAILED ROLLBACK_SUCCESSFUL: it is rolled back; it has no tasks left",
			"event (deployment ecs-svc/3) deployment completed.",
			"event has reached a steady state.",
			"service ACTIVE rev 3 steady true: the service is steady",
		}},
		{"it fails too: no second rollback", service(1, 100, 200).past(1).old(2, rollingBack).rolling(3, rollback, counted(2)).
			breaker(true).tasks(3, "b", running, crashed), []string{
			"account b: 1 task ended",
			"put ecs-svc/3 rev 1 PRIMARY FAILED STOPPED failed 3/3: 1 task failed; deployment failed: tasks failed to start.",
			"put ecs-svc/2 rev 2 INACTIVE FAILED ROLLBACK_FAILED: its rollback failed; it has no tasks left",
			"event (deployment ecs-svc/3) deployment failed: tasks failed to start.",
		}},
		{"a new deployment supersedes it", service(1, 100, 200).past(1).old(2, rollingBack).rolling(3, rollback).rolling(4).
			tasks(4, "a"), []string{
			"put ecs-svc/3 rev 1 INACTIVE IN_PROGRESS STOPPED: superseded by deployment ecs-svc/4; " +
				"its service deployment is stopped; it has no tasks left",
			"put ecs-svc/2 rev 2 INACTIVE FAILED ROLLBACK_FAILED: its rollback is superseded; it has no tasks left",
		}},
		{"the user asks for it", service(1, 100, 200).old(1).rolling(2, func(d *model.Deployment) {
			d.StopRequested = types.StopServiceDeploymentStopTypeRollback
			d.State = types.ServiceDeploymentStatusRollbackRequested
		}).tasks(1, "a", running).tasks(2, "b"), []string{
			"put ecs-svc/9 rev 1 PRIMARY IN_PROGRESS IN_PROGRESS: deployment ecs-svc/2 failed: back to revision 1 of deployment ecs-svc/1",
			"put ecs-svc/2 rev 2 ACTIVE FAILED ROLLBACK_IN_PROGRESS: deployment failed: stopped by the user.",
			"event (deployment ecs-svc/2) deployment failed: stopped by the user.",
			"event rolling back to deployment ecs-svc/9.",
			"stop pending b " + scaleText(2) + ": replaced by deployment ecs-svc/9",
			"start 1 of ecs-svc/9: deployment ecs-svc/9 has 0 of 1 task",
			"service ACTIVE rev 1 steady false: the service rolls back to revision 1",
		}},
		{"the user aborts", service(1, 100, 200).old(1).rolling(2, func(d *model.Deployment) {
			d.StopRequested = types.StopServiceDeploymentStopTypeAbort
			d.State = types.ServiceDeploymentStatusStopRequested
		}).tasks(1, "a", running).tasks(2, "b"), []string{
			"put ecs-svc/2 rev 2 PRIMARY FAILED STOPPED: deployment failed: stopped by the user.",
			"event (deployment ecs-svc/2) deployment failed: stopped by the user.",
			"stop pending b " + scaleText(2) + ": the service is to have 1 task",
		}},
		{"a request after the end does nothing", service(1, 100, 200).done(1, func(d *model.Deployment) {
			d.StopRequested = types.StopServiceDeploymentStopTypeRollback
		}).tasks(1, "a", running).steady(), nil},
	})
}

// The words that clients read after a rollback (ecs.md 1.4).
func TestRollbackTexts(t *testing.T) {
	w := apply(service(1, 100, 200).old(1).rolling(2, counted(2)).breaker(true).tasks(1, "a", running).tasks(2, "b", crashed))
	back, failed := w.Deployments[0], w.Deployments[1]
	for _, c := range []struct{ what, got, want string }{
		{"new deployment", back.RolloutStateReason, "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/9."},
		{"failed deployment", failed.RolloutStateReason, "ECS deployment circuit breaker: tasks failed to start."},
		{"service deployment", failed.StateReason,
			"Service deployment rolled back because the circuit breaker threshold was exceeded."},
		{"rolled back by", failed.RolledBackBy, "ecs-svc/9"},
		{"rolls back", back.RollbackOf, "ecs-svc/2"},
		{"source revisions", strings.Join(back.SourceRevisionIDs, ","), "2"},
		{"service deployment of the rollback", back.ServiceDeploymentID, ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	if !failed.BreakerTripped || back.CreatedAt != now {
		t.Errorf("tripped %t, rollback created %s", failed.BreakerTripped, back.CreatedAt)
	}
}

func TestThrottle(t *testing.T) {
	f := func(change func(*model.Throttle), tasks ...func(*Task)) *fixture {
		return service(1, 100, 200).done(1).tasks(1, "a", tasks...).with(func(in *Input) {
			in.Service.Throttle.FailedAt = now.Add(-time.Minute)
			change(&in.Service.Throttle)
		})
	}
	none := func(*model.Throttle) {}
	failures := func(n int) func(*model.Throttle) { return func(t *model.Throttle) { t.Failures = n } }
	for _, c := range []struct {
		name     string
		in       *fixture
		failures int
		wait     time.Duration
		starts   int
		said     bool
	}{
		{"first failure", f(none, failedToStart), 1, time.Second, 0, false},
		{"second", f(failures(1), failedToStart), 2, 2 * time.Second, 0, false},
		{"third is told", f(failures(2), failedToStart), 3, 4 * time.Second, 0, true},
		{"at most a minute", f(failures(40), failedToStart), 41, time.Minute, 0, true},
		{"at AWS's pace at most 15 minutes", f(failures(40), failedToStart).with(aws), 41, 15 * time.Minute, 0, true},
		{"at AWS's pace it starts with 10 s", f(none, failedToStart).with(aws), 1, 10 * time.Second, 0, false},
		{"a crash loop is spaced a little", f(none, fresh, crashed), 0, time.Second, 0, false},
		{"and 10 s at AWS's pace", f(none, fresh, crashed).with(aws), 0, 10 * time.Second, 0, false},
		{"a long run restarts at once", f(none, running, crashed), 0, -time.Minute, 1, false},
		{"a task that started since resets it", f(failures(5), fresh, crashed), 0, time.Second, 0, false},
		{"one that runs does too", f(failures(5), running), 0, -time.Minute, 0, false},
		{"a user's stop does not count", f(none, asked(types.TaskStopCodeUserInitiated, ""), asRequested), 0, -time.Minute, 1, false},
		{"a running pause holds", f(func(t *model.Throttle) { t.Failures, t.Until = 3, now.Add(3*time.Second) }, scaledIn),
			3, 3 * time.Second, 0, false},
		{"failures in it do not double it", f(func(t *model.Throttle) { t.Failures, t.Until = 3, now.Add(3*time.Second) },
			failedToStart), 4, 3 * time.Second, 0, true},
		{"a newer deployment ends it", f(func(t *model.Throttle) {
			t.Failures, t.Until, t.FailedAt = 3, now.Add(time.Hour), now.Add(-time.Hour)
		}, failedToStart).done(2), 0, -time.Minute, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			actions := Plan(c.in.Input)
			w := &world{Input: c.in.Input}
			w.apply(actions)
			if got := w.Service.Throttle.Failures; got != c.failures {
				t.Errorf("%d failures, want %d", got, c.failures)
			}
			wait := w.Service.Throttle.Until.Sub(now)
			if c.wait > 0 && wait != c.wait || c.wait < 0 && wait > 0 {
				t.Errorf("waits %s, want %s", wait, c.wait)
			}
			if w.started != c.starts {
				t.Errorf("%d started, want %d", w.started, c.starts)
			}
			said := slices.ContainsFunc(actions, func(a Action) bool {
				return a == Event{"(service web) is unable to consistently start tasks successfully. For more information, see " +
					"the Troubleshooting section of the Amazon ECS Developer Guide."}
			})
			if said != c.said {
				t.Errorf("told the user: %t, want %t", said, c.said)
			}
		})
	}
}

func aws(in *Input) { in.Pace = model.PaceAWS }

func TestPauseGrowsByRounds(t *testing.T) {
	d := pauseOf(model.PaceFast)
	for _, c := range []struct {
		failures, width int
		want            time.Duration
	}{
		{1, 4, time.Second}, {4, 4, time.Second}, {5, 4, 2 * time.Second}, {8, 4, 2 * time.Second}, {9, 4, 4 * time.Second},
		{1, 0, time.Second}, {1 << 40, 1, time.Minute},
	} {
		if got := d.after(c.failures, c.width); got != c.want {
			t.Errorf("after %d failures of %d tasks: %s, want %s", c.failures, c.width, got, c.want)
		}
	}
}

// A service whose tasks end at once is started again, but ever more slowly or at least not in a spin.
func TestFailingTasksDoNotSpin(t *testing.T) {
	for _, c := range []struct {
		name        string
		pace        model.Pace
		end         func(*Task)
		least, most int // starts in ten minutes
	}{
		{"crash loop", model.PaceFast, func(t *Task) { fresh(t); crashed(t) }, 300, 601},
		{"crash loop at AWS's pace", model.PaceAWS, func(t *Task) { fresh(t); crashed(t) }, 50, 61},
		{"never starts", model.PaceFast, failedToStart, 12, 16},
		{"never starts at AWS's pace", model.PaceAWS, failedToStart, 5, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := service(1, 100, 200).done(1)
			f.Pace = c.pace
			w := &world{Input: f.Input}
			for range 6000 {
				w.apply(Plan(w.Input))
				w.Now = w.Now.Add(100 * time.Millisecond)
				for _, task := range w.Tasks {
					w.change(task.ID, func(t *Task) {
						c.end(t)
						if !t.Observed.StartedAt.IsZero() {
							t.Observed.StartedAt = w.Now.Add(-50 * time.Millisecond)
						}
						t.Observed.StoppedAt = w.Now
					})
				}
			}
			if w.started < c.least || w.started > c.most {
				t.Errorf("%d starts in ten minutes, want %d to %d", w.started, c.least, c.most)
			}
		})
	}
}

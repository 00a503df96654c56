package deploy

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

const (
	bad  = types.HealthStatusUnhealthy
	good = types.HealthStatusHealthy
	open = types.HealthStatusUnknown // not decided yet
)

const stuck = "event was unable to stop or start tasks during a deployment because of the service deployment configuration. " +
	"Update the minimumHealthyPercent or maximumPercent value and try again."

func TestFirstDeployment(t *testing.T) {
	runCases(t, []planCase{
		{"a new service starts all of its tasks", service(3, 100, 200).rolling(1), []string{
			"start 3 of ecs-svc/1: deployment ecs-svc/1 has 0 of 3 tasks",
		}},
		{"what the API left out is filled in", service(1, 100, 200).rolling(1, func(d *model.Deployment) {
			d.RolloutState, d.State = "", types.ServiceDeploymentStatusPending
			d.StartedAt = time.Time{}
		}), []string{
			"put ecs-svc/1 rev 1 PRIMARY IN_PROGRESS IN_PROGRESS: the deployment begins; " +
				"the service deployment begins; the service deployment starts",
			"start 1 of ecs-svc/1: deployment ecs-svc/1 has 0 of 1 task",
		}},
		{"tasks that wait for a place count as pending", service(3, 100, 200).rolling(1).tasks(1, "abc", unplaced), nil},
		{"a task that just started has to settle", service(1, 100, 200).rolling(1).tasks(1, "a", fresh), nil},
		{"settled tasks complete the deployment", service(2, 100, 200).rolling(1).tasks(1, "ab", running), []string{
			"put ecs-svc/1 rev 1 PRIMARY COMPLETED SUCCESSFUL: all of its tasks are healthy",
			"event (deployment ecs-svc/1) deployment completed.",
			"event has reached a steady state.",
			"service ACTIVE rev 1 steady true: the service is steady",
		}},
		{"at AWS's pace a task settles for 40 s", service(1, 100, 200).rolling(1).tasks(1, "a", running).
			with(func(in *Input) { in.Pace = model.PaceAWS }), nil},
		{"no tasks wanted, none there", service(0, 100, 200).rolling(1), []string{
			"put ecs-svc/1 rev 1 PRIMARY COMPLETED SUCCESSFUL: all of its tasks are healthy",
			"event (deployment ecs-svc/1) deployment completed.",
			"event has reached a steady state.",
			"service ACTIVE rev 1 steady true: the service is steady",
		}},
		{"a steady service is left alone", service(2, 100, 200).done(1).tasks(1, "ab", running).steady(), nil},
		{"a service without a deployment is left alone", service(2, 100, 200), nil},
	})
}

func TestRollingUpdate(t *testing.T) {
	runCases(t, []planCase{
		{"new tasks up to the maximum, old ones stay at the minimum",
			service(4, 100, 150).old(1).rolling(2).tasks(1, "abcd", running).steady(), []string{
				"start 2 of ecs-svc/2: deployment ecs-svc/2 has 0 of 4 tasks; maximumPercent (150) leaves room for 2",
				"service ACTIVE rev 2 steady false: the service is not steady any more",
			}},
		{"a stop for each new healthy one, a start for each stop",
			service(4, 100, 150).old(1).rolling(2).tasks(1, "abcd", running).tasks(2, "ef", running), []string{
				"stop a " + scaleText(1) + ": replaced by deployment ecs-svc/2",
				"stop b " + scaleText(1) + ": replaced by deployment ecs-svc/2",
				"start 2 of ecs-svc/2: deployment ecs-svc/2 has 2 of 4 tasks",
			}},
		{"new tasks that have not settled free no old one",
			service(4, 100, 150).old(1).rolling(2).tasks(1, "abcd", running).tasks(2, "ef", fresh), nil},
		{"the minimum lets old ones stop at once",
			service(4, 50, 100).old(1).rolling(2).tasks(1, "abcd", running), []string{
				"stop a " + scaleText(1) + ": replaced by deployment ecs-svc/2",
				"stop b " + scaleText(1) + ": replaced by deployment ecs-svc/2",
			}},
		{"at a maximum of 100 a new task waits for the old one's end",
			service(2, 50, 100).old(1).rolling(2).tasks(1, "a", running, scaledIn).tasks(1, "b", running), nil},
		{"and starts then", service(2, 50, 100).old(1).rolling(2).tasks(1, "a", running, scaledIn, asRequested).
			tasks(1, "b", running), []string{
			"account a: 1 task ended",
			"start 1 of ecs-svc/2: deployment ecs-svc/2 has 0 of 2 tasks; maximumPercent (100) leaves room for 1",
		}},
		{"above it, stopping tasks take no room",
			service(1, 100, 200).old(1).old(2).rolling(3).tasks(1, "a", running, scaledIn).tasks(2, "b", running, scaledIn),
			[]string{"start 1 of ecs-svc/3: deployment ecs-svc/3 has 0 of 1 task"}},
		{"pending and sick old ones go first", service(3, 100, 200).old(1).rolling(2).
			tasks(1, "a", running).tasks(1, "b").tasks(1, "c", checked(bad)).tasks(2, "def", running), []string{
			"put ecs-svc/2 rev 2 PRIMARY COMPLETED SUCCESSFUL: all of its tasks are healthy",
			"event (task c) failed container health checks.",
			"stop pending b " + scaleText(1) + ": replaced by deployment ecs-svc/2",
			"stop c " + scaleText(1) + ": replaced by deployment ecs-svc/2",
			"stop a " + scaleText(1) + ": replaced by deployment ecs-svc/2",
			"event (deployment ecs-svc/2) deployment completed.",
		}},
		{"sick old tasks wait for the new: they may still serve",
			service(2, 100, 200).old(1).rolling(2).tasks(1, "ab", checked(bad)).tasks(2, "cd", fresh), []string{
				"event (task a) failed container health checks.",
				"event (task b) failed container health checks.",
			}},
		{"without room a sick old task makes some",
			service(2, 100, 100).old(1).rolling(2).tasks(1, "ab", checked(bad)), []string{
				"event (task a) failed container health checks.",
				"event (task b) failed container health checks.",
				"stop a " + scaleText(1) + ": not healthy, and maximumPercent (100) leaves no room to start its replacement first",
			}},
		{"and the next has to wait for its replacement",
			service(2, 100, 100).old(1).rolling(2).tasks(1, "b", checked(bad)).tasks(2, "c"), []string{
				"event (task b) failed container health checks.",
			}},
		{"100 % and 100 % leave no move", service(1, 100, 100).old(1).rolling(2).tasks(1, "a", running), []string{stuck}},
		{"nor does a maximum that rounds down", service(1, 100, 150).old(1).rolling(2).tasks(1, "a", running), []string{stuck}},
		{"the last old tasks stop, and the deployment is complete",
			service(2, 100, 200).old(1).rolling(2).tasks(1, "ab", running).tasks(2, "cd", running), []string{
				"put ecs-svc/2 rev 2 PRIMARY COMPLETED SUCCESSFUL: all of its tasks are healthy",
				"stop a " + scaleText(1) + ": replaced by deployment ecs-svc/2",
				"stop b " + scaleText(1) + ": replaced by deployment ecs-svc/2",
				"event (deployment ecs-svc/2) deployment completed.",
			}},
		{"the old deployment stays while its tasks end",
			service(1, 100, 200).old(1).done(2).tasks(1, "a", running, scaledIn).tasks(2, "b", running), nil},
		{"and goes with the last of them; then the service is steady",
			service(1, 100, 200).old(1).done(2).tasks(1, "a", running, scaledIn, asRequested).tasks(2, "b", running), []string{
				"account a: 1 task ended",
				"put ecs-svc/1 rev 1 INACTIVE COMPLETED SUCCESSFUL: it has no tasks left",
				"event has reached a steady state.",
				"service ACTIVE rev 2 steady true: the service is steady",
			}},
		{"a newer deployment supersedes one in progress", service(1, 100, 300).old(1).rolling(2).rolling(3).
			tasks(1, "a", running).tasks(2, "b"), []string{
			"put ecs-svc/2 rev 2 ACTIVE IN_PROGRESS STOPPED: superseded by deployment ecs-svc/3; its service deployment is stopped",
			"stop pending b " + scaleText(2) + ": replaced by deployment ecs-svc/3",
			"start 1 of ecs-svc/3: deployment ecs-svc/3 has 0 of 1 task",
		}},
		{"a task of an unknown deployment is an old one", service(1, 0, 200).done(2).tasks(7, "a", running).
			tasks(2, "b", running), []string{"stop a " + scaleText(7) + ": replaced by deployment ecs-svc/2"}},
	})
}

func TestScaling(t *testing.T) {
	runCases(t, []planCase{
		{"out", service(4, 100, 200).done(1).tasks(1, "ab", running).steady(), []string{
			"start 2 of ecs-svc/1: deployment ecs-svc/1 has 2 of 4 tasks",
			"service ACTIVE rev 1 steady false: the service is not steady any more",
		}},
		{"in: those that serve least, then from the fullest instance, the newest first",
			service(2, 100, 200).done(1).tasks(1, "a", running, on("n1")).tasks(1, "bc", running, on("n2")).
				tasks(1, "d", unplaced).tasks(1, "e", fresh, on("n3")).tasks(1, "f", on("n3")), []string{
				"stop pending d " + scaleText(1) + ": the service is to have 2 tasks",
				"stop pending f " + scaleText(1) + ": the service is to have 2 tasks",
				"stop e " + scaleText(1) + ": the service is to have 2 tasks",
				"stop c " + scaleText(1) + ": the service is to have 2 tasks",
			}},
		{"in, but not below the healthy minimum of what is wanted",
			service(1, 100, 200).done(1).tasks(1, "a", running).tasks(1, "b", fresh), []string{
				"stop b " + scaleText(1) + ": the service is to have 1 task",
			}},
		{"to zero", service(0, 100, 200).done(1).tasks(1, "ab", running), []string{
			"stop b " + scaleText(1) + ": the service is to have 0 tasks",
			"stop a " + scaleText(1) + ": the service is to have 0 tasks",
		}},
		{"in while rolling", service(2, 100, 200).old(1).rolling(2).tasks(1, "abcd", running).tasks(2, "ef", running), []string{
			"put ecs-svc/2 rev 2 PRIMARY COMPLETED SUCCESSFUL: all of its tasks are healthy",
			"stop a " + scaleText(1) + ": replaced by deployment ecs-svc/2",
			"stop b " + scaleText(1) + ": replaced by deployment ecs-svc/2",
			"stop c " + scaleText(1) + ": replaced by deployment ecs-svc/2",
			"stop d " + scaleText(1) + ": replaced by deployment ecs-svc/2",
			"event (deployment ecs-svc/2) deployment completed.",
		}},
		{"a task that a user stopped is replaced", service(2, 100, 200).done(1).tasks(1, "a", running).
			tasks(1, "b", running, asked(types.TaskStopCodeUserInitiated, "Task stopped by user")), []string{
			"start 1 of ecs-svc/1: deployment ecs-svc/1 has 1 of 2 tasks",
		}},
		{"a task that ends by itself is replaced before it is gone", service(1, 100, 200).done(1).
			tasks(1, "a", running, func(t *Task) { t.Observed.Status = model.Stopping }), []string{
			"start 1 of ecs-svc/1: deployment ecs-svc/1 has 0 of 1 task",
		}},
	})
}

func TestDrainingInstances(t *testing.T) {
	runCases(t, []planCase{
		{"replacements first at a minimum of 100", service(2, 100, 200).done(1).tasks(1, "ab", running, draining), []string{
			"start 2 of ecs-svc/1: deployment ecs-svc/1 has 0 of 2 tasks",
		}},
		{"a stop for each that is healthy", service(2, 100, 200).done(1).tasks(1, "ab", running, draining).
			tasks(1, "c", running, on("n2")).tasks(1, "d", fresh, on("n2")), []string{
			"stop a " + scaleText(1) + ": its container instance is draining",
		}},
		{"stops first as the minimum allows", service(2, 50, 100).done(1).tasks(1, "ab", running, draining), []string{
			"stop a " + scaleText(1) + ": its container instance is draining",
		}},
		{"pending ones at once", service(2, 100, 200).done(1).tasks(1, "a", running).tasks(1, "b", draining), []string{
			"stop pending b " + scaleText(1) + ": its container instance is draining",
			"start 1 of ecs-svc/1: deployment ecs-svc/1 has 1 of 2 tasks",
		}},
		{"one that has not settled stays while too few are healthy", service(1, 100, 200).done(1).
			tasks(1, "a", fresh, draining), []string{"start 1 of ecs-svc/1: deployment ecs-svc/1 has 0 of 1 task"}},
		{"and goes when enough are", service(1, 100, 200).done(1).tasks(1, "a", fresh, draining).
			tasks(1, "b", running, on("n2")), []string{"stop a " + scaleText(1) + ": its container instance is draining"}},
		{"a rollout is not complete on them", service(1, 100, 100).rolling(1).tasks(1, "a", running, draining), []string{stuck}},
		{"a service that may do neither is told so", service(1, 100, 100).done(1).tasks(1, "a", running, draining).steady(),
			[]string{stuck, "service ACTIVE rev 1 steady false: the service is not steady any more"}},
	})
}

func TestDeletedService(t *testing.T) {
	gone := func(in *Input) { in.Service.Status = statusDraining }
	runCases(t, []planCase{
		{"stops everything", service(0, 100, 200).old(1).rolling(2).tasks(1, "a", running).tasks(2, "b").steady().with(gone),
			[]string{
				"stop a " + scaleText(1) + ": the service is deleted",
				"stop pending b " + scaleText(2) + ": the service is deleted",
				"service DRAINING rev 2 steady false: the service is deleted",
			}},
		{"waits for what stops", service(0, 100, 200).done(1).tasks(1, "a", running, scaledIn).with(gone), nil},
		{"and is gone with the last task", service(0, 100, 200).old(1).rolling(2).
			tasks(1, "a", running, scaledIn, asRequested).with(gone), []string{
			"account a: 1 task ended",
			"put ecs-svc/2 rev 2 INACTIVE IN_PROGRESS STOPPED: the service is deleted",
			"put ecs-svc/1 rev 1 INACTIVE COMPLETED SUCCESSFUL: the service is deleted",
			"service INACTIVE rev 2 steady false: the service is deleted and has no tasks left",
		}},
		{"for good", service(0, 100, 200).past(1).with(func(in *Input) { in.Service.Status = statusInactive }), nil},
	})
}

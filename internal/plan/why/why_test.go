package why

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

var now = time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC)

func stopped(code types.TaskStopCode, reason string, c ...Container) Task {
	for i := range c {
		c[i].Essential = true
	}
	return Task{ID: "ded6686d13a5aaaa", Status: model.Stopped, Desired: model.Stopped, StopCode: code, Reason: reason, Containers: c, StoppedAt: now.Add(-time.Minute)}
}

func TestEnds(t *testing.T) {
	exited := types.TaskStopCodeEssentialContainerExited
	failed := types.TaskStopCodeTaskFailedToStart
	web := func(code int32, reason string) Container {
		return Container{Name: "web", Image: "shop/web:v8", ExitCode: &code, Reason: reason, MemoryMiB: 64}
	}
	for _, c := range []struct {
		name string
		task Task
		want string // of the sentence
		do   string
	}{
		{"out of memory", stopped(exited, "Essential container in task exited", web(137, "OutOfMemoryError: Container killed due to memory usage")),
			"web used all of its 64 MiB and was killed (exit 137). Give it 128 MiB: new revision, deploy.", "memory"},
		{"killed", stopped(exited, "Essential container in task exited", web(137, "")), "did not end within its stopTimeout", "stopTimeout"},
		{"command not found", stopped(exited, "Essential container in task exited", web(127, "")), "was not found in the image (exit 127)", "revision"},
		{"own decision", stopped(exited, "Essential container in task exited", web(1, "")), "web exited with 1 by its own decision.", "logs"},
		{"segmentation fault", stopped(exited, "Essential container in task exited", web(139, "")), "segmentation fault", "revision"},
		{"no such image", stopped(failed, "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref shop/web:v8: not found", web(0, "")),
			"There is no image shop/web:v8 in its registry.", "image"},
		{"private image", stopped(failed, "CannotPullContainerError: pull x: the registry docker.io refuses access, because the image is private", web(0, "")), "refuses access", "image"},
		{"wrong processor", stopped(failed, "CannotStartContainerError: exec format error", web(0, "")), "another processor", ""},
		{"no log group", stopped(failed, `ResourceInitializationError: failed to create log stream: The specified log group does not exist.`,
			Container{Name: "web", Group: "/shop/web"}), "The log group /shop/web does not exist. Create it", "loggroup"},
		{"health", stopped(types.TaskStopCodeServiceSchedulerInitiated, "Task failed container health checks", web(143, "")), "health check failed", "revision"},
		{"scaled in", stopped(types.TaskStopCodeServiceSchedulerInitiated, "Scaling activity initiated by (deployment ecs-svc/1)", web(0, "")), "made room", ""},
		{"user", stopped(types.TaskStopCodeUserInitiated, "I said so", web(0, "")), "Somebody stopped it: I said so.", ""},
		{"lost", stopped(types.TaskStopCodeInfrastructureHealth, "Host EC2 (instance i-1) stopped/terminated."), "Its machine is lost", "nodes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Explain(c.task, now)
			if !strings.Contains(f.Sentence(), c.want) {
				t.Errorf("said %q, want %q", f.Sentence(), c.want)
			}
			if c.do != "" && (len(f.Cures) == 0 || f.Cures[0].Do != c.do) {
				t.Errorf("the cure is %+v, want %s", f.Cures, c.do)
			}
		})
	}
}

// A container that ended well beside one that failed is not blamed; nor is one that is not essential.
func TestTheGuiltyContainerIsNamed(t *testing.T) {
	zero, two, term := int32(0), int32(2), int32(143)
	task := stopped(types.TaskStopCodeEssentialContainerExited, "Essential container in task exited", Container{Name: "proxy", ExitCode: &term},
		Container{Name: "init", ExitCode: &zero}, Container{Name: "web", ExitCode: &two, Last: "DB_URL is not set"})
	f := Explain(task, now)
	if f.Container != "web" || !strings.Contains(f.Cause, `"DB_URL is not set"`) {
		t.Errorf("%+v", f)
	}
}

func TestHanging(t *testing.T) {
	for _, c := range []struct {
		name  string
		task  Task
		want  string
		level Level
	}{
		{"young", Task{Status: model.Provisioning, CreatedAt: now.Add(-time.Second)}, "waits for a machine", Going},
		{"old", Task{Status: model.Provisioning, CreatedAt: now.Add(-time.Minute)}, "waits for a machine", Warning},
		{"refused", Task{Status: model.Provisioning, Refused: "RESOURCE:MEMORY", MemoryMiB: 512}, "No machine has 512 MiB of memory free.", Bad},
		{"pulls", Task{Status: model.Pending, Placed: true, PullStartedAt: now.Add(-time.Minute)}, "images are pulled", Warning},
		{"runs", Task{Status: model.Running, Placed: true}, "It runs.", Fine},
		{"unhealthy", Task{Status: model.Running, Containers: []Container{{Name: "web", Health: types.HealthStatusUnhealthy}}}, "web's health check fails.", Bad},
		{"target", Task{Status: model.Running, Targets: []Target{{ID: "10.0.0.1", Port: 80, Listens: []int32{8080}, Reason: elbtypes.TargetHealthReasonEnumTimeout,
			State: elbtypes.TargetHealthStateEnumUnhealthy}}}, "times out on :80", Bad},
		{"lost", Task{Status: model.Running, NodeLost: true}, "machine is lost", Bad},
	} {
		t.Run(c.name, func(t *testing.T) {
			if f := Explain(c.task, now); !strings.Contains(f.Cause, c.want) || f.Level != c.level {
				t.Errorf("said %v %q, want %v %q", f.Level, f.Cause, c.level, c.want)
			}
		})
	}
}

func TestServices(t *testing.T) {
	oom := stopped(types.TaskStopCodeEssentialContainerExited, "Essential container in task exited", Container{Name: "worker", Reason: "OutOfMemoryError: killed", MemoryMiB: 64})
	event := func(text string) types.ServiceEvent { return types.ServiceEvent{Message: &text, CreatedAt: &now} }
	for _, c := range []struct {
		name string
		s    Service
		want []string // a part of each finding's cause, in order
	}{
		{"steady", Service{Status: "ACTIVE", Desired: 2, Running: 2}, nil},
		{"restarts", Service{Status: "ACTIVE", Desired: 1, Running: 1, Ended: []Task{oom, oom, oom}}, []string{"3 tasks ended in the last 10 minutes; the last: worker used all of its 64 MiB"}},
		{"long ago", Service{Status: "ACTIVE", Desired: 1, Running: 1, Ended: []Task{{Status: model.Stopped, StopCode: types.TaskStopCodeTaskFailedToStart, StoppedAt: now.Add(-time.Hour)}}}, nil},
		{"no room", Service{Status: "ACTIVE", Desired: 2, Running: 1, Memory: 512, Events: []types.ServiceEvent{event("(service web) was unable to place a task because no container instance met all of its requirements. Reason: The closest matching (container-instance x) has insufficient memory available. For more information, see")}},
			[]string{"No machine has 512 MiB"}},
		{"had no room", Service{Status: "ACTIVE", Desired: 2, Running: 1, Events: []types.ServiceEvent{event("(service web) has started 1 tasks: (task x)."), event("(service web) was unable to place a task. Reason: insufficient memory")}},
			[]string{"1 of 2 tasks run"}},
		{"port", Service{Status: "ACTIVE", Problems: []string{"port 80 is in use by another program"}}, []string{"A listener is not served: port 80"}},
		{"breaker", Service{Status: "ACTIVE", Deployments: []Deployment{{Status: model.DeploymentPrimary, Rollout: types.DeploymentRolloutStateFailed, Reason: "ECS deployment circuit breaker: tasks failed to start."}}},
			[]string{"given up: too many of its tasks failed"}},
		{"stuck", Service{Status: "ACTIVE", Deployments: []Deployment{{Status: model.DeploymentPrimary, Rollout: types.DeploymentRolloutStateInProgress, Reason: "ECS deployment ecs-svc/1 in progress.", StartedAt: now.Add(-5 * time.Minute)}}},
			[]string{"under way for 5m0s"}},
		{"targets", Service{Status: "ACTIVE", Targets: []Target{{ID: "a", Reason: elbtypes.TargetHealthReasonEnumTimeout}, {ID: "b", Reason: elbtypes.TargetHealthReasonEnumTimeout}, {ID: "c", State: elbtypes.TargetHealthStateEnumHealthy}}},
			[]string{"2 of 3 targets: a times out"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ExplainService(c.s, now)
			if len(got) != len(c.want) {
				t.Fatalf("found %+v, want %q", got, c.want)
			}
			for i, f := range got {
				if !strings.Contains(f.Cause, c.want[i]) {
					t.Errorf("said %q, want %q", f.Cause, c.want[i])
				}
			}
		})
	}
}

// A hostile message neither grows a sentence nor breaks it.
func TestMessagesAreBounded(t *testing.T) {
	f := Explain(stopped(types.TaskStopCodeTaskFailedToStart, "CannotStartContainerError: "+strings.Repeat("é", 1<<20)), now)
	if len(f.Cause) > 400 {
		t.Errorf("a sentence of %d bytes", len(f.Cause))
	}
}

package agent_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

const (
	awsvpc = types.NetworkModeAwsvpc
	bridge = types.NetworkModeBridge
	host   = types.NetworkModeHost
)

func TestTaskRunsAndStops(t *testing.T) {
	for _, mode := range []types.NetworkMode{awsvpc, bridge, host, types.NetworkModeNone} {
		t.Run(string(mode), func(t *testing.T) {
			inBubble(t, fake.Config{}, func(r *rig) {
				id := r.add(define(mode, container("web", "nginx"), container("log", "fluent", sidecar)))
				o := r.reach(id, model.Running)
				web := named(o, "web")
				if web.Status != model.Running || web.StartedAt.IsZero() || web.RuntimeID != id+"-web" || !strings.HasPrefix(web.ImageDigest, "sha256:") {
					t.Errorf("web is %+v", web)
				}
				if o.StartedAt.IsZero() || o.PullStartedAt.IsZero() || o.PullStoppedAt.IsZero() || o.ConnectivityAt.IsZero() {
					t.Errorf("a time is missing: %+v", o)
				}
				if mode == awsvpc && (o.Interface.Status != "ATTACHED" || o.Interface.IPv4 == "" || o.Interface.MAC == "") {
					t.Errorf("interface is %+v", o.Interface)
				}
				r.stop(id)
				o = r.reach(id, model.Stopped)
				if o.StopCode != "" || o.StoppedReason != "" { // the request's are shown
					t.Errorf("a requested stop has code %q, reason %q", o.StopCode, o.StoppedReason)
				}
				if c := named(o, "web"); c.Status != model.Stopped || c.ExitCode == nil || *c.ExitCode != 0 || c.FinishedAt.IsZero() {
					t.Errorf("web ended as %+v", c)
				}
				if o.StoppingAt.IsZero() || o.ExecutionStoppedAt.IsZero() || o.StoppedAt.IsZero() {
					t.Errorf("a time is missing: %+v", o)
				}
				if mode == awsvpc && o.Interface.Status != "DELETED" {
					t.Errorf("interface is %+v", o.Interface)
				}
				r.empty()
				r.remove(id)
				r.empty()
			})
		})
	}
}

func TestLadder(t *testing.T) {
	inBubble(t, fake.Config{StartFor: time.Second}, func(r *rig) {
		id := r.add(define(awsvpc, container("web", "slow-start"), container("slow", "slow-stop")))
		r.reach(id, model.Running)
		r.stop(id)
		r.reach(id, model.Stopped)
		got := r.history(id)
		got = slices.DeleteFunc(got, func(s model.TaskStatus) bool { return s == model.Deprovisioning }) // may be too short to see
		want := []model.TaskStatus{model.Provisioning, model.Pending, model.Running, model.Stopping, model.Stopped}
		if !slices.Equal(got, want) {
			t.Errorf("ladder %v, want %v", got, want)
		}
	})
}

func TestEssentialExitStopsTheTask(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(bridge, container("job", "job:5"), container("side", "nginx", sidecar)))
		r.reach(id, model.Running)
		o := r.reach(id, model.Stopped)
		if o.StopCode != types.TaskStopCodeEssentialContainerExited || o.StoppedReason != "Essential container in task exited" {
			t.Errorf("code %s, reason %q", o.StopCode, o.StoppedReason)
		}
		if lag := o.StoppedAt.Sub(o.ExecutionStoppedAt); lag > time.Second {
			t.Errorf("STOPPED %s after the exit", lag)
		}
		r.empty()
	})
}

func TestNonEssentialExitLeavesTheTaskRunning(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(bridge, container("web", "nginx"), container("side", "crash", sidecar)))
		r.reach(id, model.Running)
		time.Sleep(time.Minute)
		o := r.seen(id)
		if c := named(o, "side"); o.Status != model.Running || c.Status != model.Stopped || *c.ExitCode != 1 {
			t.Errorf("task %s, sidecar %+v", o.Status, c)
		}
	})
}

func TestFailuresToStart(t *testing.T) {
	for name, c := range map[string]struct {
		def    types.TaskDefinition
		prefix string
	}{
		"image":    {define(awsvpc, container("web", "missing")), "CannotPullContainerError: "},
		"start":    {define(awsvpc, container("web", "broken")), "CannotStartContainerError: exec: "},
		"secrets":  {define(awsvpc, container("web", "nginx", func(d *types.ContainerDefinition) { d.Secrets = []types.Secret{{}} })), "ResourceInitializationError: this node has nobody to ask for the secrets"},
		"efs":      {withVolume(types.Volume{Name: new("v"), EfsVolumeConfiguration: &types.EFSVolumeConfiguration{}}), "ResourceInitializationError: volume v is on the EFS file system"},
		"cycle":    {define(bridge, container("a", "x", after("b", "START")), container("b", "x", after("a", "START"))), "TaskDependencyError: "},
		"nobody":   {define(bridge, container("a", "x", after("b", "START"))), "TaskDependencyError: "},
		"success":  {define(bridge, container("a", "x", after("b", "SUCCESS")), container("b", "exit:3", sidecar)), "TaskDependencyError: container a cannot start: its dependency b did not exit successfully: its exit code is 3"},
		"volume":   {define(bridge, container("a", "x", mount("none", "/data"))), "ResourceInitializationError: container a mounts the volume none"},
		"two port": {define(bridge, container("a", "x", publish(80, 8080)), container("b", "x", publish(80, 8080))), "ContainerNetworkingError: host port 8080"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, fake.Config{}, func(r *rig) {
				id := r.add(c.def)
				o := r.reach(id, model.Stopped)
				if o.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.HasPrefix(o.StoppedReason, c.prefix) {
					t.Errorf("code %s, reason %q; want %q", o.StopCode, o.StoppedReason, c.prefix)
				}
				if !o.StartedAt.IsZero() {
					t.Error("a task that never ran has a startedAt")
				}
				r.empty()
			})
		})
	}
}

func withVolume(v types.Volume) types.TaskDefinition {
	d := define(bridge, container("web", "nginx", mount(*v.Name, "/data")))
	d.Volumes = []types.Volume{v}
	return d
}

func mount(volume, path string) func(*types.ContainerDefinition) {
	return func(d *types.ContainerDefinition) {
		d.MountPoints = append(d.MountPoints, types.MountPoint{SourceVolume: &volume, ContainerPath: &path})
	}
}

func publish(containerPort, hostPort int32) func(*types.ContainerDefinition) {
	return func(d *types.ContainerDefinition) {
		d.PortMappings = append(d.PortMappings, types.PortMapping{ContainerPort: &containerPort, HostPort: &hostPort})
	}
}

func TestOutOfMemoryIsCalledByItsName(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(host, container("eat", "oom")))
		o := r.reach(id, model.Stopped)
		if c := named(o, "eat"); *c.ExitCode != 137 || c.Reason != "OutOfMemoryError: Container killed due to memory usage" {
			t.Errorf("exit %d, reason %q", *c.ExitCode, c.Reason)
		}
	})
}

func TestStopTimeoutKills(t *testing.T) {
	for timeout, want := range map[int32]time.Duration{0: 30 * time.Second, 7: 7 * time.Second} {
		inBubble(t, fake.Config{}, func(r *rig) {
			c := container("web", "stubborn")
			if timeout > 0 {
				stopTimeout(timeout)(&c)
			}
			id := r.add(define(awsvpc, c))
			r.reach(id, model.Running)
			asked := time.Now()
			r.stop(id)
			o := r.reach(id, model.Stopped)
			if took := o.ExecutionStoppedAt.Sub(asked).Round(time.Second); took != want || *named(o, "web").ExitCode != 137 {
				t.Errorf("stopTimeout %d: killed after %s with %d", timeout, took, *named(o, "web").ExitCode)
			}
		})
	}
}

func TestStopBeforeStart(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(awsvpc, container("web", "slow-start")))
		r.seen(id)
		r.stop(id)
		o := r.reach(id, model.Stopped)
		if took := o.StoppedAt.Sub(o.StoppingAt); took > 100*time.Millisecond || !o.StartedAt.IsZero() || o.StopCode != "" {
			t.Errorf("stopped after %s: %+v", took, o)
		}
		r.empty()
	})
}

func TestRemovedTaskLeavesNothing(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(awsvpc, container("web", "slow-stop", func(d *types.ContainerDefinition) {
			d.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverAwslogs}
		})))
		r.reach(id, model.Running)
		r.remove(id)
		r.reach(id, model.Stopped)
		r.empty()
		if _, err := os.Stat(r.cfg.StateDir + "/" + id); !os.IsNotExist(err) {
			t.Errorf("the task's folder is still there: %v", err)
		}
	})
}

func TestOnePullForTasksThatStartTogether(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		var ids []string
		for range 5 {
			ids = append(ids, r.add(define(awsvpc, container("a", "slow-start"), container("b", "slow-start"))))
		}
		r.seen(ids[0])
		r.stop(ids[0]) // one that gives up does not end the others' pull
		for _, id := range ids[1:] {
			r.reach(id, model.Running)
		}
		if n := r.machine.Images.Pulls("slow-start"); n != 1 {
			t.Errorf("%d pulls", n)
		}
	})
}

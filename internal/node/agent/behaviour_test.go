package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
	"github.com/berthdev/berth/internal/plan/task"
)

func check(interval, timeout, retries, startPeriod int32, command ...string) func(*types.ContainerDefinition) {
	return func(d *types.ContainerDefinition) {
		d.HealthCheck = &types.HealthCheck{Command: command, Interval: &interval, Timeout: &timeout, Retries: &retries, StartPeriod: &startPeriod}
	}
}

func TestDependencyOrder(t *testing.T) {
	inBubble(t, fake.Config{StartFor: time.Second}, func(r *rig) {
		id := r.add(define(bridge,
			container("web", "slow-stop", after("migrate", "SUCCESS"), after("db", "HEALTHY")),
			container("migrate", "job:4", sidecar, after("db", "START")),
			container("db", "slow-stop", check(5, 2, 2, 0, "CMD-SHELL", "exit 0")),
			container("last", "exit:5", sidecar, after("migrate", "COMPLETE")),
		))
		o := r.reach(id, model.Running)
		db, migrate, web := named(o, "db"), named(o, "migrate"), named(o, "web")
		if migrate.StartedAt.Before(db.StartedAt.Add(time.Second)) || web.StartedAt.Before(migrate.FinishedAt) || named(o, "last").StartedAt.Before(migrate.FinishedAt) {
			t.Errorf("db %s, migrate %s–%s, web %s", db.StartedAt, migrate.StartedAt, migrate.FinishedAt, web.StartedAt)
		}
		r.stop(id)
		o = r.reach(id, model.Stopped)
		if gap := named(o, "db").FinishedAt.Sub(named(o, "web").FinishedAt); gap < 2*time.Second {
			t.Errorf("db ended %s after web, so it was stopped with it", gap)
		}
		r.empty()
	})
}

func TestStartTimeout(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(bridge, container("web", "nginx", after("db", "HEALTHY")),
			container("db", "unhealthy", check(5, 2, 1, 0, "CMD", "ok"), func(d *types.ContainerDefinition) { d.StartTimeout = new(int32(20)) })))
		o := r.reach(id, model.Stopped)
		if took := o.StoppingAt.Sub(named(o, "db").StartedAt); took != 20*time.Second {
			t.Errorf("gave up after %s", took)
		}
		if !strings.HasPrefix(o.StoppedReason, "TaskDependencyError: container web cannot start: its dependency db did not reach") ||
			o.StopCode != types.TaskStopCodeTaskFailedToStart {
			t.Errorf("%s %q", o.StopCode, o.StoppedReason)
		}
	})
}

func TestHealth(t *testing.T) {
	for name, c := range map[string]struct {
		pace  model.Pace
		image string
		check func(*types.ContainerDefinition)
		want  types.HealthStatus
		after time.Duration
	}{
		"healthy, fast":  {model.PaceFast, "nginx", check(30, 5, 3, 0, "CMD", "ok"), types.HealthStatusHealthy, time.Second},
		"healthy, aws":   {model.PaceAWS, "nginx", check(30, 5, 3, 0, "CMD", "ok"), types.HealthStatusHealthy, 30 * time.Second},
		"unhealthy":      {model.PaceFast, "nginx", check(10, 5, 3, 0, "CMD-SHELL", "exit 1"), types.HealthStatusUnhealthy, 30 * time.Second},
		"start period":   {model.PaceFast, "nginx", check(10, 5, 2, 25, "CMD-SHELL", "exit 1"), types.HealthStatusUnhealthy, 40 * time.Second},
		"shorter checks": {model.PaceAWS, "unhealthy", check(5, 2, 1, 0, "CMD", "ok"), types.HealthStatusUnhealthy, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, fake.Config{}, func(r *rig) {
				r.cfg.Pace = c.pace
				r.restart(nil)
				id := r.add(define(awsvpc, container("web", c.image, c.check), container("side", "unhealthy", sidecar, check(5, 2, 1, 0, "CMD", "no"))))
				start := r.reach(id, model.Running).StartedAt
				for r.seen(id).Health == types.HealthStatusUnknown && time.Since(start) < 5*time.Minute {
					time.Sleep(100 * time.Millisecond)
				}
				o := r.seen(id)
				if took := time.Since(start).Round(time.Second); o.Health != c.want || took != c.after {
					t.Errorf("%s after %s, want %s after %s", o.Health, took, c.want, c.after)
				}
				if o.Status != model.Running {
					t.Errorf("the agent ended a task for its health: %s", o.Status)
				}
			})
		})
	}
}

func TestRestartPolicy(t *testing.T) {
	policy := func(ignored ...int32) func(*types.ContainerDefinition) {
		return func(d *types.ContainerDefinition) {
			d.RestartPolicy = &types.ContainerRestartPolicy{Enabled: new(true), IgnoredExitCodes: ignored, RestartAttemptPeriod: new(int32(60))}
		}
	}
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(bridge, container("web", "job:70", policy())))
		r.reach(id, model.Running)
		time.Sleep(3 * time.Minute)
		if o := r.seen(id); o.Status != model.Running || named(o, "web").Status != model.Running {
			t.Errorf("after two ends the task is %s", o.Status)
		}
		v, name, ok := r.agent.Container(id + "-web")
		if !ok || v.Restarts[name] != 2 {
			t.Errorf("restarts: %+v", v.Restarts)
		}
		r.machine.Runtime.Exit(id+"-web", 1) // before its period has passed
		r.reach(id, model.Stopped)
		r.empty()

		ignored := r.add(define(bridge, container("web", "job:70", policy(0))))
		r.reach(ignored, model.Running)
		if o := r.reach(ignored, model.Stopped); o.StopCode != types.TaskStopCodeEssentialContainerExited {
			t.Errorf("code %s", o.StopCode)
		}
	})
}

func TestSpecification(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		def := define(awsvpc, container("web", "nginx", mount("data", "/data"), mount("own", "/own"), func(d *types.ContainerDefinition) {
			d.Environment = []types.KeyValuePair{{Name: new("A"), Value: new("1")}, {Name: new("AWS_REGION"), Value: new("mine")}}
			d.DnsServers = []string{"10.0.0.53"}
		}), container("side", "nginx", func(d *types.ContainerDefinition) {
			d.VolumesFrom = []types.VolumeFrom{{SourceContainer: new("web"), ReadOnly: new(true)}}
		}))
		def.TaskRoleArn, def.Cpu, def.Memory = new("arn:role"), new("256"), new("512")
		outside := t.TempDir()
		def.Volumes = []types.Volume{{Name: new("data"), Host: &types.HostVolumeProperties{SourcePath: &outside}}, {Name: new("own")}}
		id := r.add(def, func(s *task.Spec) {
			s.Overrides = types.TaskOverride{Memory: new("1024"), ContainerOverrides: []types.ContainerOverride{{Name: new("web"),
				Command: []string{"serve"}, Environment: []types.KeyValuePair{{Name: new("A"), Value: new("2")}}, Cpu: new(int32(7))}}}
		})
		o := r.reach(id, model.Running)
		spec, _ := r.machine.Runtime.Spec(id + "-web")
		for _, want := range []string{"A=2", "AWS_REGION=mine", "AWS_DEFAULT_REGION=eu-north-1", "HOSTNAME=" + spec.Hostname,
			"ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/" + id + "-web"} {
			if !slices.Contains(spec.Env, want) {
				t.Errorf("no %s in %v", want, spec.Env)
			}
		}
		if !slices.ContainsFunc(spec.Env, func(kv string) bool {
			return strings.HasPrefix(kv, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/")
		}) {
			t.Errorf("no credentials in %v", spec.Env)
		}
		if spec.TaskCPU != 256 || spec.TaskMemory != 1024 || spec.Definition.Cpu != 7 || spec.Definition.Command[0] != "serve" {
			t.Errorf("%+v", spec)
		}
		if want := "ip-" + strings.ReplaceAll(o.Interface.IPv4, ".", "-") + ".eu-north-1.compute.internal"; spec.Hostname != want {
			t.Errorf("hostname %s, want %s", spec.Hostname, want)
		}
		checkMounts(t, spec, outside)
		side, _ := r.machine.Runtime.Spec(id + "-side")
		if i := slices.IndexFunc(side.Mounts, func(m agent.Mount) bool { return m.Destination == "/data" }); i < 0 || !side.Mounts[i].ReadOnly {
			t.Errorf("volumesFrom: %+v", side.Mounts)
		}
		own := filepath.Join(r.cfg.StateDir, id, "volumes", "own")
		if _, err := os.Stat(own); err != nil {
			t.Error(err)
		}
		r.stop(id)
		r.reach(id, model.Stopped)
		if _, err := os.Stat(own); !errors.Is(err, os.ErrNotExist) {
			t.Error("a task's own volume outlives it")
		}
	})
}

func checkMounts(t *testing.T, spec agent.ContainerSpec, outside string) {
	t.Helper()
	source := map[string]string{}
	for _, m := range spec.Mounts {
		source[m.Destination] = m.Source
	}
	if source["/data"] != outside || source["/own"] == "" {
		t.Errorf("mounts %v", source)
	}
	for path, want := range map[string]string{"/etc/hosts": spec.Hostname, "/etc/hostname": spec.Hostname, "/etc/resolv.conf": "nameserver 10.0.0.53"} {
		if data, err := os.ReadFile(source[path]); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %v %q", path, err, data)
		}
	}
}

func TestHostModeCredentialsAndPorts(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		def := define(host, container("web", "nginx", publish(8080, 8080)))
		def.TaskRoleArn = new("arn:role")
		id := r.add(def)
		o := r.reach(id, model.Running)
		spec, _ := r.machine.Runtime.Spec(id + "-web")
		env := strings.Join(spec.Env, "\n")
		if !strings.Contains(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9999/v2/credentials/") || spec.NetnsPath != "" {
			t.Errorf("netns %q, %s", spec.NetnsPath, env)
		}
		if b := named(o, "web").NetworkBindings; len(b) != 1 || *b[0].HostPort != 8080 {
			t.Errorf("bindings %+v", b)
		}
	})
}

func TestBridgeLinksAndPorts(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(bridge, container("web", "nginx", publish(80, 0), publish(443, 8443), func(d *types.ContainerDefinition) {
			d.Links = []string{"db:database"}
			d.ExtraHosts = []types.HostEntry{{Hostname: new("legacy"), IpAddress: new("192.0.2.1")}}
		}), container("db", "nginx")))
		o := r.reach(id, model.Running)
		b := named(o, "web").NetworkBindings
		if len(b) != 2 || *b[0].HostPort < 49153 || *b[1].HostPort != 8443 || *b[0].BindIP != "0.0.0.0" || b[0].Protocol != "tcp" {
			t.Errorf("bindings %+v", b)
		}
		spec, _ := r.machine.Runtime.Spec(id + "-web")
		i := slices.IndexFunc(spec.Mounts, func(m agent.Mount) bool { return m.Destination == "/etc/hosts" })
		hosts, err := os.ReadFile(spec.Mounts[i].Source)
		if err != nil || !strings.Contains(string(hosts), "\tdatabase db\n") || !strings.Contains(string(hosts), "192.0.2.1\tlegacy\n") {
			t.Errorf("%v %s", err, hosts)
		}
	})
}

func TestSharedVolume(t *testing.T) {
	shared := func(autoprovision bool) types.TaskDefinition {
		return withVolume(types.Volume{Name: new("pool"), DockerVolumeConfiguration: &types.DockerVolumeConfiguration{
			Scope: types.ScopeShared, Autoprovision: &autoprovision}})
	}
	inBubble(t, fake.Config{}, func(r *rig) {
		if o := r.reach(r.add(shared(false)), model.Stopped); !strings.Contains(o.StoppedReason, "shared volume pool does not exist") {
			t.Errorf("reason %q", o.StoppedReason)
		}
		id := r.add(shared(true))
		r.reach(id, model.Running)
		r.stop(id)
		r.reach(id, model.Stopped)
		if _, err := os.Stat(filepath.Join(r.cfg.StateDir, "volumes", "pool")); err != nil {
			t.Errorf("a shared volume ends with its task: %v", err)
		}
		r.reach(r.add(shared(false)), model.Running)
	})
}

func TestJSONLogsStayForAWhile(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(host, container("web", "nginx")))
		r.reach(id, model.Running)
		dir := filepath.Join(r.cfg.StateDir, id, "logs", "web")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		r.remove(id)
		r.reach(id, model.Stopped)
		time.Sleep(30 * time.Minute)
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("logs are gone after half an hour: %v", err)
		}
		time.Sleep(32 * time.Minute)
		if _, err := os.Stat(filepath.Dir(filepath.Dir(dir))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("logs are there after more than an hour: %v", err)
		}
	})
}

// A container that does not end holds up neither those that it depends on, nor its task, nor the network; its reason says why, and
// it is removed when it has ended.
func TestTaskGoesOnWithoutAStuckContainer(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(awsvpc, container("db", "nginx", sidecar), container("web", "stubborn", after("db", "START"), stopTimeout(5))))
		r.reach(id, model.Running)
		stuck := &agent.Error{Name: "CannotStopContainerError", Message: "1 of its processes did not end 5s after SIGKILL: 7 (nfsd)"}
		r.machine.Runtime.Fail("Signal", stuck, 2) // the stop signal and the first SIGKILL
		r.machine.Runtime.Fail("Delete", stuck, 4)
		r.stop(id)
		o := r.reach(id, model.Stopped)
		if c := named(o, "web"); c.Reason != stuck.Error() || c.ExitCode != nil || c.Status != model.Stopped {
			t.Errorf("the stuck one: %+v", c)
		}
		if c := named(o, "db"); c.ExitCode == nil || *c.ExitCode != 0 || c.Reason != "" {
			t.Errorf("the one that it depends on: %+v", c)
		}
		if took := o.StoppedAt.Sub(o.StoppingAt); took > time.Minute {
			t.Errorf("stopped after %v", took)
		}
		if ids, _ := r.machine.Network.List(t.Context()); len(ids) > 0 {
			t.Errorf("networks %v are held", ids)
		}
		time.Sleep(5 * time.Minute)
		r.empty()
	})
}

// A container whose shim does not answer is reported so, while it does not and no longer.
func TestSilentContainersAreReported(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(awsvpc, container("db", "nginx"), container("web", "nginx")))
		r.reach(id, model.Running)
		web := named(r.reach(id, model.Running), "web").RuntimeID
		for _, silent := range []bool{true, false, true} {
			r.machine.Runtime.Silence(web, silent)
			time.Sleep(10 * time.Second)
			if o := r.reach(id, model.Running); named(o, "web").Silent != silent || named(o, "db").Silent {
				t.Errorf("silent %v: %+v", silent, o.Containers)
			}
		}
		r.stop(id)
		if o := r.reach(id, model.Stopped); named(o, "web").Silent {
			t.Errorf("it has ended: %+v", o.Containers)
		}
	})
}

// An exit is of the run that it names: a clock that is set back does not lose it, and one of an earlier run ends no later one.
func TestEndsAreToldByRunNotByClock(t *testing.T) {
	var back atomic.Int64 // nanoseconds that the machine's clock was set back by
	now := func() time.Time { return time.Now().Round(0).Add(-time.Duration(back.Load())) }
	inBubble(t, fake.Config{Now: now}, func(r *rig) {
		r.cfg.Now = now
		r.restart(nil)
		exits := r.add(define(bridge, container("web", "nginx")))
		vanishes := r.add(define(bridge, container("web", "nginx")))
		restarts := r.add(define(bridge, container("web", "nginx", func(d *types.ContainerDefinition) {
			d.RestartPolicy = &types.ContainerRestartPolicy{Enabled: new(true), RestartAttemptPeriod: new(int32(60))}
		})))
		slow := r.add(define(bridge, container("web", "stubborn", stopTimeout(10))))
		for _, id := range []string{exits, vanishes, restarts, slow} {
			r.reach(id, model.Running)
		}
		time.Sleep(2 * time.Minute)
		first, _ := r.machine.Runtime.List(t.Context())
		r.machine.Runtime.Exit(restarts+"-web", 1)
		time.Sleep(10 * time.Second)
		back.Store(int64(time.Hour))
		r.machine.Runtime.Exit(exits+"-web", 4)
		r.machine.Runtime.Vanish(vanishes + "-web")
		if o := r.reach(exits, model.Stopped); named(o, "web").ExitCode == nil || *named(o, "web").ExitCode != 4 {
			t.Errorf("%+v", o)
		}
		r.reach(vanishes, model.Stopped)
		r.stop(slow)
		time.Sleep(time.Second)
		r.restart(nil) // the next agent finds a stop that began in its future
		begun := time.Now()
		r.reach(slow, model.Stopped)
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it had stopTimeout once, and was killed after %v", took)
		}
		for _, s := range first { // the first run's exit, told late
			if s.ID == restarts+"-web" {
				s.Status, s.ExitCode, s.FinishedAt = agent.ContainerExited, 1, time.Now().Add(time.Hour)
				r.machine.Runtime.Tell(s)
			}
		}
		time.Sleep(10 * time.Second)
		if o := r.seen(restarts); o.Status != model.Running || !named(o, "web").FinishedAt.IsZero() {
			t.Errorf("the later run was ended by the exit of an earlier one: %+v", o)
		}
	})
}

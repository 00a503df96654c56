package agenttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/plan/task"
)

func runsAndStops(r *rig) {
	ids := map[types.NetworkMode]string{}
	for _, mode := range r.env.Modes {
		ids[mode] = r.add(define(mode, r.program("web", Serve), r.program("side", Serve, sidecar)))
	}
	for mode, id := range ids {
		o := r.reach(id, model.Running)
		web := named(o, "web")
		if web.Status != model.Running || web.StartedAt.IsZero() || web.RuntimeID == "" ||
			!strings.HasPrefix(web.ImageDigest, "sha256:") {
			r.Errorf("%s: %+v", mode, web)
		}
		if mode == types.NetworkModeAwsvpc && (o.Interface == nil || o.Interface.IPv4 == "" || o.Interface.Status != "ATTACHED") {
			r.Errorf("interface %+v", o.Interface)
		}
		if n := len(r.processes(id)); n != 2 {
			r.Errorf("%s: %d processes", mode, n)
		}
		r.listens(id)
		r.stop(id)
	}
	for mode, id := range ids {
		o := r.reach(id, model.Stopped)
		if code(o, "web") != 0 || o.StopCode != "" || o.StoppedAt.IsZero() || o.ExecutionStoppedAt.IsZero() {
			r.Errorf("%s ended as %+v", mode, o)
		}
		if n := len(r.processes(id)); n != 0 {
			r.Errorf("%s: %d processes after STOPPED", mode, n)
		}
	}
}

func exitCode(r *rig) {
	for _, mode := range r.env.Modes {
		id := r.add(define(mode, r.program("job", Exit3)))
		o := r.reach(id, model.Stopped)
		if code(o, "job") != 3 || o.StopCode != types.TaskStopCodeEssentialContainerExited ||
			o.StoppedReason != "Essential container in task exited" {
			r.Errorf("%s: exit code %d, %s %q", mode, code(o, "job"), o.StopCode, o.StoppedReason)
		}
		if late := o.StoppedAt.Sub(named(o, "job").FinishedAt); late > time.Second {
			r.Errorf("%s: STOPPED %s after the exit", mode, late)
		}
		if o.StartedAt.IsZero() {
			r.Errorf("%s: the task ran, and has no startedAt", mode)
		}
	}
}

func essentialExit(r *rig) {
	id := r.add(define(r.env.Modes[0], r.program("web", Serve), r.program("job", Exit3)))
	o := r.reach(id, model.Stopped)
	if code(o, "job") != 3 || named(o, "web").Status != model.Stopped {
		r.Errorf("%+v", o.Containers)
	}
}

func sidecarExit(r *rig) {
	id := r.add(define(r.env.Modes[0], r.program("web", Serve), r.program("job", Exit3, sidecar)))
	o := r.until(id, "has lost its sidecar", func(o model.Observed) bool { return named(o, "job").Status == model.Stopped })
	if o.Status.Rung() > model.Running.Rung() || code(o, "job") != 3 {
		r.Errorf("%s %+v", o.Status, o.Containers)
	}
}

func dependencyOrder(r *rig) {
	mode := r.env.Modes[0]
	id := r.add(define(mode,
		r.program("web", Serve, after("init", types.ContainerConditionSuccess), after("db", types.ContainerConditionStart)),
		r.program("db", Serve), r.program("init", Exit0, sidecar)))
	o := r.reach(id, model.Running)
	web, db, init := named(o, "web"), named(o, "db"), named(o, "init")
	if web.StartedAt.Before(init.FinishedAt) || web.StartedAt.Before(db.StartedAt) {
		r.Errorf("web %s, db %s, init ended %s", web.StartedAt, db.StartedAt, init.FinishedAt)
	}
	r.stop(id)
	o = r.reach(id, model.Stopped)
	if named(o, "db").FinishedAt.Before(named(o, "web").FinishedAt) {
		r.Error("db was stopped before web, which needs it")
	}
	bad := r.add(define(mode, r.program("web", Serve, after("init", types.ContainerConditionSuccess)), r.program("init", Exit3, sidecar)))
	o = r.reach(bad, model.Stopped)
	if o.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.HasPrefix(o.StoppedReason, "TaskDependencyError: ") {
		r.Errorf("%s %q", o.StopCode, o.StoppedReason)
	}
}

func stopTimeout(r *rig) {
	short := func(d *types.ContainerDefinition) { d.StopTimeout = new(int32(2)) }
	id := r.add(define(r.env.Modes[0], r.program("web", Stubborn, short)))
	r.reach(id, model.Running)
	asked := time.Now()
	r.stop(id)
	o := r.reach(id, model.Stopped)
	if took := time.Since(asked); code(o, "web") != 137 || took < 2*time.Second || took > 5*time.Second {
		r.Errorf("exit code %d after %s", code(o, "web"), took)
	}
}

func health(r *rig) {
	check := func(command string) func(*types.ContainerDefinition) {
		return func(d *types.ContainerDefinition) {
			d.HealthCheck = &types.HealthCheck{
				Command: []string{"CMD-SHELL", command}, Interval: new(int32(1)), Timeout: new(int32(5)), Retries: new(int32(2)),
			}
		}
	}
	outcomes := map[string]types.HealthStatus{"exit 0": types.HealthStatusHealthy, "exit 1": types.HealthStatusUnhealthy}
	for command, want := range outcomes {
		id := r.add(define(r.env.Modes[0], r.program("web", Serve, check(command))))
		r.until(id, "is "+string(want), func(o model.Observed) bool { return o.Health == want && named(o, "web").Health == want })
	}
	id := r.add(define(r.env.Modes[0], r.program("web", Serve, after("db", types.ContainerConditionHealthy)),
		r.program("db", Serve, check("exit 0"))))
	r.reach(id, model.Running)
}

func override(r *rig) {
	other := r.env.Program(Exit3)
	d := r.program("web", Serve)
	if len(other.Command) == 0 { // the program is its image
		other.Command = []string{"exit", "3"}
	}
	id := r.add(define(r.env.Modes[0], d), func(s *task.Spec) {
		s.Overrides = types.TaskOverride{ContainerOverrides: []types.ContainerOverride{{Name: new("web"), Command: other.Command}}}
	})
	if o := r.reach(id, model.Stopped); code(o, "web") != 3 {
		r.Errorf("exit code %d", code(o, "web"))
	}
}

func missingImage(r *rig) {
	if r.env.Missing == "" {
		r.Skip("no image is known to be missing")
	}
	id := r.add(define(r.env.Modes[0], r.program("web", Serve, func(d *types.ContainerDefinition) { d.Image = &r.env.Missing })))
	o := r.reach(id, model.Stopped)
	if o.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.HasPrefix(o.StoppedReason, "CannotPullContainerError: ") {
		r.Errorf("%s %q", o.StopCode, o.StoppedReason)
	}
}

func ports(r *rig) {
	dynamic := func(d *types.ContainerDefinition) {
		d.PortMappings = []types.PortMapping{{ContainerPort: new(int32(80))}}
	}
	seen := map[int32]bool{}
	for range 3 {
		id := r.add(define(types.NetworkModeBridge, r.program("web", Serve, dynamic)))
		b := named(r.reach(id, model.Running), "web").NetworkBindings
		if len(b) != 1 || *b[0].ContainerPort != 80 || *b[0].HostPort < 1024 || seen[*b[0].HostPort] {
			r.Fatalf("bindings %+v, after %v", b, seen)
		}
		seen[*b[0].HostPort] = true
	}
}

func restartAdopts(r *rig) {
	before := map[string]model.Observed{}
	pids := map[string]map[string]uint32{}
	for _, mode := range r.env.Modes {
		id := r.add(define(mode, r.program("web", Serve), r.program("side", Serve, sidecar)))
		before[id] = r.reach(id, model.Running)
		pids[id] = r.processes(id)
	}
	r.restart(nil)
	r.restart(nil)
	for id, old := range before {
		if now := r.processes(id); !maps.Equal(now, pids[id]) {
			r.Errorf("processes %v became %v", pids[id], now)
		}
		r.stop(id)
		o := r.reach(id, model.Stopped)
		if !o.StartedAt.Equal(old.StartedAt) || code(o, "web") != 0 {
			r.Errorf("started %s, then %s; exit code %d", old.StartedAt, o.StartedAt, code(o, "web"))
		}
	}
}

func restartAtAnyMoment(r *rig) {
	for moment := range 8 {
		id := r.add(define(r.env.Modes[0], r.program("web", Serve), r.program("side", Serve, sidecar)))
		<-time.After(time.Duration(moment*15) * time.Millisecond) // the moment of a kill is the test's subject
		r.restart(nil)
		r.reach(id, model.Running)
		if n := len(r.processes(id)); n != 2 {
			r.Errorf("killed after %d ms: %d processes", moment*15, n)
		}
		r.stop(id)
		<-time.After(time.Duration(moment*5) * time.Millisecond)
		r.restart(nil)
		o := r.reach(id, model.Stopped)
		if c := code(o, "web"); o.StopCode != "" || c != 0 && c != 2 && c != 137 { // 137: asked to end before it could listen; 2: while it was runc's init still, a Go program
			r.Errorf("killed after %d ms: exit code %d, ended as %+v", moment*15, c, o)
		}
	}
}

func exitsMeanwhile(r *rig) {
	id := r.add(define(r.env.Modes[0], r.program("web", Serve)))
	web := named(r.reach(id, model.Running), "web")
	r.restart(func() {
		if err := r.env.Runtime.Signal(context.Background(), web.RuntimeID, syscall.SIGKILL); err != nil {
			r.Fatal(err)
		}
		for begin := time.Now(); len(r.processes(id)) > 0; {
			if time.Since(begin) > r.env.Patience {
				r.Fatal("the container does not die")
			}
		}
	})
	o := r.reach(id, model.Stopped)
	if code(o, "web") != 137 || o.StopCode != types.TaskStopCodeEssentialContainerExited {
		r.Errorf("exit code %d, %s", code(o, "web"), o.StopCode)
	}
}

func unassigned(r *rig) {
	keep, drop := r.add(define(r.env.Modes[0], r.program("web", Serve))), r.add(define(r.env.Modes[0], r.program("web", Serve)))
	r.reach(keep, model.Running)
	r.reach(drop, model.Running)
	pids := r.processes(keep)
	r.restart(func() { delete(r.set, drop) })
	for begin := time.Now(); len(r.processes(drop)) > 0; {
		if time.Since(begin) > r.env.Patience {
			r.Fatal("a container of no task stays")
		}
	}
	if !maps.Equal(pids, r.processes(keep)) {
		r.Error("the task that was kept was touched")
	}
}

func volumes(r *rig) {
	if !r.env.Shell {
		r.Skip("nothing runs inside these containers")
	}
	outside := r.TempDir()
	mount := func(volume, path string, readOnly bool) func(*types.ContainerDefinition) {
		return func(d *types.ContainerDefinition) {
			d.MountPoints = append(d.MountPoints, types.MountPoint{SourceVolume: &volume, ContainerPath: &path, ReadOnly: &readOnly})
		}
	}
	def := define(r.env.Modes[0],
		r.script("writer", `echo hi >/own/file && echo out >/out/file`, sidecar,
			mount("own", "/own", false), mount("out", "/out", false)),
		r.script("reader", `test "$(cat /own/file)" = hi || exit 4; touch /own/other && exit 5; exit 0`, mount("own", "/own", true),
			after("writer", types.ContainerConditionSuccess)),
		r.script("taker", `test "$(cat /own/file)" = hi || exit 4; exit 0`, sidecar, after("writer", types.ContainerConditionSuccess),
			func(d *types.ContainerDefinition) {
				d.VolumesFrom = []types.VolumeFrom{{SourceContainer: new("writer")}}
			}),
	)
	def.Volumes = []types.Volume{{Name: new("own")}, {Name: new("out"), Host: &types.HostVolumeProperties{SourcePath: &outside}}}
	o := r.reach(r.add(def), model.Stopped)
	if code(o, "reader") != 0 {
		r.Errorf("reader ended with %d: 4 is no file, 5 a write to a read-only mount; %q", code(o, "reader"), o.StoppedReason)
	}
	if data, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(data) != "out\n" {
		r.Errorf("outside: %v %q", err, data)
	}
}

func inside(r *rig) {
	if !r.env.Shell {
		r.Skip("nothing runs inside these containers")
	}
	for _, mode := range r.env.Modes {
		script := `test "$A" = "1 2" || exit 10; test "$AWS_REGION" = us-east-1 || exit 11; test "$HOSTNAME" = "$(hostname)" || exit 12;
			grep -q legacy /etc/hosts || exit 13; test "$(cat /etc/hostname)" = "$(hostname)" || exit 15; exit 0`
		if mode == types.NetworkModeAwsvpc || mode == types.NetworkModeBridge {
			script = `test -n "$ECS_CONTAINER_METADATA_URI_V4" || exit 16; grep -q "$HOSTNAME" /etc/hosts || exit 14; ` + script
		}
		id := r.add(define(mode, r.script("web", script, func(d *types.ContainerDefinition) {
			d.Environment = []types.KeyValuePair{{Name: new("A"), Value: new("1 2")}}
			d.ExtraHosts = []types.HostEntry{{Hostname: new("legacy"), IpAddress: new("192.0.2.1")}}
		})))
		if o := r.reach(id, model.Stopped); code(o, "web") != 0 {
			r.Errorf("%s: check %d failed inside; %s", mode, code(o, "web"), fmt.Sprint(o.StoppedReason))
		}
	}
}

// A container can change its generated files, but fill nothing with them; with a read-only root it can't change them either.
func filesAreBounded(r *rig) {
	if !r.env.Shell || r.env.RunDir == "" {
		r.Skip("nothing runs inside these containers")
	}
	for _, mode := range r.env.Modes {
		script := `echo 192.0.2.9 mine >>/etc/hosts || exit 20; grep -q mine /etc/hosts || exit 21;
			for f in hosts hostname resolv.conf; do dd if=/dev/zero of=/etc/$f bs=1M count=8 2>/dev/null && exit 22; done
			for f in hosts hostname resolv.conf; do while echo 0123456789 >>/etc/$f; do test "$((n+=1))" -lt 200000 || exit 24; done 2>/dev/null; done
			test "$(cat /etc/hosts /etc/hostname /etc/resolv.conf | wc -c)" -le 1048576 || exit 25; exit 0`
		id := r.add(define(mode, r.script("web", script)))
		if o := r.reach(id, model.Stopped); code(o, "web") != 0 {
			r.Errorf("%s: check %d failed inside; 22 is 8 MiB in a generated file, 24 and 25 more than 1 MiB in all of them", mode, code(o, "web"))
		}
		script = `for f in hosts hostname resolv.conf; do (echo x >>/etc/$f) 2>/dev/null && exit 23; done; exit 0`
		id = r.add(define(mode, r.script("web", script, func(d *types.ContainerDefinition) { d.ReadonlyRootFilesystem = new(true) })))
		if o := r.reach(id, model.Stopped); code(o, "web") != 0 {
			r.Errorf("%s: check %d failed inside; 23 is a write to a file of a read-only root", mode, code(o, "web"))
		}
	}
}

func outOfMemory(r *rig) {
	if !r.env.Memory {
		r.Skip("memory limits are not real here")
	}
	id := r.add(define(r.env.Modes[0], r.program("eat", Eat)))
	o := r.reach(id, model.Stopped)
	if code(o, "eat") != 137 || named(o, "eat").Reason != "OutOfMemoryError: Container killed due to memory usage" {
		r.Errorf("exit code %d, reason %q", code(o, "eat"), named(o, "eat").Reason)
	}
}

func measured(r *rig) {
	measure := func(id string) (agent.Usage, error) { return r.env.Runtime.Usage(context.Background(), id) }
	for _, mode := range r.env.Modes {
		id := r.add(define(mode, r.program("web", Serve)))
		web := named(r.reach(id, model.Running), "web")
		u, err := measure(web.RuntimeID)
		if err != nil {
			r.Errorf("%s: %v", mode, err)
		}
		if u.CPU.Total <= 0 || u.Memory.Usage == 0 || u.Memory.Limit != 64<<20 || u.Pids.Current < 1 || time.Since(u.At) > r.env.Patience {
			r.Errorf("%s: %+v", mode, u)
		}
		if u.Machine.CPUs < 1 || u.Machine.CPU <= 0 || u.Machine.Memory < u.Memory.Limit {
			r.Errorf("%s: the machine is %+v", mode, u.Machine)
		}
		connected := mode == types.NetworkModeAwsvpc || mode == types.NetworkModeBridge
		if _, ok := u.Networks["eth0"]; ok != connected || len(u.Networks) > 1 {
			r.Errorf("%s: networks %+v", mode, u.Networks)
		}
		if g, ok := r.env.Runtime.(agent.Gauge); ok { // the task as a whole, of which this is the one container
			use, err := g.TaskUse(id, []string{web.RuntimeID})
			if err != nil || use.CPU < u.CPU.Total || use.Memory == 0 || use.Memory > u.Memory.Limit {
				r.Errorf("%s: the task used %+v, its container %+v; %v", mode, use, u, err)
			}
		}
		later, err := measure(web.RuntimeID)
		if err != nil || later.CPU.Total < u.CPU.Total || later.Machine.CPU < u.Machine.CPU {
			r.Errorf("%s: measured less the second time: %+v, then %+v; %v", mode, u, later, err)
		}
		r.stop(id)
		r.reach(id, model.Stopped)
		if _, err := measure(web.RuntimeID); !errors.Is(err, agent.ErrNotRunning) {
			r.Errorf("%s: after its end: %v", mode, err)
		}
	}
	if _, err := measure("nobody"); !errors.Is(err, agent.ErrNotRunning) {
		r.Errorf("of nobody: %v", err)
	}
}

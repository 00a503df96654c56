package agent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

// restart ends the agent and starts the next, which gets the same assignments.
func (r *rig) restart(meanwhile func()) {
	r.kill()
	if meanwhile != nil {
		meanwhile()
	}
	r.boot()
	r.assign()
}

func pids(t *testing.T, m *fake.Machine) map[string]uint32 {
	all, err := m.Runtime.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]uint32{}
	for _, s := range all {
		byID[s.ID] = s.PID
	}
	return byID
}

func TestRestartAdoptsRunningContainers(t *testing.T) {
	for _, mode := range []types.NetworkMode{awsvpc, bridge, host} {
		inBubble(t, fake.Config{}, func(r *rig) {
			id := r.add(define(mode, container("web", "nginx", publish(80, 0)), container("side", "nginx", sidecar)))
			before := r.reach(id, model.Running)
			old := pids(t, r.machine)
			time.Sleep(time.Minute)
			r.restart(nil)
			time.Sleep(time.Minute)
			after := r.seen(id)
			if now := pids(t, r.machine); fmt.Sprint(now) != fmt.Sprint(old) {
				t.Errorf("%s: processes %v became %v", mode, old, now)
			}
			if after.Status != model.Running || !after.StartedAt.Equal(before.StartedAt) ||
				!named(after, "web").StartedAt.Equal(named(before, "web").StartedAt) {
				t.Errorf("%s: %+v became %+v", mode, before, after)
			}
			if !reflect.DeepEqual(named(after, "web").NetworkBindings, named(before, "web").NetworkBindings) {
				t.Errorf("%s: ports changed", mode)
			}
			r.stop(id)
			r.reach(id, model.Stopped)
			r.empty()
		})
	}
}

func TestExitsMeanwhileAreReported(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		exits := r.add(define(bridge, container("web", "nginx")))
		vanishes := r.add(define(bridge, container("web", "nginx")))
		r.reach(exits, model.Running)
		r.reach(vanishes, model.Running)
		var at time.Time
		r.restart(func() {
			time.Sleep(time.Hour)
			at = time.Now()
			r.machine.Runtime.Exit(exits+"-web", 42)
			r.machine.Runtime.Vanish(vanishes + "-web")
			time.Sleep(time.Hour)
		})
		o := r.reach(exits, model.Stopped)
		if c := named(o, "web"); *c.ExitCode != 42 || !c.FinishedAt.Equal(at) || !o.ExecutionStoppedAt.Equal(at) {
			t.Errorf("it ended at %s with 42; reported as %+v", at, c)
		}
		o = r.reach(vanishes, model.Stopped)
		if c := named(o, "web"); c.ExitCode != nil || c.Reason == "" {
			t.Errorf("a container that vanished is reported as %+v", c)
		}
		r.empty()
	})
}

// A task runs once: what was started before, and is found as if it never had been, has been lost and is not started again.
func TestWhatRanIsNotRunAgain(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(awsvpc, container("job", "nginx"), container("side", "nginx", sidecar)))
		r.reach(id, model.Running)
		r.restart(func() { r.machine.Runtime.Rewind(id + "-job") })
		o := r.reach(id, model.Stopped)
		if c := named(o, "job"); c.ExitCode != nil || !strings.HasPrefix(c.Reason, "CannotInspectContainerError: ") {
			t.Errorf("%+v", c)
		}
		if o.StopCode != types.TaskStopCodeEssentialContainerExited {
			t.Errorf("%s %q", o.StopCode, o.StoppedReason)
		}
		r.empty()
	})
}

// A container that restarts by its own policy while the agent does is started once more, whatever the next agent finds of it.
func TestRestartPolicyOverARestart(t *testing.T) {
	for _, moment := range []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, 900 * time.Millisecond} {
		for name, meanwhile := range map[string]func(*fake.Runtime, string){
			"as it is": func(*fake.Runtime, string) {}, "gone": (*fake.Runtime).Vanish, "created": (*fake.Runtime).Rewind,
		} {
			t.Run(fmt.Sprint(name, moment), func(t *testing.T) {
				inBubble(t, fake.Config{StartFor: time.Second}, func(r *rig) {
					id := r.add(define(awsvpc, container("web", "nginx", func(d *types.ContainerDefinition) {
						d.RestartPolicy = &types.ContainerRestartPolicy{Enabled: new(true), RestartAttemptPeriod: new(int32(60))}
					})))
					r.reach(id, model.Running)
					time.Sleep(2 * time.Minute)
					r.machine.Runtime.Exit(id+"-web", 1)
					time.Sleep(moment)
					synctest.Wait()
					r.restart(func() { meanwhile(r.machine.Runtime, id+"-web") })
					time.Sleep(time.Minute)
					o := r.seen(id)
					if c := named(o, "web"); o.Status != model.Running || c.Status != model.Running || !c.FinishedAt.IsZero() {
						t.Errorf("%s %+v", o.Status, c)
					}
					if pids(t, r.machine)[id+"-web"] == 0 {
						t.Error("it does not run")
					}
					r.stop(id)
					r.reach(id, model.Stopped)
					r.empty()
				})
			})
		}
	}
}

// TestKilledAtAnyMoment kills the agent at each moment of a task's life, and expects the same end.
func TestKilledAtAnyMoment(t *testing.T) {
	def := define(awsvpc, container("db", "slow-start", sidecar), container("web", "slow-stop", after("db", "START")))
	def.TaskRoleArn = new("arn:aws:iam::000000000000:role/r")
	for moment := time.Duration(0); moment < 9*time.Second; moment += 250 * time.Millisecond {
		t.Run(moment.String(), func(t *testing.T) {
			inBubble(t, fake.Config{StartFor: time.Second}, func(r *rig) {
				id := r.add(def)
				begin := time.Now()
				kills := 0
				tick := func() {
					time.Sleep(50 * time.Millisecond)
					synctest.Wait()
					if kills == 0 && time.Since(begin) >= moment {
						kills++
						r.restart(nil)
					}
				}
				stopped := false
				for r.seen(id).Status != model.Stopped {
					if time.Since(begin) > time.Minute {
						t.Fatalf("stuck at %+v", r.seen(id))
					}
					if !stopped && r.seen(id).Status == model.Running {
						r.stop(id)
						stopped = true
					}
					tick()
				}
				o := r.seen(id)
				for _, c := range o.Containers {
					if c.Status != model.Stopped || c.ExitCode == nil || *c.ExitCode != 0 {
						t.Errorf("container %+v", c)
					}
				}
				if o.StopCode != "" || o.StartedAt.IsZero() {
					t.Errorf("ended as %+v", o)
				}
				r.empty()
				r.restart(nil)
				r.remove(id)
				r.empty()
			})
		})
	}
}

func TestLostRecordIsReplacedByTheServers(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(awsvpc, container("web", "nginx")))
		before := r.reach(id, model.Running)
		r.restart(func() {
			if err := os.WriteFile(filepath.Join(r.cfg.StateDir, id, "state.json"), []byte(`{"Obs`), 0o600); err != nil {
				t.Fatal(err)
			}
		})
		time.Sleep(time.Second)
		o := r.seen(id)
		if o.Status != model.Running || !o.StartedAt.Equal(before.StartedAt) || o.Interface.IPv4 != before.Interface.IPv4 {
			t.Errorf("became %+v", o)
		}
		r.stop(id)
		r.reach(id, model.Stopped)
		r.empty()
	})
}

func TestNothingIsRemovedBeforeTheFirstAssignments(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		keep, drop := r.add(define(awsvpc, container("web", "nginx"))), r.add(define(bridge, container("web", "nginx")))
		r.reach(keep, model.Running)
		r.reach(drop, model.Running)
		r.kill()
		r.boot()
		time.Sleep(time.Hour)
		if n := len(pids(t, r.machine)); n != 2 {
			t.Fatalf("%d containers are left before any assignment came", n)
		}
		delete(r.set, drop)
		r.assign()
		time.Sleep(time.Minute)
		if all := pids(t, r.machine); len(all) != 1 || all[keep+"-web"] == 0 {
			t.Errorf("containers %v", all)
		}
		if ids, _ := r.machine.Network.List(t.Context()); len(ids) != 1 || ids[0] != keep {
			t.Errorf("networks %v", ids)
		}
		time.Sleep(2 * time.Hour) // its log is kept for one
		if _, err := os.Stat(filepath.Join(r.cfg.StateDir, drop)); !os.IsNotExist(err) {
			t.Error("the dropped task's folder is still there")
		}
	})
}

func TestMissedExitIsFound(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(bridge, container("web", "nginx")))
		r.reach(id, model.Running)
		r.machine.Runtime.Deaf(true)
		r.machine.Runtime.Exit(id+"-web", 9)
		o := r.reach(id, model.Stopped)
		if c := named(o, "web"); *c.ExitCode != 9 {
			t.Errorf("%+v", c)
		}
		if late := o.StoppedAt.Sub(o.ExecutionStoppedAt); late > 5*time.Second {
			t.Errorf("found after %s", late)
		}
	})
}

func TestRuntimeFailuresThatPass(t *testing.T) {
	passing := errors.New("connection refused")
	inBubble(t, fake.Config{}, func(r *rig) {
		r.machine.Network.Fail("Setup", passing, 2)
		r.machine.Runtime.Fail("Create", passing, 2)
		r.machine.Runtime.Fail("Start", passing, 2)
		r.machine.Runtime.Fail("List", passing, 2)
		id := r.add(define(awsvpc, container("web", "nginx")))
		r.reach(id, model.Running)
		r.machine.Runtime.Fail("Signal", passing, 2)
		r.machine.Runtime.Fail("Delete", passing, 3)
		r.machine.Network.Fail("Teardown", passing, 3)
		r.stop(id)
		r.reach(id, model.Stopped)
		r.empty()
	})
}

func TestStoppedIsReportedThoughTheReleaseTakesLong(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(awsvpc, container("web", "nginx")))
		r.reach(id, model.Running)
		r.machine.Network.Fail("Teardown", errors.New("busy"), 20)
		r.stop(id)
		o := r.reach(id, model.Stopped)
		if took := o.StoppedAt.Sub(o.StoppingAt).Round(time.Second); took != 30*time.Second {
			t.Errorf("after %s", took)
		}
		r.remove(id)
		time.Sleep(5 * time.Minute)
		r.empty()
	})
}

func TestNewSessionCanAskForEverything(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(awsvpc, container("web", "nginx")))
		want := r.reach(id, model.Running)
		all := r.agent.Reports()
		if len(all) != 1 || all[0].TaskID != id || all[0].Observed.Seq != want.Seq {
			t.Errorf("%+v", all)
		}
	})
}

func TestStartFailsAfterARestartBecauseOfTheEarlierAgent(t *testing.T) {
	clash := &agent.Error{Name: "CannotStartContainerError", Message: "failed to start shim"}
	inBubble(t, fake.Config{StartFor: time.Second}, func(r *rig) {
		id := r.add(define(awsvpc, container("web", "nginx")))
		time.Sleep(500 * time.Millisecond)
		r.restart(func() {
			r.machine.Runtime.Fail("Create", clash, 1)
			r.machine.Runtime.Fail("Start", clash, 1)
		})
		r.reach(id, model.Running)
		r.machine.Runtime.Fail("Create", clash, 1)
		fresh := r.add(define(awsvpc, container("web", "nginx")))
		if o := r.reach(fresh, model.Stopped); o.StoppedReason != clash.Error() {
			t.Errorf("%q", o.StoppedReason)
		}
	})
}

// An agent that starts while its server is away goes on with what it was told: containers restart by their policy, what was to be
// stopped is stopped, ends are seen, health is probed. What it was not told of it leaves alone, what needs the server waits for it,
// and then the server hears of everything.
func TestAgentWithoutItsServer(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		again := r.add(define(bridge, container("web", "nginx", func(d *types.ContainerDefinition) {
			d.RestartPolicy = &types.ContainerRestartPolicy{Enabled: new(true), RestartAttemptPeriod: new(int32(60))}
		})))
		ends := r.add(define(bridge, container("web", "nginx")))
		stops := r.add(define(bridge, container("web", "stubborn", stopTimeout(20))))
		well := r.add(define(bridge, container("web", "nginx", func(d *types.ContainerDefinition) {
			d.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "exit", "1"}, Interval: new(int32(5)), Retries: new(int32(1))}
		})))
		forgotten := r.add(define(bridge, container("web", "nginx")))
		for _, id := range []string{again, ends, stops, well, forgotten} {
			r.reach(id, model.Running)
		}
		fresh := r.add(define(awsvpc, container("web", "slow-start")))
		time.Sleep(2 * time.Minute)
		r.stop(stops)
		unpulled := r.add(define(awsvpc, container("web", "slow-start")))
		time.Sleep(time.Second)
		r.kill()
		old := pids(t, r.machine)
		if err := os.Remove(filepath.Join(r.cfg.StateDir, forgotten, "assignment.json")); err != nil {
			t.Fatal(err)
		}
		r.machine.Runtime.Exit(again+"-web", 1)
		r.machine.Runtime.Exit(ends+"-web", 7)
		r.boot() // and nobody assigns anything
		time.Sleep(time.Minute)
		if o := r.seen(again); o.Status != model.Running || pids(t, r.machine)[again+"-web"] == old[again+"-web"] {
			t.Errorf("it did not restart by its policy: %+v", o)
		}
		if o := r.reach(ends, model.Stopped); *named(o, "web").ExitCode != 7 {
			t.Errorf("%+v", o)
		}
		if o := r.reach(stops, model.Stopped); *named(o, "web").ExitCode != 137 {
			t.Errorf("%+v", o)
		}
		if o := r.seen(well); o.Health != types.HealthStatusUnhealthy {
			t.Errorf("its health is %s", o.Health)
		}
		now := pids(t, r.machine)
		if now[forgotten+"-web"] != old[forgotten+"-web"] || now[fresh+"-web"] != old[fresh+"-web"] || now[well+"-web"] != old[well+"-web"] {
			t.Errorf("processes %v became %v", old, now)
		}
		if o := r.seen(unpulled); now[unpulled+"-web"] != 0 || !o.Status.Before(model.Stopping) {
			t.Errorf("what needs the registry did not wait for the server: %+v", o)
		}
		info, err := os.Stat(filepath.Join(r.cfg.StateDir, again, "assignment.json"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
		r.assign()
		r.reach(unpulled, model.Running)
		time.Sleep(time.Minute)
		if after := pids(t, r.machine); after[forgotten+"-web"] != old[forgotten+"-web"] || after[again+"-web"] != now[again+"-web"] {
			t.Errorf("processes %v became %v when the server was back", now, after)
		}
		if o := r.seen(forgotten); o.Status != model.Running {
			t.Errorf("%+v", o)
		}
	})
}

// A server that has an older view than the agent, because an agent was killed before its report was sent, hears the newer one.
func TestServerHearsWhatItMissed(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(bridge, container("web", "nginx")))
		r.reach(id, model.Running)
		stale := r.set[id]
		r.kill()
		r.boot()
		time.Sleep(time.Minute)
		before := r.seen(id)
		old := *stale.Task
		old.Observed = model.Observed{Status: model.Provisioning}
		stale.Task = &old
		r.agent.SetAssignments([]model.Assignment{stale})
		time.Sleep(time.Second)
		if o := r.seen(id); o.Seq <= before.Seq || o.Status != model.Running {
			t.Errorf("report %d %s after %d", o.Seq, o.Status, before.Seq)
		}
	})
}

package agent_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

// happening is something that befalls a task.
type happening struct {
	After time.Duration
	What  string
	Which int // container
}

// TestEveryTaskEndsAndLeavesNothing: whatever a task is made of and whatever happens to it and to its agent, its reports rise (the
// rig checks that), it ends when it is told to, each container that ran has an end, and the machine is empty afterwards.
func TestEveryTaskEndsAndLeavesNothing(t *testing.T) {
	images := []string{"nginx", "nginx", "slow-start", "slow-stop", "stubborn", "crash", "exit:0", "exit:3", "job:5", "missing", "broken", "oom", "unhealthy"}
	events := []string{"restart", "restart", "exit", "vanish", "deaf", "fail Create", "fail Start", "fail Delete", "fail Setup", "fail Teardown", "fail List", "fail Signal"}
	rapid.Check(t, func(rt *rapid.T) {
		def := types.TaskDefinition{NetworkMode: rapid.SampledFrom([]types.NetworkMode{awsvpc, bridge, host, types.NetworkModeNone}).Draw(rt, "mode")}
		for i := range rapid.IntRange(1, 4).Draw(rt, "containers") {
			c := container(fmt.Sprintf("c%d", i), rapid.SampledFrom(images).Draw(rt, "image"), check(5, 2, 2, 0, "CMD", "ok"))
			c.Essential = new(i == 0 || rapid.Bool().Draw(rt, "essential"))
			for on := range i {
				if rapid.IntRange(0, 2).Draw(rt, "depends") == 0 {
					after(fmt.Sprintf("c%d", on), rapid.SampledFrom(types.ContainerConditionStart.Values()).Draw(rt, "condition"))(&c)
				}
			}
			if rapid.IntRange(0, 3).Draw(rt, "policy") == 0 {
				c.RestartPolicy = &types.ContainerRestartPolicy{Enabled: new(true), RestartAttemptPeriod: new(int32(2))}
			}
			def.ContainerDefinitions = append(def.ContainerDefinitions, c)
		}
		plan := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) happening {
			return happening{time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond, rapid.SampledFrom(events).Draw(rt, "event"), rapid.IntRange(0, 3).Draw(rt, "which")}
		}), 0, 6).Draw(rt, "plan")
		startFor := time.Duration(rapid.SampledFrom([]int{0, 300}).Draw(rt, "startFor")) * time.Millisecond
		inBubble(t, fake.Config{StartFor: startFor}, func(r *rig) { live(r, def, plan) })
		if t.Failed() {
			rt.Fatalf("failed with %+v", plan)
		}
	})
}

func live(r *rig, def types.TaskDefinition, plan []happening) {
	id := r.add(def)
	for _, h := range plan {
		time.Sleep(h.After)
		runtimeID := fmt.Sprintf("%s-c%d", id, h.Which)
		switch h.What {
		case "restart":
			r.restart(nil)
		case "exit":
			r.machine.Runtime.Exit(runtimeID, 7)
		case "vanish":
			r.machine.Runtime.Vanish(runtimeID)
		case "deaf":
			r.machine.Runtime.Deaf(true)
		default:
			op := h.What[len("fail "):]
			r.machine.Runtime.Fail(op, errors.New("not now"), 2)
			r.machine.Network.Fail(op, errors.New("not now"), 2)
		}
	}
	time.Sleep(time.Second)
	r.stop(id)
	var o model.Observed
	for range 20 * 60 * 10 {
		if o = r.seen(id); o.Status == model.Stopped {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if o.Status != model.Stopped || o.StoppedAt.IsZero() || o.StoppingAt.IsZero() {
		r.Errorf("after ten minutes the task is %+v", o)
	}
	for _, c := range o.Containers {
		if c.Status != model.Stopped {
			r.Errorf("container %+v", c)
		}
		if !c.StartedAt.IsZero() && (c.FinishedAt.IsZero() || c.ExitCode == nil && c.Reason == "") {
			r.Errorf("a container that ran ended as %+v", c)
		}
	}
	time.Sleep(time.Minute)
	r.empty()
	r.remove(id)
	time.Sleep(2 * time.Minute)
	r.empty()
}

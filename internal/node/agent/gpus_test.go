package agent_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

func wantsGPUs(n string) func(*types.ContainerDefinition) {
	return func(c *types.ContainerDefinition) {
		c.ResourceRequirements = []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: &n}}
	}
}

// TestGPUs: each GPU is one container's at a time, also over a restart of the agent, and is free again after its task.
func TestGPUs(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		r.kill()
		r.cfg.GPUs = []string{"0", "1", "2"}
		r.boot()
		given := func(id, name string) []string {
			spec, _ := r.machine.Runtime.Spec(id + "-" + name)
			return spec.GPUs
		}
		first := r.add(define(types.NetworkModeNone, container("a", "serve", wantsGPUs("1")), container("b", "serve", wantsGPUs("1"))))
		r.reach(first, model.Running)
		if a, b := given(first, "a"), given(first, "b"); !slices.Equal(a, []string{"0"}) || !slices.Equal(b, []string{"1"}) {
			t.Errorf("given %v and %v", a, b)
		}
		if spec, _ := r.machine.Runtime.Spec(first + "-b"); !slices.Contains(spec.Env, "NVIDIA_VISIBLE_DEVICES=1") {
			t.Errorf("environment %q", spec.Env)
		}
		r.kill()
		r.boot()
		r.assign()
		second := r.add(define(types.NetworkModeNone, container("a", "serve", wantsGPUs("2"))))
		if o := r.reach(second, model.Stopped); !strings.Contains(o.StoppedReason, "asks for 2 GPUs, and this machine has 3, of which 1 are free") {
			t.Errorf("%q", o.StoppedReason)
		}
		r.stop(first)
		r.reach(first, model.Stopped)
		third := r.add(define(types.NetworkModeNone, container("a", "serve", wantsGPUs("3"))))
		r.reach(third, model.Running)
		if got := given(third, "a"); !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("given %v", got)
		}
	})
}

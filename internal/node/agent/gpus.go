package agent

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// asksFor tells whether a container asks for a kind of device.
func asksFor(d *types.ContainerDefinition, kind types.ResourceType) bool {
	return slices.ContainsFunc(d.ResourceRequirements, func(r types.ResourceRequirement) bool { return r.Type == kind })
}

// gpusOf is how many GPUs a container asks for.
func gpusOf(d *types.ContainerDefinition) (n int) {
	for _, r := range d.ResourceRequirements {
		if r.Type == types.ResourceTypeGpu {
			count, _ := strconv.Atoi(deref(r.Value)) // registration has read it
			n += max(count, 0)
		}
	}
	return n
}

// keepGPUs notes which GPUs a task that was taken over has. a.mu is held.
func (a *Agent) keepGPUs(t *task) {
	if t.obs.Status == model.Stopped {
		return
	}
	for _, c := range t.containers {
		for _, number := range c.rec.GPUs {
			a.gpus[number] = t.id
		}
	}
}

// freeGPUs gives back a task's GPUs. a.mu is held.
func (a *Agent) freeGPUs(task string) {
	for number, holder := range a.gpus {
		if holder == task {
			delete(a.gpus, number)
		}
	}
}

// leaveGPUs gives back the task's GPUs once its containers are gone.
func (t *task) leaveGPUs() {
	t.agent.mu.Lock()
	defer t.agent.mu.Unlock()
	t.agent.freeGPUs(t.id)
}

// takeGPUs chooses the GPUs of each container that asks for some; nobody else has them until the task is gone.
func (t *task) takeGPUs() *Error {
	t.agent.mu.Lock()
	defer t.agent.mu.Unlock()
	for _, c := range t.containers {
		need := gpusOf(&c.def) - len(c.rec.GPUs)
		for _, number := range t.agent.cfg.GPUs {
			if need <= 0 {
				break
			}
			if t.agent.gpus[number] == "" {
				t.agent.gpus[number] = t.id
				c.rec.GPUs = append(c.rec.GPUs, number)
				t.dirty = true
				need--
			}
		}
		if need > 0 {
			t.agent.freeGPUs(t.id)
			return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf("container %s asks for %d GPUs, and this machine has %d, of which %d are free",
				c.name(), gpusOf(&c.def), len(t.agent.cfg.GPUs), len(t.agent.cfg.GPUs)-len(t.agent.gpus))}
		}
	}
	return nil
}

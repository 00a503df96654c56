package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// dependencies tells whether c's dependencies allow it to be created (toCreate) or started. A container that only waits for
// others to have started is created meanwhile. The error says that they never will.
func (t *task) dependencies(c *container, toCreate bool) (bool, *Error) {
	if c.ran {
		return true, nil // a restart by its own policy: conditions are checked once
	}
	for _, d := range c.def.DependsOn {
		on := t.byName(deref(d.ContainerName))
		if toCreate && d.Condition == types.ContainerConditionStart {
			continue
		}
		if met, err := met(on, d.Condition); err != nil || !met {
			if err != nil {
				err.Message = fmt.Sprintf("container %s cannot start: %s", c.name(), err.Message)
			}
			return false, err
		}
	}
	return true, nil
}

// met tells whether a condition on a container holds, or that it never will.
func met(on *container, condition types.ContainerCondition) (bool, *Error) {
	never := func(format string, args ...any) (bool, *Error) {
		return false, &Error{Name: "TaskDependencyError", Message: fmt.Sprintf("its dependency "+on.name()+" "+format, args...)}
	}
	if on.phase == exited && !on.ran {
		return never("could not start")
	}
	code := deref(on.obs.ExitCode)
	switch condition {
	case types.ContainerConditionStart:
		return on.ran, nil
	case types.ContainerConditionComplete:
		return on.phase == exited, nil
	case types.ContainerConditionSuccess:
		if on.phase == exited && (on.obs.ExitCode == nil || code != 0) {
			return never("did not exit successfully: its exit code is %d", code)
		}
		return on.phase == exited, nil
	case types.ContainerConditionHealthy:
		if on.phase == exited {
			return never("exited with code %d before it was HEALTHY", code)
		}
		return on.obs.Health == types.HealthStatusHealthy, nil
	}
	return never("has the unknown condition %q", condition)
}

// startTimedOut fails those that still wait for c when its startTimeout has passed.
func (t *task) startTimedOut(c *container) {
	for _, waiter := range t.containers {
		for _, d := range waiter.def.DependsOn {
			if deref(d.ContainerName) != c.name() || waiter.phase > created || waiter.ran {
				continue
			}
			if ok, _ := met(c, d.Condition); ok {
				continue
			}
			t.startFailed(waiter, &Error{Name: "TaskDependencyError", Message: fmt.Sprintf(
				"container %s cannot start: its dependency %s did not reach the condition %s within its startTimeout of %d seconds",
				waiter.name(), c.name(), d.Condition, deref(c.def.StartTimeout))})
		}
	}
}

// armStartTimeout begins c's startTimeout, if it has one; it counts from the container's start.
func (t *task) armStartTimeout(c *container) {
	if limit := deref(c.def.StartTimeout); limit > 0 && c.startTimer == nil {
		left := time.Duration(limit)*time.Second - t.agent.cfg.Now().Sub(c.obs.StartedAt)
		c.startTimer = t.after(left, func() { t.startTimedOut(c) })
	}
}

// dependentsGone tells whether every container that depends on c has ended: the order of stopping is that of starting, reversed.
func (t *task) dependentsGone(c *container) bool {
	return !slices.ContainsFunc(t.containers, func(other *container) bool {
		return other != c && other.phase != exited && dependsOn(other, c.name())
	})
}

func dependsOn(c *container, name string) bool {
	if slices.ContainsFunc(c.def.DependsOn, func(d types.ContainerDependency) bool { return deref(d.ContainerName) == name }) {
		return true
	}
	return slices.ContainsFunc(c.def.Links, func(link string) bool { return linked(link) == name })
}

// linked is the container that a link "name" or "name:alias" names.
func linked(link string) string {
	name, _, _ := strings.Cut(link, ":")
	return name
}

// checkOrder refuses dependencies that can never be met: on a container that is not there, or in a circle.
func checkOrder(all []*container) *Error {
	const unseen, open, closed = 0, 1, 2
	state := map[string]int{}
	var visit func(c *container) *Error
	visit = func(c *container) *Error {
		state[c.name()] = open
		for _, other := range prerequisites(c) {
			i := slices.IndexFunc(all, func(o *container) bool { return o.name() == other })
			if i < 0 {
				return &Error{Name: "TaskDependencyError", Message: fmt.Sprintf(
					"container %s needs %s, which the task does not have", c.name(), other)}
			}
			switch state[other] {
			case open:
				return &Error{Name: "TaskDependencyError", Message: fmt.Sprintf("containers %s and %s wait for each other", c.name(), other)}
			case unseen:
				if err := visit(all[i]); err != nil {
					return err
				}
			}
		}
		state[c.name()] = closed
		return nil
	}
	for _, c := range all {
		if state[c.name()] == unseen {
			if err := visit(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// prerequisites are the names of the containers that c waits for.
func prerequisites(c *container) []string {
	var names []string
	for _, d := range c.def.DependsOn {
		names = append(names, deref(d.ContainerName))
	}
	for _, l := range c.def.Links {
		names = append(names, linked(l))
	}
	return names
}

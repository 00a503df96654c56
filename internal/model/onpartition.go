package model

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// PartitionTag is the tag of a service that says what becomes of its tasks when their machine is lost: "replace" (the default), "wait",
// as ECS does, or "fence=10s".
const PartitionTag = "berth:on-partition"

// OnPartition is what a service wants when a machine is lost.
type OnPartition struct {
	// Wait: nothing is replaced until the machine is back, or forgotten.
	Wait bool
	// Fence, when it is not 0, is how long the node may run the task without a server that is in contact with the leader: then it
	// stops the task, and the leader replaces it when that must have been done. So there are never two.
	Fence time.Duration
}

// The bounds of a fence: below, a leader's election would stop tasks; above, it is no better than waiting.
const (
	leastFence = 5 * time.Second
	mostFence  = time.Hour
)

// ParseOnPartition reads the tag's value.
func ParseOnPartition(value string) (OnPartition, error) {
	switch lease, fence := strings.CutPrefix(value, "fence="); {
	case value == "replace":
		return OnPartition{}, nil
	case value == "wait":
		return OnPartition{Wait: true}, nil
	case fence:
		if d, err := time.ParseDuration(lease); err == nil && d >= leastFence && d <= mostFence {
			return OnPartition{Fence: d}, nil
		}
	}
	return OnPartition{}, fmt.Errorf("tag %s must be replace, wait or fence=<time>, such as fence=10s, with a time from %s to %s; %q is none of them",
		PartitionTag, leastFence, mostFence, value)
}

// OnPartitionOf is what the tags say; what cannot be read, which the API refuses, counts as the default.
func OnPartitionOf(tags []types.Tag) OnPartition {
	for _, t := range tags {
		if t.Key != nil && *t.Key == PartitionTag && t.Value != nil {
			p, _ := ParseOnPartition(*t.Value)
			return p
		}
	}
	return OnPartition{}
}

// StopTime bounds how long a task's containers may take to stop: one after another, if each depends on the next. def and most are the
// stopTimeout of a container that sets none, and the longest that counts.
func StopTime(d *types.TaskDefinition, def, most time.Duration) (sum time.Duration) {
	for _, c := range d.ContainerDefinitions {
		own := def
		if c.StopTimeout != nil {
			own = time.Duration(*c.StopTimeout) * time.Second
		}
		sum += min(own, most)
	}
	return sum
}

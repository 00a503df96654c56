package task

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// ChooseProvider returns the capacity provider of the next task under strategy, when placed tells how many tasks each provider
// has already: first the base is met, then the one that lags furthest behind its weight, the earlier one on a tie. It is "" when
// strategy is empty or all its weights are 0 and its base is met.
func ChooseProvider(strategy []types.CapacityProviderStrategyItem, placed map[string]int) string {
	for _, s := range strategy {
		if placed[value(s.CapacityProvider)] < int(s.Base) {
			return value(s.CapacityProvider)
		}
	}
	best, bestHas, bestWeight := "", 0, 1
	for _, s := range strategy {
		if s.Weight <= 0 {
			continue
		}
		has := placed[value(s.CapacityProvider)] - int(s.Base)
		// has/weight < bestHas/bestWeight, without a division.
		if best == "" || has*bestWeight < bestHas*int(s.Weight) {
			best, bestHas, bestWeight = value(s.CapacityProvider), has, int(s.Weight)
		}
	}
	return best
}

// Tags joins the tags of a task: its own, those propagated to it that it does not have, and ECS's managed ones.
func Tags(own, propagated, managed []types.Tag) []types.Tag {
	var all []types.Tag
	seen := map[string]bool{}
	for _, list := range [][]types.Tag{own, propagated, managed} {
		for _, tag := range list {
			if key := value(tag.Key); !seen[key] {
				seen[key] = true
				all = append(all, tag)
			}
		}
	}
	return all
}

// ManagedTags are the tags that enableECSManagedTags adds; service is "" for a standalone task.
func ManagedTags(cluster, service string) []types.Tag {
	tags := []types.Tag{{Key: new("aws:ecs:clusterName"), Value: new(cluster)}}
	if service != "" {
		tags = append(tags, types.Tag{Key: new("aws:ecs:serviceName"), Value: new(service)})
	}
	return tags
}

package targets

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// news is what one service is told in one run.
type news struct {
	registered   tally // by target group ARN
	deregistered tally // by target group ARN
	draining     tally // by task id
}

type tally map[string]int

func (t tally) add(key string) tally {
	if t == nil {
		t = tally{}
	}
	t[key]++
	return t
}

// texts makes the events, in ECS's own words, in the order in which things happened.
func (n *news) texts(service string) []string {
	var out []string
	if len(n.draining) > 0 {
		out = append(out, fmt.Sprintf("(service %s) has begun draining connections on %d tasks.", service, len(n.draining)))
	}
	for _, group := range sortedKeys(n.deregistered) {
		out = append(out, fmt.Sprintf("(service %s) deregistered %d targets in (target-group %s)", service,
			n.deregistered[group], group))
	}
	for _, group := range sortedKeys(n.registered) {
		out = append(out, fmt.Sprintf("(service %s) registered %d targets in (target-group %s)", service,
			n.registered[group], group))
	}
	return out
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

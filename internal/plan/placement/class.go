package placement

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// How many kinds of tasks and expressions are remembered; beyond that all are forgotten and worked out anew.
const (
	maxClasses = 1 << 14
	maxQueries = 1 << 10
)

// class is what the tasks of one kind (of a service, say) have in common: worked out once, used for each of them.
type class struct {
	distinct bool
	static   []*Query // memberOf constraints, whose answers a view keeps
	dynamic  []*Query // those whose answers change with the tasks on the instance, or differ by cluster
	ranking  ranking
	viewKey  string
	view     *view
	err      error // a memberOf expression that cannot be read

	refused *refusal // of the last of them
}

// parsed is a placement expression, parsed once.
type parsed struct {
	query *Query
	err   error
}

// class returns the task's class, new when there is none yet.
func (s *State) class(c *cluster, t *model.Task) *class {
	key := classKey(t)
	if k := c.classes[key]; k != nil {
		return k
	}
	if len(c.classes) >= maxClasses {
		clear(c.classes)
	}
	k := &class{ranking: rank(t)}
	c.classes[key] = k
	var expressions []string
	for _, constraint := range t.Constraints {
		switch constraint.Type {
		case types.PlacementConstraintTypeDistinctInstance:
			k.distinct = true
		case types.PlacementConstraintTypeMemberOf:
			expression := value(constraint.Expression)
			q, err := s.query(expression)
			switch {
			case err != nil:
				k.err = err
				return k
			case q.dynamic:
				k.dynamic = append(k.dynamic, q)
			default:
				k.static = append(k.static, q)
				expressions = append(expressions, expression)
			}
		}
	}
	k.viewKey = viewKey(k.ranking, expressions)
	return k
}

// classKey is the same for tasks that placement cannot tell apart, but for their ids.
func classKey(t *model.Task) string {
	b := make([]byte, 0, 128)
	b = strconv.AppendQuote(b, t.Group)
	b = strconv.AppendBool(b, t.Service != "")
	for _, n := range []int64{t.Needs.CPU, t.Needs.Memory, int64(t.Needs.ENIs), int64(t.Needs.GPUs)} {
		b = strconv.AppendInt(append(b, ' '), n, 10)
	}
	for _, p := range t.Needs.Ports {
		b = strconv.AppendInt(append(b, p.Protocol...), int64(p.Port), 10)
	}
	for _, c := range t.Constraints {
		b = strconv.AppendQuote(append(b, c.Type...), value(c.Expression))
	}
	for _, p := range t.Strategy {
		b = strconv.AppendQuote(append(b, p.Type...), value(p.Field))
	}
	return string(b)
}

// query parses an expression once for all tasks.
func (s *State) query(expression string) (*Query, error) {
	p, ok := s.queries[expression]
	if !ok {
		if len(s.queries) >= maxQueries {
			clear(s.queries)
		}
		p.query, p.err = ParseQuery(expression)
		s.queries[expression] = p
	}
	return p.query, p.err
}

package placement

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// class is what the tasks of one kind (of a service, say) have in common: worked out once, used for each of them.
type class struct {
	group    *group
	distinct bool
	members  []member
	scores   []score
	err      error     // a memberOf expression that cannot be read
	refused  *Decision // why the last of them fitted nowhere
}

// member is a memberOf constraint. answers is nil when the answer changes with the tasks on the instance.
type member struct {
	query   *Query
	answers []bool
}

// class returns the task's class, new when there is none yet.
func (s *State) class(c *cluster, t *model.Task) *class {
	key := classKey(t)
	if k := c.classes[key]; k != nil {
		return k
	}
	k := &class{group: c.group(t.Group)}
	c.classes[key] = k
	for _, constraint := range t.Constraints {
		switch constraint.Type {
		case types.PlacementConstraintTypeDistinctInstance:
			k.distinct = true
		case types.PlacementConstraintTypeMemberOf:
			m, err := s.member(c, value(constraint.Expression))
			if err != nil {
				k.err = err
				return k
			}
			k.members = append(k.members, m)
		}
	}
	k.scores = s.scores(c, k.group, t)
	return k
}

// classKey is the same for tasks that placement cannot tell apart, but for their ids.
func classKey(t *model.Task) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %t %d %d %d %v", t.Group, t.Service != "", t.Needs.CPU, t.Needs.Memory, t.Needs.ENIs, t.Needs.Ports)
	for _, c := range t.Constraints {
		fmt.Fprintf(&b, " %s %q", c.Type, value(c.Expression))
	}
	for _, p := range t.Strategy {
		fmt.Fprintf(&b, " %s %q", p.Type, value(p.Field))
	}
	return b.String()
}

// member parses an expression once for all tasks, and asks it once an instance unless the answer depends on tasks.
func (s *State) member(c *cluster, expression string) (member, error) {
	p, ok := s.queries[expression]
	if !ok {
		p.query, p.err = ParseQuery(expression)
		s.queries[expression] = p
	}
	if p.err != nil {
		return member{}, p.err
	}
	m := member{query: p.query, answers: c.matches[expression]}
	if p.query.dynamic || m.answers != nil {
		return m, nil
	}
	m.answers = make([]bool, len(c.instances))
	for n, i := range c.instances {
		m.answers[n] = p.query.Match(i.facts())
	}
	c.matches[expression] = m.answers
	return m, nil
}

// refuses tells whether a constraint keeps the task off the instance.
func (k *class) refuses(i *instance) bool { return k.refusesDistinct(i) || k.refusesMember(i) }

func (k *class) refusesDistinct(i *instance) bool { return k.distinct && k.group.tasks[i.at] > 0 }

func (k *class) refusesMember(i *instance) bool {
	for _, m := range k.members {
		if m.answers != nil && !m.answers[i.at] {
			return true
		}
		if m.answers == nil && !m.query.Match(i.facts()) {
			return true
		}
	}
	return false
}

// dynamic tells that a constraint looks at the tasks on the instance, so that placing one may let another in.
func (k *class) dynamic() bool {
	for _, m := range k.members {
		if m.answers == nil {
			return true
		}
	}
	return false
}

// group counts the tasks of one group in a cluster.
type group struct {
	tasks  []int // by instance
	fields map[string]*tally
}

// tally counts a group's tasks by the value that a field has on their instances.
type tally struct {
	values []int // by instance: the number of its value
	counts []int // by number of value
}

func (c *cluster) group(name string) *group {
	if g := c.groups[name]; g != nil {
		return g
	}
	g := &group{tasks: make([]int, len(c.instances)), fields: map[string]*tally{}}
	for _, at := range c.members[name] {
		g.tasks[at]++
	}
	c.groups[name] = g
	return g
}

func (g *group) hold(at int) {
	g.tasks[at]++
	for _, f := range g.fields {
		f.counts[f.values[at]]++
	}
}

// by counts the group's tasks by a field; of returns the field's value on an instance.
func (g *group) by(c *cluster, field string, of func(*instance) string) *tally {
	if f := g.fields[field]; f != nil {
		return f
	}
	f := &tally{values: make([]int, len(c.instances))}
	numbers := map[string]int{}
	for at, i := range c.instances {
		v := of(i)
		n, ok := numbers[v]
		if !ok {
			n = len(f.counts)
			numbers[v] = n
			f.counts = append(f.counts, 0)
		}
		f.values[at] = n
		f.counts[n] += g.tasks[at]
	}
	g.fields[field] = f
	return f
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

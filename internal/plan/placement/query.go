package placement

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// Query is an expression of the cluster query language, such as
// "attribute:ecs.instance-type =~ t2.* and not(task:group == database)".
type Query struct {
	root expression
	// dynamic: the answer depends on the tasks on the instance, or on the cluster.
	dynamic bool
	// beside: where none of these groups has a task the query is not true. Nil: it may be.
	beside []string
}

// Facts are what a Query looks at.
type Facts struct {
	Instance   *model.Instance // nil: as its node says
	Node       *model.Node
	FreeCPU    int64 // CPU units
	FreeMemory int64 // MiB
	Live       Live  // nil for a query that is not Dynamic
}

// Live is what differs by cluster, or changes with the tasks of the cluster on the instance.
type Live interface {
	// Registered is when the node became an instance of the cluster.
	Registered() time.Time
	// Tasks counts those that are RUNNING and those that are not yet.
	Tasks() (running, pending int)
	// HasGroup tells whether a task of the group is there.
	HasGroup(name string) bool
	// Groups lists the groups of the tasks, in order.
	Groups() []string
}

// Dynamic tells that the answer may depend on more than the node and what clients changed of the instance: on the tasks there, or
// on the cluster.
func (q *Query) Dynamic() bool { return q.dynamic }

// Match tells whether the query is true of an instance.
func (q *Query) Match(f *Facts) bool { return q.root.match(f) }

// Match tells whether the query is true of a cluster's instance. on are the tasks of all clusters on its node that have not ended;
// a query that is not Dynamic does not look at them.
func Match(q *Query, i *model.Instance, n *model.Node, on []*model.Task) bool {
	live := &still{registered: i.RegisteredAt}
	f := &Facts{Instance: i, Node: n, FreeCPU: n.CPU, FreeMemory: n.Memory, Live: live}
	for _, t := range on {
		f.FreeCPU -= t.Needs.CPU
		f.FreeMemory -= t.Needs.Memory
		if t.Cluster != i.Cluster {
			continue
		}
		live.groups = append(live.groups, t.Group)
		if t.Observed.Status == model.Running {
			live.running++
		} else {
			live.pending++
		}
	}
	slices.Sort(live.groups)
	live.groups = slices.Compact(live.groups)
	return q.Match(f)
}

// still implements Live.
type still struct {
	registered       time.Time
	running, pending int
	groups           []string
}

func (s *still) Registered() time.Time         { return s.registered }
func (s *still) Tasks() (running, pending int) { return s.running, s.pending }
func (s *still) HasGroup(name string) bool     { return slices.Contains(s.groups, name) }
func (s *still) Groups() []string              { return s.groups }

// expression is a node of the syntax tree.
type expression interface {
	match(f *Facts) bool
	// beside lists groups one of which must have a task on the instance, nil when there need be none.
	beside() []string
}

type (
	and    struct{ left, right expression }
	or     struct{ left, right expression }
	negate struct{ of expression }
	// test compares one subject. want are the operands; pattern is the compiled one of =~ and !~.
	test struct {
		subject string
		op      operator
		want    []string
		pattern *regexp.Regexp
	}
)

func (e and) match(f *Facts) bool    { return e.left.match(f) && e.right.match(f) }
func (e or) match(f *Facts) bool     { return e.left.match(f) || e.right.match(f) }
func (e negate) match(f *Facts) bool { return !e.of.match(f) }

func (e and) beside() []string {
	left, right := e.left.beside(), e.right.beside()
	if left == nil || right != nil && len(right) < len(left) {
		return right
	}
	return left
}

func (e or) beside() []string {
	left, right := e.left.beside(), e.right.beside()
	if left == nil || right == nil {
		return nil
	}
	return slices.Concat(left, right)
}

func (e negate) beside() []string { return nil }

func (e *test) beside() []string {
	if e.subject == subjectGroup && (e.op == equal || e.op == in) {
		return e.want
	}
	return nil
}

type operator int

const (
	equal operator = iota
	notEqual
	less
	lessEqual
	greater
	greaterEqual
	matches
	notMatches
	in
	notIn
	exists
	notExists
)

// The subjects.
const (
	subjectAttribute  = "attribute:"
	subjectGroup      = "task:group"
	subjectConnected  = "agentConnected"
	subjectVersion    = "agentVersion"
	subjectEC2        = "ec2InstanceId"
	subjectRegistered = "registeredAt"
	subjectRunning    = "runningTasksCount"
	subjectPending    = "pendingTasksCount"
	subjectCPU        = "registeredCpu"
	subjectMemory     = "registeredMemory"
	subjectFreeCPU    = "remainingCpu"
	subjectFreeMemory = "remainingMemory"
)

// kind is how the values of a subject compare.
type kind int

const (
	text kind = iota
	number
	instant
	version
)

// subjects are the ones without "attribute:", and how they compare.
var subjects = map[string]kind{
	subjectGroup: text, subjectConnected: text, subjectVersion: version, subjectEC2: text, subjectRegistered: instant,
	subjectRunning: number, subjectPending: number, subjectCPU: number, subjectMemory: number,
	subjectFreeCPU: number, subjectFreeMemory: number,
}

// dynamicSubjects change when a task is placed, or are not the same in all clusters.
var dynamicSubjects = []string{subjectGroup, subjectRegistered, subjectRunning, subjectPending, subjectFreeCPU, subjectFreeMemory}

func (e *test) match(f *Facts) bool {
	if e.subject == subjectGroup {
		return e.matchGroup(f)
	}
	have, ok := e.value(f)
	switch e.op {
	case exists:
		return ok
	case notExists:
		return !ok
	case notEqual, notMatches, notIn:
		return !ok || e.holds(have)
	}
	return ok && e.holds(have)
}

// matchGroup asks the groups on the instance: the positive operators want one that fits, the negative ones want none.
func (e *test) matchGroup(f *Facts) bool {
	switch e.op {
	case equal:
		return f.Live.HasGroup(e.want[0])
	case notEqual:
		return !f.Live.HasGroup(e.want[0])
	case in:
		return slices.ContainsFunc(e.want, f.Live.HasGroup)
	case notIn:
		return !slices.ContainsFunc(e.want, f.Live.HasGroup)
	case exists:
		return len(f.Live.Groups()) > 0
	case notExists:
		return len(f.Live.Groups()) == 0
	case notMatches:
		return !slices.ContainsFunc(f.Live.Groups(), e.pattern.MatchString)
	}
	return slices.ContainsFunc(f.Live.Groups(), e.holds)
}

func (e *test) value(f *Facts) (string, bool) {
	if name, ok := strings.CutPrefix(e.subject, subjectAttribute); ok {
		return f.Node.Attribute(f.Instance, name)
	}
	switch e.subject {
	case subjectConnected:
		return strconv.FormatBool(f.Node.Agent()), true
	case subjectVersion:
		return f.Node.Version, f.Node.Version != ""
	case subjectEC2:
		return model.EC2ID(f.Node.ID), true
	case subjectRegistered:
		return f.Live.Registered().Format(time.RFC3339Nano), true
	case subjectRunning:
		running, _ := f.Live.Tasks()
		return strconv.Itoa(running), true
	case subjectPending:
		_, pending := f.Live.Tasks()
		return strconv.Itoa(pending), true
	case subjectCPU:
		return strconv.FormatInt(f.Node.CPU, 10), true
	case subjectMemory:
		return strconv.FormatInt(f.Node.Memory, 10), true
	case subjectFreeCPU:
		return strconv.FormatInt(f.FreeCPU, 10), true
	case subjectFreeMemory:
		return strconv.FormatInt(f.FreeMemory, 10), true
	}
	return "", false
}

// holds compares a value that is there with the operands.
func (e *test) holds(have string) bool {
	switch e.op {
	case matches:
		return e.pattern.MatchString(have)
	case notMatches:
		return !e.pattern.MatchString(have)
	case in:
		return slices.ContainsFunc(e.want, func(w string) bool { return e.compare(have, w) == 0 })
	case notIn:
		return !slices.ContainsFunc(e.want, func(w string) bool { return e.compare(have, w) == 0 })
	}
	c := e.compare(have, e.want[0])
	switch e.op {
	case equal:
		return c == 0
	case notEqual:
		return c != 0
	case less:
		return c < 0
	case lessEqual:
		return c <= 0
	case greater:
		return c > 0
	}
	return c >= 0
}

// compare orders two values as the subject's kind does; attributes compare as numbers when both are numbers.
func (e *test) compare(a, b string) int {
	switch subjects[e.subject] {
	case version:
		return compareVersions(a, b)
	case instant:
		x, _ := time.Parse(time.RFC3339Nano, a)
		y, _ := parseInstant(b)
		return x.Compare(y)
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX == nil && errY == nil && x == x && y == y && e.subject != subjectEC2 {
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	return strings.Compare(a, b)
}

// parseInstant reads the forms of a time that the language takes.
func parseInstant(s string) (time.Time, error) {
	var err error
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		var t time.Time
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}

// compareVersions compares dotted numbers, "v1.10.0" above "1.9".
func compareVersions(a, b string) int {
	x, y := versionParts(a), versionParts(b)
	for n := range max(len(x), len(y)) {
		var p, q string
		if n < len(x) {
			p = x[n]
		}
		if n < len(y) {
			q = y[n]
		}
		i, errI := strconv.Atoi("0" + p)
		j, errJ := strconv.Atoi("0" + q)
		if errI != nil || errJ != nil {
			if c := strings.Compare(p, q); c != 0 {
				return c
			}
			continue
		}
		if i != j {
			return i - j
		}
	}
	return 0
}

func versionParts(s string) []string { return strings.Split(strings.TrimPrefix(s, "v"), ".") }

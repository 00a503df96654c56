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
	// dynamic: the answer depends on the tasks on the instance.
	dynamic bool
}

// Facts are what a Query looks at.
type Facts struct {
	Instance   *model.Instance
	Node       *model.Node
	Attributes map[string]string // as Attributes returns them
	Running    int               // tasks of the cluster on the instance that are RUNNING
	Pending    int               // tasks of the cluster on the instance that are not RUNNING yet
	FreeCPU    int64             // CPU units
	FreeMemory int64             // MiB
	// InGroup tells whether a task of the group is on the instance. It is asked only by queries of task:group.
	InGroup func(group string) bool
	// Groups lists the groups of the tasks on the instance. It is asked only where task:group is matched otherwise than by ==.
	Groups func() []string
}

// Match tells whether the query is true of an instance.
func (q *Query) Match(f Facts) bool { return q.root.match(&f) }

// Select returns the cluster's instances of which the query is true, by id. A nil query is true of all.
func (s *State) Select(cluster string, q *Query) []*model.Instance {
	c := s.clusters[cluster]
	if c == nil {
		return nil
	}
	var out []*model.Instance
	for _, i := range c.instances {
		if q == nil || q.Match(i.facts()) {
			out = append(out, i.Instance)
		}
	}
	return out
}

func (i *instance) facts() Facts {
	return Facts{
		Instance: i.Instance, Node: i.node.Node, Attributes: Attributes(i.Instance, i.node.Node),
		Running: i.running, Pending: i.pending, FreeCPU: i.node.freeCPU, FreeMemory: i.node.freeMemory,
		InGroup: func(group string) bool { return slices.Contains(i.cluster.members[group], i.at) },
		Groups: func() []string {
			var out []string
			for name, places := range i.cluster.members {
				if slices.Contains(places, i.at) {
					out = append(out, name)
				}
			}
			slices.Sort(out)
			return out
		},
	}
}

// expression is a node of the syntax tree.
type expression interface{ match(f *Facts) bool }

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

// dynamicSubjects change when a task is placed.
var dynamicSubjects = []string{subjectGroup, subjectRunning, subjectPending, subjectFreeCPU, subjectFreeMemory}

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
		return f.InGroup(e.want[0])
	case notEqual:
		return !f.InGroup(e.want[0])
	case in:
		return slices.ContainsFunc(e.want, f.InGroup)
	case notIn:
		return !slices.ContainsFunc(e.want, f.InGroup)
	case exists:
		return len(f.Groups()) > 0
	case notExists:
		return len(f.Groups()) == 0
	case notMatches:
		return !slices.ContainsFunc(f.Groups(), e.pattern.MatchString)
	}
	return slices.ContainsFunc(f.Groups(), e.holds)
}

func (e *test) value(f *Facts) (string, bool) {
	if name, ok := strings.CutPrefix(e.subject, subjectAttribute); ok {
		v, ok := f.Attributes[name]
		return v, ok
	}
	switch e.subject {
	case subjectConnected:
		return strconv.FormatBool(f.Node.Connected), true
	case subjectVersion:
		return f.Node.Version, f.Node.Version != ""
	case subjectEC2:
		return f.Instance.EC2ID, true
	case subjectRegistered:
		return f.Instance.RegisteredAt.Format(time.RFC3339Nano), true
	case subjectRunning:
		return strconv.Itoa(f.Running), true
	case subjectPending:
		return strconv.Itoa(f.Pending), true
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

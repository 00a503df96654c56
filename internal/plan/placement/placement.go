// Package placement chooses the container instance that a task runs on. It is pure: the state and the tasks are values, and the
// same values give the same answer.
package placement

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/berthdev/berth/internal/model"
)

// State is what placement knows: the nodes, their memberships in clusters and what is placed on them. Place changes it as it
// places, so that a batch is consistent. Not safe for concurrent use.
type State struct {
	nodes     map[string]*node
	clusters  map[string]*cluster
	instances map[string]*instance // by id
	queries   map[string]parsed    // by expression
}

// parsed is a placement expression, parsed once.
type parsed struct {
	query *Query
	err   error
}

// NewState builds a State from every node, every instance and every task that has not ended.
func NewState(nodes []*model.Node, instances []*model.Instance, tasks []*model.Task) *State {
	s := &State{
		nodes: make(map[string]*node, len(nodes)), instances: make(map[string]*instance, len(instances)),
		clusters: map[string]*cluster{}, queries: map[string]parsed{},
	}
	for _, n := range nodes {
		s.nodes[n.ID] = newNode(n)
	}
	sorted := slices.SortedFunc(slices.Values(instances), func(a, b *model.Instance) int { return cmp.Compare(a.ID, b.ID) })
	for _, i := range sorted {
		n := s.nodes[i.NodeID]
		if n == nil || i.Status == statusInactive {
			continue
		}
		c := s.cluster(i.Cluster)
		at := &instance{Instance: i, node: n, cluster: c, at: len(c.instances)}
		c.instances = append(c.instances, at)
		s.instances[i.ID] = at
	}
	for _, t := range tasks {
		if t.NodeID == "" || t.Ended() {
			continue
		}
		if n := s.nodes[t.NodeID]; n != nil {
			n.hold(t)
		}
		if i := s.instances[t.InstanceID]; i != nil {
			i.hold(t)
		}
	}
	return s
}

func (s *State) cluster(name string) *cluster {
	c := s.clusters[name]
	if c == nil {
		c = &cluster{members: map[string][]int{}, groups: map[string]*group{}, classes: map[string]*class{},
			matches: map[string][]bool{}}
		s.clusters[name] = c
	}
	return c
}

// Decision is where one task goes, or why it goes nowhere.
type Decision struct {
	TaskID     string
	InstanceID string // "" when nothing fits
	NodeID     string
	// Reason says why this instance, or is the code of failures[].reason: RESOURCE:CPU, RESOURCE:MEMORY, RESOURCE:PORTS,
	// RESOURCE:ENI, AGENT, ATTRIBUTE, MemberOf placement constraint unsatisfied., … (ecs.md 1.5).
	Reason string
	// ClosestInstanceID is the instance that came nearest when nothing fits, "" when the cluster has none.
	ClosestInstanceID string
	// Explanation, when nothing fits, is the sentence that follows "Reason: " in the service event, such as
	// "No Container Instances were found in your cluster." or
	// "The closest matching (container-instance <id>) has insufficient memory available.".
	Explanation string
	// Refusals count, when nothing fits, how many instances each requirement refused first, in the order of the checks.
	Refusals []Refusal
}

// Refusal is how many instances were refused for one reason.
type Refusal struct {
	Reason string
	Count  int
}

// The statuses of a container instance.
const (
	statusActive   = "ACTIVE"
	statusInactive = "INACTIVE"
)

// ENILimitAttribute is the node attribute that bounds how many awsvpc tasks the node runs at a time; absent or no number: no
// bound.
const ENILimitAttribute = "berth.eni-limit"

// node is a machine and what its tasks of all clusters leave free.
type node struct {
	*model.Node
	freeCPU    int64
	freeMemory int64
	freeENIs   int
	ports      map[model.HostPort]bool // taken or reserved
	tasks      int
	load       int64 // the fuller of CPU and memory, in millionths
}

// noLimit is more interfaces than a machine has addresses for.
const noLimit = 1 << 30

func newNode(n *model.Node) *node {
	out := &node{Node: n, freeCPU: n.CPU, freeMemory: n.Memory, freeENIs: noLimit,
		ports: make(map[model.HostPort]bool, len(n.ReservedPorts))}
	if limit, err := strconv.Atoi(n.Attributes[ENILimitAttribute]); err == nil && limit >= 0 {
		out.freeENIs = limit
	}
	for _, p := range n.ReservedPorts {
		out.ports[model.HostPort{Port: p, Protocol: tcp}] = true
	}
	return out
}

const tcp = "tcp"

// hold takes what a task needs. A node may hold more than it has: tasks placed before it shrank.
func (n *node) hold(t *model.Task) {
	n.freeCPU -= t.Needs.CPU
	n.freeMemory -= t.Needs.Memory
	n.freeENIs -= t.Needs.ENIs
	n.tasks++
	n.load = max(filled(n.CPU, n.freeCPU), filled(n.Memory, n.freeMemory))
	for _, p := range t.Needs.Ports {
		n.ports[p] = true
	}
	for i := range t.Observed.Containers { // the ports that the agent chose
		for _, b := range t.Observed.Containers[i].NetworkBindings {
			if b.HostPort != nil {
				n.ports[model.HostPort{Port: *b.HostPort, Protocol: cmp.Or(string(b.Protocol), tcp)}] = true
			}
		}
	}
}

func filled(all, free int64) int64 {
	if all <= 0 {
		return 0
	}
	return (all - free) * 1_000_000 / all
}

// cluster is the container instances of one cluster and the groups of tasks on them.
type cluster struct {
	instances []*instance      // by id
	members   map[string][]int // by group: the place of the instance of each of its tasks
	groups    map[string]*group
	classes   map[string]*class
	matches   map[string][]bool // by expression that depends on no task: the answer of each instance
}

// instance is a container instance; at is its place in its cluster's list.
type instance struct {
	*model.Instance
	node    *node
	cluster *cluster
	at      int
	running int
	pending int
}

func (i *instance) hold(t *model.Task) {
	if t.Observed.Status == model.Running {
		i.running++
	} else {
		i.pending++
	}
	i.cluster.members[t.Group] = append(i.cluster.members[t.Group], i.at)
	if g := i.cluster.groups[t.Group]; g != nil {
		g.hold(i.at)
	}
}

// Attributes are an instance's attributes as clients see them: the node's own and those that PutAttributes added, which win.
func Attributes(i *model.Instance, n *model.Node) map[string]string {
	out := make(map[string]string, len(i.Attributes)+8)
	if n != nil {
		for k, v := range n.Attributes {
			out[k] = v
		}
		if _, ok := out["ecs.cpu-architecture"]; !ok && n.Arch != "" {
			out["ecs.cpu-architecture"] = architecture(n.Arch)
		}
	}
	for _, a := range i.Attributes {
		if a.Name == nil {
			continue
		}
		out[*a.Name] = ""
		if a.Value != nil {
			out[*a.Name] = *a.Value
		}
	}
	return out
}

// architecture spells GOARCH as ECS does.
func architecture(goarch string) string {
	if goarch == "amd64" {
		return "x86_64"
	}
	return goarch
}

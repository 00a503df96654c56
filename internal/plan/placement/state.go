package placement

import (
	"slices"

	"github.com/berthdev/berth/internal/model"
)

// State is what placement knows: the clusters, the nodes, what clients changed of container instances, and the tasks that are
// placed. Its changes may come in any order and more than once. Place changes it as it places, so that a batch is consistent. Not
// safe for concurrent use.
type State struct {
	clusters map[string]*cluster
	nodes    map[string]*node
	tasks    map[string]*hold // by id
	queries  map[string]parsed
	front    *front
	pools    []*pool // of the clusters that were asked about last
	choosy   int     // nodes that are members of named clusters only
	frees    int     // rises when something may fit that did not
	few      int     // see patience
	clock    int     // rises with each question; pools and views know when they were last asked
}

// hold is what a task takes.
type hold struct {
	task    *model.Task
	node    *node
	group   *group // nil: of no instance
	running bool
}

// NewState builds a State from every cluster, every node, every stored container instance and every task that has not ended.
func NewState(clusters []*model.Cluster, nodes []*model.Node, instances []*model.Instance, tasks []*model.Task) *State {
	s := &State{clusters: make(map[string]*cluster, len(clusters)), nodes: make(map[string]*node, len(nodes)),
		tasks: make(map[string]*hold, len(tasks)), queries: map[string]parsed{}, front: newFront(), few: few}
	for _, c := range clusters {
		s.PutCluster(c)
	}
	for _, n := range nodes {
		s.PutNode(n)
	}
	for _, i := range instances {
		s.PutInstance(i)
	}
	for _, t := range tasks {
		s.PutTask(t)
	}
	return s
}

// PutCluster takes in a cluster that is new or has changed.
func (s *State) PutCluster(c *model.Cluster) {
	s.cluster(c.Name).Cluster = c
	s.frees++
}

// DropCluster forgets a cluster.
func (s *State) DropCluster(name string) {
	if c := s.clusters[name]; c != nil {
		c.Cluster = nil
		s.tidyCluster(c)
	}
}

// PutNode takes in a node that is new or has changed.
func (s *State) PutNode(m *model.Node) {
	n := s.node(m.ID)
	if !model.SameBalancing(n.Node, m) {
		s.front.serving = nil
	}
	s.describe(n, func() {
		s.choosy += choosy(m) - choosy(n.Node)
		n.become(m)
	})
}

// DropNode forgets a node. Its tasks are still known, should it come back.
func (s *State) DropNode(id string) {
	n := s.nodes[id]
	if n == nil || n.Node == nil {
		return
	}
	s.front.serving = nil
	s.describe(n, func() {
		s.choosy -= choosy(n.Node)
		n.become(nil)
	})
	s.tidyNode(n)
}

func choosy(m *model.Node) int {
	if m == nil || m.Clusters == nil {
		return 0
	}
	return 1
}

// PutInstance takes in what clients changed of a container instance.
func (s *State) PutInstance(i *model.Instance) {
	c, n := s.cluster(i.Cluster), s.node(i.NodeID)
	s.describe(n, func() { c.rows[n.id] = i })
}

// DropInstance forgets what clients changed of a container instance: it is again what its node says.
func (s *State) DropInstance(i *model.Instance) {
	c, n := s.clusters[i.Cluster], s.nodes[i.NodeID]
	if c == nil || n == nil || c.rows[n.id] == nil || c.rows[n.id].ID != i.ID {
		return
	}
	s.describe(n, func() { delete(c.rows, n.id) })
	s.tidyNode(n)
	s.tidyCluster(c)
}

// describe changes what a node, or one of its instances, is, and keeps what was worked out from it true.
func (s *State) describe(n *node, change func()) {
	for _, g := range n.groups {
		g.tally(n, -1)
	}
	change()
	for _, g := range n.groups {
		g.tally(n, 1)
	}
	s.frees++
	for _, p := range s.pools {
		p.describe(n)
	}
}

// PutTask takes in a task that is new or has changed. One that has ended, or is not placed, holds nothing.
func (s *State) PutTask(t *model.Task) {
	if t.NodeID == "" || t.Ended() {
		s.DropTask(t.ID)
		return
	}
	if old := s.tasks[t.ID]; old != nil && old.same(t) {
		old.see(t)
		return
	}
	s.DropTask(t.ID)
	s.hold(t, t.NodeID, t.InstanceID != "")
}

// DropTask forgets a task: what it held is free.
func (s *State) DropTask(id string) {
	if old := s.tasks[id]; old != nil {
		s.release(old)
		delete(s.tasks, id)
		s.tidyNode(old.node)
	}
}

// Free is what the tasks of all clusters leave free of a node, in CPU units and MiB.
func (s *State) Free(node string) (cpu, memory int64) {
	if n := s.nodes[node]; n != nil {
		return n.freeCPU, n.freeMemory
	}
	return 0, 0
}

// hold counts the task as placed on the node.
func (s *State) hold(t *model.Task, nodeID string, member bool) {
	n := s.node(nodeID)
	h := &hold{task: t, node: n, running: t.Observed.Status == model.Running}
	s.tasks[t.ID] = h
	n.take(t, 1)
	if member {
		h.group = s.cluster(t.Cluster).group(t.Group)
		h.group.add(n, 1, h.running)
	}
	s.refresh(n)
}

// release takes back what hold counted.
func (s *State) release(h *hold) {
	h.node.take(h.task, -1)
	if h.group != nil {
		h.group.add(h.node, -1, h.running)
		s.tidyCluster(h.group.cluster)
	}
	s.frees++
	s.refresh(h.node)
}

// same tells whether the task holds what it held.
func (h *hold) same(t *model.Task) bool {
	old := h.task
	if h.node.id != t.NodeID || (h.group != nil) != (t.InstanceID != "") || old.Cluster != t.Cluster || old.Group != t.Group {
		return false
	}
	if old.Needs.CPU != t.Needs.CPU || old.Needs.Memory != t.Needs.Memory || old.Needs.ENIs != t.Needs.ENIs || old.Needs.GPUs != t.Needs.GPUs {
		return false
	}
	return slices.Equal(old.Needs.Ports, t.Needs.Ports) && slices.EqualFunc(old.Observed.Containers, t.Observed.Containers, sameBindings)
}

func sameBindings(a, b model.Container) bool {
	if len(a.NetworkBindings) != len(b.NetworkBindings) {
		return false
	}
	for k := range a.NetworkBindings {
		x, y := &a.NetworkBindings[k], &b.NetworkBindings[k]
		if x.Protocol != y.Protocol || (x.HostPort == nil) != (y.HostPort == nil) || x.HostPort != nil && *x.HostPort != *y.HostPort {
			return false
		}
	}
	return true
}

// see takes in a task that holds what it held.
func (h *hold) see(t *model.Task) {
	h.task = t
	running := t.Observed.Status == model.Running
	if h.group != nil && running != h.running {
		h.group.run(h.node, running)
	}
	h.running = running
}

// refresh puts a node that is fuller or emptier where it belongs.
func (s *State) refresh(n *node) {
	for _, p := range s.pools {
		p.refresh(n)
	}
}

func (s *State) node(id string) *node {
	n := s.nodes[id]
	if n == nil {
		n = newNode(id, s)
		s.nodes[id] = n
	}
	return n
}

// tidyNode forgets a node of which nothing is known.
func (s *State) tidyNode(n *node) {
	if n.Node != nil || n.tasks > 0 {
		return
	}
	for _, c := range s.clusters {
		if c.rows[n.id] != nil {
			return
		}
	}
	delete(s.nodes, n.id)
	for _, p := range s.pools {
		p.forget(n)
	}
}

func (s *State) cluster(name string) *cluster {
	c := s.clusters[name]
	if c == nil {
		c = &cluster{name: name, rows: map[string]*model.Instance{}, groups: map[string]*group{}, classes: map[string]*class{}}
		s.clusters[name] = c
	}
	return c
}

// tidyCluster forgets a cluster of which nothing is known.
func (s *State) tidyCluster(c *cluster) {
	if c.Cluster == nil && len(c.rows) == 0 && len(c.groups) == 0 {
		s.closePool(c)
		delete(s.clusters, c.name)
	}
}

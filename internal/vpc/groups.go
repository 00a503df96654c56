package vpc

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/secgroups"
	"github.com/berthdev/berth/internal/store"
)

// Groups tells each machine which security groups it is to enforce: those of its tasks, those that their rules name, and who is in them. It
// is one watch of the store for all sessions.
type Groups struct {
	store store.Store
	rows  *store.Computed
	hosts string
	keep  *Keeper

	mu      sync.Mutex
	begun   bool
	tasks   map[string]member // by task id: those on machines
	byNode  map[string]map[string]bool
	members map[string]map[netip.Addr]string // by group: the task that has the address
	rules   map[string]*model.SecurityGroup
	vpcs    map[string][]netip.Prefix
	lbs     map[string][]string // by ARN: the groups of a load balancer
	subs    map[*GroupsSubscription]bool
}

// member is what a task is to security groups.
type member struct {
	node   string
	groups []string
	subnet string     // "": of the default VPC
	addr   netip.Addr // the zero one while it has none
}

// NewGroups makes Groups that Run fills. rows are the default VPC's that are not stored; hosts is the group that machines are in; keep, which
// may be nil, knows the default VPC's ranges.
func NewGroups(s store.Store, rows *store.Computed, hosts string, keep *Keeper) *Groups {
	return &Groups{store: s, rows: rows, hosts: hosts, keep: keep, subs: map[*GroupsSubscription]bool{}}
}

// Run follows the store until ctx ends.
func (g *Groups) Run(ctx context.Context) error {
	watch := g.store.Watch(ctx, store.Tasks.All(), store.SecurityGroups.All(), store.LoadBalancers.All(), store.VPCs.All(), store.ClusterSettings.All())
	g.all()
	for range watch.C() {
		batch := watch.Take()
		if batch.All {
			g.all()
			continue
		}
		g.store.View(func(r store.Reader) {
			r = g.rows.Over(r)
			g.mu.Lock()
			defer g.mu.Unlock()
			for _, c := range batch.Changes {
				for _, row := range []any{c.Old, c.New} {
					switch row := row.(type) {
					case *model.Task:
						if row != nil {
							g.lookTask(r, row.ID)
						}
					case *model.SecurityGroup:
						if row != nil {
							g.lookGroup(r, row.ID)
						}
					case *model.VPC, *model.Settings:
						g.lookVPCs(r)
					case *model.LoadBalancer:
						if row != nil {
							g.lookBalancer(r, row.ARN)
						}
					}
				}
			}
		})
	}
	return nil
}

// all looks at everything anew.
func (g *Groups) all() {
	g.store.View(func(r store.Reader) {
		r = g.rows.Over(r)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.begun = true
		g.tasks, g.byNode, g.members = map[string]member{}, map[string]map[string]bool{}, map[string]map[netip.Addr]string{}
		g.rules, g.lbs = map[string]*model.SecurityGroup{}, map[string][]string{}
		g.lookVPCs(r)
		for row := range store.SecurityGroups.Scan(r, "") {
			g.rules[row.ID] = row
		}
		for lb := range store.LoadBalancers.Scan(r, "") {
			g.lookBalancer(r, lb.ARN)
		}
		for t := range store.Tasks.By(r, store.ByState, store.TaskLive) {
			g.lookTask(r, t.ID)
		}
		for s := range g.subs {
			s.tell()
		}
	})
}

// The following need g.mu.

// lookTask compares what is known of a task with its row.
func (g *Groups) lookTask(r store.Reader, id string) {
	old, was := g.tasks[id]
	now, is := memberOf(r, id)
	if was == is && old.node == now.node && old.addr == now.addr && old.subnet == now.subnet && slices.Equal(old.groups, now.groups) {
		return
	}
	if was {
		delete(g.tasks, id)
		if delete(g.byNode[old.node], id); len(g.byNode[old.node]) == 0 {
			delete(g.byNode, old.node)
		}
		for _, group := range old.groups {
			if g.members[group][old.addr] == id { // or it is another task's by now
				delete(g.members[group], old.addr)
			}
		}
	}
	if is {
		g.tasks[id] = now
		if g.byNode[now.node] == nil {
			g.byNode[now.node] = map[string]bool{}
		}
		g.byNode[now.node][id] = true
		for _, group := range now.groups {
			if !now.addr.IsValid() {
				continue
			}
			if g.members[group] == nil {
				g.members[group] = map[netip.Addr]string{}
			}
			g.members[group][now.addr] = id
		}
	}
	g.changed(append(slices.Clone(old.groups), now.groups...), old.node, now.node)
}

// memberOf is a task that is on a machine; ok is false for others.
func memberOf(r store.Reader, id string) (m member, ok bool) {
	t, ok := store.Tasks.Get(r, id)
	if !ok || t.NodeID == "" || t.Ended() || t.Observed.Interface == nil {
		return m, false
	}
	m = member{node: t.NodeID, groups: store.GroupsOf(r, t)}
	if s, ok := store.Subnets.Get(r, t.Observed.Interface.SubnetID); ok && (s.Subnet.DefaultForAz == nil || !*s.Subnet.DefaultForAz) {
		m.subnet = s.ID
	}
	if t.Observed.Interface.Status != "DELETED" {
		m.addr, _ = netip.ParseAddr(t.Observed.Interface.IPv4) // none yet: the zero one
	}
	return m, true
}

func (g *Groups) lookGroup(r store.Reader, id string) {
	if row, ok := store.SecurityGroups.Get(r, id); ok {
		g.rules[id] = row
	} else {
		delete(g.rules, id)
	}
	g.changed([]string{id})
}

// lookVPCs reads the ranges of all VPCs.
func (g *Groups) lookVPCs(r store.Reader) {
	all := map[string][]netip.Prefix{}
	for v := range store.VPCs.Scan(r, "") {
		all[v.ID] = v.Ranges()
		if v.VPC.IsDefault == nil || !*v.VPC.IsDefault || g.keep == nil {
			continue
		}
		for _, p := range g.keep.ranges(r) {
			if !slices.Contains(all[v.ID], p) {
				all[v.ID] = append(all[v.ID], p)
			}
		}
	}
	if maps.EqualFunc(all, g.vpcs, slices.Equal) {
		return
	}
	g.vpcs = all
	for s := range g.subs {
		s.tell()
	}
}

func (g *Groups) lookBalancer(r store.Reader, arn string) {
	old := g.lbs[arn]
	delete(g.lbs, arn)
	if lb, ok := store.LoadBalancers.Get(r, arn); ok {
		g.lbs[arn] = lb.LB.SecurityGroups
	}
	g.changed(append(slices.Clone(old), g.lbs[arn]...))
}

// changed has those told who need one of the groups, or are one of the nodes.
func (g *Groups) changed(groups []string, nodes ...string) {
	for s := range g.subs {
		if slices.Contains(nodes, s.node) || slices.ContainsFunc(groups, func(id string) bool { return s.sent[id] != nil }) {
			s.tell()
		}
	}
}

// machines tells whether the machines are members of a group.
func (g *Groups) machines(group string) bool {
	if group == g.hosts {
		return true
	}
	for _, groups := range g.lbs {
		if slices.Contains(groups, group) {
			return true
		}
	}
	return false
}

// GroupsSubscription is what one session has yet to tell its node.
type GroupsSubscription struct {
	groups  *Groups
	node    string
	notices chan struct{}

	// Under groups.mu: what the node was told.
	full  bool
	tasks map[string]model.TaskGuard
	vpcs  map[string][]netip.Prefix
	sent  map[string]*told
}

type told struct {
	rules    *model.SecurityGroup
	machines bool
	members  map[netip.Addr]bool
}

// Subscribe follows what a node is to enforce until the subscription is closed. All of it is to be told first.
func (g *Groups) Subscribe(node string) *GroupsSubscription {
	s := &GroupsSubscription{groups: g, node: node, notices: make(chan struct{}, 1), sent: map[string]*told{}}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subs[s] = true
	s.tell()
	return s
}

// C receives when there is something to take.
func (s *GroupsSubscription) C() <-chan struct{} { return s.notices }

// Close ends the subscription.
func (s *GroupsSubscription) Close() {
	s.groups.mu.Lock()
	defer s.groups.mu.Unlock()
	delete(s.groups.subs, s)
}

func (s *GroupsSubscription) tell() {
	select {
	case s.notices <- struct{}{}:
	default:
	}
}

// Take returns what has changed since the last Take; ok is false when nothing has, or as long as nothing is known.
func (s *GroupsSubscription) Take() (change model.GroupsChange, ok bool) {
	g := s.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.begun {
		return change, false
	}
	change.Full, s.full = !s.full, true
	tasks, groups := map[string]model.TaskGuard{}, map[string][]string{}
	for id := range g.byNode[s.node] {
		t := g.tasks[id]
		tasks[id], groups[id] = model.TaskGuard{Groups: t.groups, Subnet: t.subnet}, t.groups
	}
	same := func(a, b model.TaskGuard) bool { return a.Subnet == b.Subnet && slices.Equal(a.Groups, b.Groups) }
	if change.Full || !maps.EqualFunc(tasks, s.tasks, same) {
		change.Tasks, s.tasks = tasks, maps.Clone(tasks)
	}
	if change.Full || !maps.EqualFunc(g.vpcs, s.vpcs, slices.Equal) {
		change.VPCs, s.vpcs = g.vpcs, g.vpcs
	}
	needed := secgroups.Needed(groups, func(id string) []model.SecurityGroupRule {
		if row := g.rules[id]; row != nil {
			return row.Rules
		}
		return nil
	})
	for _, id := range needed {
		if put, differs := s.group(id); differs {
			change.Put = append(change.Put, put)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.sent)) {
		if _, is := slices.BinarySearch(needed, id); !is {
			change.Remove = append(change.Remove, id)
			delete(s.sent, id)
		}
	}
	return change, change.Full || change.Tasks != nil || change.VPCs != nil || len(change.Put)+len(change.Remove) > 0
}

// group is what the node has yet to hear of a group.
func (s *GroupsSubscription) group(id string) (put model.GroupChange, differs bool) {
	g := s.groups
	put.ID = id
	was, machines := s.sent[id], g.machines(id)
	if was == nil || was.rules != g.rules[id] || was.machines != machines {
		put.Changed, put.Machines = true, machines
		if row := g.rules[id]; row != nil {
			put.VPC = row.VPC
			for _, r := range row.Rules {
				r.ID, r.Description, r.Tags = "", "", nil
				put.Rules = append(put.Rules, r)
			}
		}
	}
	if was == nil {
		was = &told{members: map[netip.Addr]bool{}}
		s.sent[id] = was
	}
	was.rules, was.machines = g.rules[id], machines
	for a := range g.members[id] {
		if !was.members[a] {
			put.Add = append(put.Add, a)
			was.members[a] = true
		}
	}
	for a := range was.members {
		if _, is := g.members[id][a]; !is {
			put.Remove = append(put.Remove, a)
			delete(was.members, a)
		}
	}
	slices.SortFunc(put.Add, netip.Addr.Compare)
	slices.SortFunc(put.Remove, netip.Addr.Compare)
	return put, put.Changed || len(put.Add)+len(put.Remove) > 0
}

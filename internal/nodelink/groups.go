package nodelink

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// addressesAtATime is how many members one message carries: about 80 KiB.
const addressesAtATime = 4000

// FollowingGroups is what a session has yet to tell its node of security groups.
type FollowingGroups interface {
	C() <-chan struct{} // receives when there is something to take
	// Take returns what has changed since the last Take; ok is false when nothing has, or as long as nothing is known.
	Take() (change model.GroupsChange, ok bool)
	Close()
}

// sendGroups tells the node what it is to enforce, for as long as the session lasts.
func (ss *serverSession) sendGroups(ctx context.Context) error {
	if ss.s.Fabric == nil {
		return nil
	}
	following := ss.s.Fabric.FollowGroups(ss.node)
	defer following.Close()
	for {
		if change, ok := following.Take(); ok {
			for _, m := range cut(change) {
				if err := ss.conn.Send(ctx, Message{Groups: &m}); err != nil {
					return err
				}
			}
			select { // a burst of starts is told once
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(timeouts.GroupsTell):
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-following.C():
		}
	}
}

// cut makes messages of a change, each of which carries a bounded number of addresses.
func cut(change model.GroupsChange) (all []model.GroupsChange) {
	put := change.Put
	now := change
	now.Put = nil
	room := addressesAtATime
	next := func() {
		now.More = true
		all = append(all, now)
		now, room = model.GroupsChange{}, addressesAtATime
	}
	for _, p := range put {
		for {
			part := model.GroupChange{ID: p.ID, Changed: p.Changed, VPC: p.VPC, Rules: p.Rules, Machines: p.Machines}
			n := min(room, len(p.Add))
			part.Add, p.Add, room = p.Add[:n], p.Add[n:], room-n
			n = min(room, len(p.Remove))
			part.Remove, p.Remove, room = p.Remove[:n], p.Remove[n:], room-n
			now.Put = append(now.Put, part)
			if len(p.Add)+len(p.Remove) == 0 {
				break
			}
			p.Changed, p.Rules, p.Machines = false, nil, false
			next()
		}
		if room == 0 {
			next()
		}
	}
	return append(all, now)
}

// guard is what a session has heard of security groups; members are kept as sets.
type guard struct {
	heard   bool
	tasks   map[string]model.TaskGuard
	groups  map[string]model.Group
	vpcs    map[string][]netip.Prefix
	members map[string]map[netip.Addr]bool
}

// hearGroups notes what is to be enforced, and has it enforced once all of it is known.
func (s *clientSession) hearGroups(m *model.GroupsChange) {
	g := &s.groups
	if m.Full {
		*g = guard{heard: true, tasks: map[string]model.TaskGuard{}, groups: map[string]model.Group{}, members: map[string]map[netip.Addr]bool{}}
	}
	if s.c.Network == nil || !g.heard {
		return
	}
	g.apply(m)
	if m.More {
		return
	}
	if err := s.c.Network.SetGroups(g.guard()); err != nil {
		s.c.Log.Error("cannot enforce the security groups that the server tells of", "error", err)
	}
}

func (g *guard) apply(m *model.GroupsChange) {
	if m.Tasks != nil {
		g.tasks = m.Tasks
	}
	if m.VPCs != nil {
		g.vpcs = m.VPCs
	}
	for _, p := range m.Put {
		if g.members[p.ID] == nil {
			g.members[p.ID] = map[netip.Addr]bool{}
		}
		if p.Changed {
			g.groups[p.ID] = model.Group{ID: p.ID, VPC: p.VPC, Rules: p.Rules, Machines: p.Machines}
		}
		for _, a := range p.Add {
			g.members[p.ID][a] = true
		}
		for _, a := range p.Remove {
			delete(g.members[p.ID], a)
		}
	}
	for _, id := range m.Remove {
		delete(g.groups, id)
		delete(g.members, id)
	}
}

// guard is what is heard so far, in a form that is not changed later.
func (g *guard) guard() model.Guard {
	out := model.Guard{Tasks: maps.Clone(g.tasks), VPCs: maps.Clone(g.vpcs), Groups: make(map[string]model.Group, len(g.groups))}
	for id, group := range g.groups {
		group.Members = slices.SortedFunc(maps.Keys(g.members[id]), netip.Addr.Compare)
		out.Groups[id] = group
	}
	return out
}

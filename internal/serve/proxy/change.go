package proxy

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/berthdev/berth/internal/model"
)

// Apply makes t what is served, at once: requests that are under way go on, the next ones see t. The proxy keeps t; it must not be
// changed afterwards.
func (p *Proxy) Apply(t Table) { p.Change(t.Whole()) }

// Change is Apply for a part of the table. It costs what changes: a group's targets, a balancer's rules.
func (p *Proxy) Change(d Delta) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if d.All {
		d = d.without(p.balancers, p.confs)
	}
	settle, routes := p.changeBalancers(d)
	for _, g := range d.Groups {
		if old, ok := p.confs[g.ARN]; ok && reflect.DeepEqual(old, g) {
			continue
		}
		p.confs[g.ARN] = g
		settle[g.ARN] = true
	}
	for _, arn := range d.GoneGroups {
		delete(p.confs, arn)
		settle[arn] = true
	}
	for arn := range settle {
		routes = p.settleGroup(arn) || routes
	}
	if !routes {
		return
	}
	l := p.live()
	p.table.Store(l)
	p.applyPorts(l)
}

// without lists what d, which is a whole table, lacks of what is there.
func (d Delta) without(balancers map[string]*balancer, groups map[string]Group) Delta {
	keep := map[string]bool{}
	for i := range d.Balancers {
		keep[d.Balancers[i].ARN] = true
	}
	for i := range d.Groups {
		keep[d.Groups[i].ARN] = true
	}
	absent := func(arn string) bool { return !keep[arn] }
	d.GoneBalancers = filter(maps.Keys(balancers), absent)
	d.GoneGroups = filter(maps.Keys(groups), absent)
	return d
}

func filter(all func(func(string) bool), want func(string) bool) (out []string) {
	for s := range all {
		if want(s) {
			out = append(out, s)
		}
	}
	return out
}

// changeBalancers returns the groups that may have come into use or gone out of it, and whether any balancer changed. It needs the
// lock.
func (p *Proxy) changeBalancers(d Delta) (touched map[string]bool, changed bool) {
	touched = map[string]bool{}
	end := func(arn string) {
		if old := p.balancers[arn]; old != nil {
			delete(p.balancers, arn)
			changed = true
			for _, group := range old.leads {
				p.uses[group]--
				touched[group] = true
				if p.uses[group] == 0 {
					delete(p.uses, group)
				}
			}
		}
	}
	for _, arn := range d.GoneBalancers {
		end(arn)
	}
	for i := range d.Balancers {
		if old := p.balancers[d.Balancers[i].ARN]; old != nil && reflect.DeepEqual(old.conf, d.Balancers[i]) {
			continue
		}
		end(d.Balancers[i].ARN)
		b := newBalancer(d.Balancers[i])
		p.balancers[b.conf.ARN] = b
		changed = true
		for _, group := range b.leads {
			p.uses[group]++
			touched[group] = true
		}
	}
	return touched, changed
}

func newBalancer(conf Balancer) *balancer {
	b := &balancer{conf: conf}
	for i := range b.conf.Listeners {
		e := entrance{balancer: &b.conf, listener: &b.conf.Listeners[i]}
		for _, r := range e.listener.Rules {
			e.routes = append(e.routes, newRoute(r))
			for _, w := range r.Action.Forward {
				if !slices.Contains(b.leads, w.Group) {
					b.leads = append(b.leads, w.Group)
				}
			}
		}
		b.entrances = append(b.entrances, e)
	}
	return b
}

// live puts together what requests are served by. It needs the lock.
func (p *Proxy) live() *live {
	old := p.table.Load()
	l := &live{byHost: map[string]*balancer{}, byPort: map[int][]entrance{}, groups: maps.Clone(p.groups), stats: map[string]*Stats{}}
	oldest := slices.SortedFunc(maps.Values(p.balancers), func(a, b *balancer) int {
		return cmp.Or(a.conf.Created.Compare(b.conf.Created), cmp.Compare(a.conf.ARN, b.conf.ARN))
	})
	for _, b := range oldest {
		if l.stats[b.conf.ARN] = old.stats[b.conf.ARN]; l.stats[b.conf.ARN] == nil {
			l.stats[b.conf.ARN] = &Stats{}
		}
		l.byHost[strings.ToLower(b.conf.DNSName)] = b
		for _, e := range b.entrances {
			l.byPort[e.listener.Port] = append(l.byPort[e.listener.Port], e)
		}
	}
	return l
}

// settleGroup brings a group and its targets to what the table says of them, and tells whether the group came or went. It needs the
// lock.
func (p *Proxy) settleGroup(arn string) (routes bool) {
	conf, ok := p.confs[arn]
	g := p.groups[arn]
	switch {
	case !ok && g == nil:
		return false
	case !ok:
		delete(p.groups, arn)
		routes = true
	case g == nil:
		g = newGroup(arn)
		p.groups[arn] = g
		routes = true
	}
	g.least.Store(conf.LeastOutstanding)
	g.sticky.Store(int64(conf.Stickiness))
	g.minHealthy, g.minHealthyPercent = conf.MinHealthy, conf.MinHealthyPercent
	before := g.members
	g.members = make([]*target, 0, len(conf.Targets))
	keep := make(map[*target]bool, len(conf.Targets))
	for _, c := range conf.Targets {
		t := p.settleTarget(c, conf, p.uses[arn] > 0)
		keep[t] = true
		g.members = append(g.members, t)
	}
	for _, t := range before {
		if keep[t] {
			continue
		}
		t.retire()
		if p.targets[t.key()] == t {
			delete(p.targets, t.key())
		}
	}
	sortTargets(g.members)
	g.settle()
	return routes
}

// settleTarget brings a target up to date. One with the same name at another address is another target.
func (p *Proxy) settleTarget(c Target, g Group, used bool) *target {
	key := model.TargetKey(g.ARN, c.ID, c.Port)
	t := p.targets[key]
	if t != nil && t.address == address(c) {
		t.update(c, g, used)
		return t
	}
	t = newTarget(p, g.ARN, c)
	if known, ok := p.Known[key]; ok {
		delete(p.Known, key)
		t.recall(known)
	}
	p.targets[key] = t
	t.update(c, g, used)
	select { // its first check is made at once anyway
	case <-t.wake:
	default:
	}
	go t.watch()
	return t
}

// Settle looks again whether targets that drain are drained: what Elsewhere tells has changed.
func (p *Proxy) Settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		if !t.taking.Load() {
			t.settle()
		}
	}
}

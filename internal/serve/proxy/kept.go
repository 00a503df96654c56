package proxy

import (
	"maps"
	"slices"
)

// Kept is a table that somebody keeps in order to tell it to others: it takes changes, and gives the whole table or what changed of it. It
// is no place to serve from. The zero Kept is an empty table.
type Kept struct {
	balancers map[string]Balancer
	groups    map[string]Group
	names     map[string]Name
}

// Change takes a change, and returns the keys (ARNs, and those of names) of what it names.
func (k *Kept) Change(d Delta) (changed []string) {
	if d.All || k.balancers == nil {
		*k = Kept{map[string]Balancer{}, map[string]Group{}, map[string]Name{}}
	}
	for _, b := range d.Balancers {
		k.balancers[b.ARN] = b
		changed = append(changed, b.ARN)
	}
	for _, g := range d.Groups {
		k.groups[g.ARN] = g
		changed = append(changed, g.ARN)
	}
	for _, n := range d.Names {
		k.names[n.Key] = n
		changed = append(changed, n.Key)
	}
	for _, arn := range d.GoneBalancers {
		delete(k.balancers, arn)
	}
	for _, arn := range d.GoneGroups {
		delete(k.groups, arn)
	}
	for _, key := range d.GoneNames {
		delete(k.names, key)
	}
	return slices.Concat(changed, d.GoneBalancers, d.GoneGroups, d.GoneNames)
}

// Table is what is kept.
func (k *Kept) Table() Table {
	return Table{Balancers: slices.Collect(maps.Values(k.balancers)), Groups: k.groups, Names: slices.Collect(maps.Values(k.names))}
}

// Whole is the table as the change from anything to it.
func (k *Kept) Whole() Delta { return k.Table().Whole() }

// Some is the change that makes up for those keys: what is not there is gone.
func (k *Kept) Some(keys map[string]bool) (d Delta) {
	for key := range keys {
		b, isBalancer := k.balancers[key]
		g, isGroup := k.groups[key]
		n, isName := k.names[key]
		switch {
		case isBalancer:
			d.Balancers = append(d.Balancers, b)
		case isGroup:
			d.Groups = append(d.Groups, g)
		case isName:
			d.Names = append(d.Names, n)
		default: // keys say what they are of to nobody but their owner; no two kinds have the same
			d.GoneBalancers, d.GoneGroups, d.GoneNames = append(d.GoneBalancers, key), append(d.GoneGroups, key), append(d.GoneNames, key)
		}
	}
	return d
}

// partSize is how many targets, rules and instances one part of a change carries: some hundred bytes each.
const partSize = 4000

// Parts cuts a change into ones of bearable size, which are made one after another.
func (d Delta) Parts() (all []Delta) {
	next, size := Delta{All: d.All, GoneBalancers: d.GoneBalancers, GoneGroups: d.GoneGroups, GoneNames: d.GoneNames}, 0
	room := func(n int) {
		if size > 0 && size+n > partSize {
			all = append(all, next)
			next, size = Delta{}, 0
		}
		size += n
	}
	for i := range d.Balancers {
		n := 1
		for _, l := range d.Balancers[i].Listeners {
			n += 1 + 4*len(l.Rules)
		}
		room(n)
		next.Balancers = append(next.Balancers, d.Balancers[i])
	}
	for i := range d.Groups {
		room(1 + len(d.Groups[i].Targets))
		next.Groups = append(next.Groups, d.Groups[i])
	}
	for i := range d.Names {
		room(1 + len(d.Names[i].Instances))
		next.Names = append(next.Names, d.Names[i])
	}
	return append(all, next)
}

// Join puts the next part of a change to the others.
func (d *Delta) Join(part Delta) {
	d.All = d.All || part.All
	d.Balancers = append(d.Balancers, part.Balancers...)
	d.Groups = append(d.Groups, part.Groups...)
	d.Names = append(d.Names, part.Names...)
	d.GoneBalancers = append(d.GoneBalancers, part.GoneBalancers...)
	d.GoneGroups = append(d.GoneGroups, part.GoneGroups...)
	d.GoneNames = append(d.GoneNames, part.GoneNames...)
}

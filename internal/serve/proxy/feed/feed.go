// Package feed joins the store and the proxy: it makes the routing table from the load balancers' tables whenever they change, and
// writes what the proxy sees of targets and ports back.
package feed

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Feed is both directions. Make one, give its Health and Problem to proxy.New, then Run it.
type Feed struct {
	*Viewer
	// OnMachines, when not nil, is told which machines without a server are to serve load balancers, whenever that may have changed. Set it
	// before Run.
	OnMachines func(ids map[string]bool)
}

// New makes a Feed; self is the id of this machine.
func New(s store.Store, self string, log *slog.Logger) *Feed {
	return &Feed{Viewer: NewViewer(s, self, log)}
}

// Applier takes the table and its changes: a proxy, or the link to one in another process.
type Applier interface{ Change(proxy.Delta) }

// Run keeps p serving what the store says until ctx is done.
func (f *Feed) Run(ctx context.Context, p Applier) error {
	changes := f.store.Watch(ctx, store.LoadBalancers.All(), store.Listeners.All(), store.Rules.All(), store.TargetGroups.All(),
		store.Targets.All(), store.Nodes.All(), store.Servers.All(), store.ClusterSettings.All(),
		store.DiscoveryNamespaces.All(), store.DiscoveryServices.All(), store.DiscoveryInstances.All())
	f.apply(p, store.Batch{All: true})
	ctx, cancel := context.WithCancel(ctx)
	var writing sync.WaitGroup
	writing.Go(func() { f.Write(ctx) })
	defer writing.Wait()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes.C():
			if !ok {
				return nil
			}
			f.apply(p, changes.Take())
		}
	}
}

// apply tells p what changed. What concerns nothing of the table, such as a problem that this feed wrote itself, gives no change there.
func (f *Feed) apply(p Applier, b store.Batch) {
	var d proxy.Delta
	var machines map[string]bool
	f.store.View(func(r store.Reader) {
		if b.All || slices.ContainsFunc(b.Changes, func(c store.Change) bool { return c.Table == store.Nodes.Name() || c.Table == store.Servers.Name() }) {
			machines = Machines(r)
		}
		if b.All {
			d = Build(r).Whole()
			f.findOrphans(r)
			return
		}
		d = touch(r, b.Changes).delta(r)
		for _, c := range b.Changes {
			f.heed(r, c)
		}
	})
	if machines != nil && f.OnMachines != nil {
		f.OnMachines(machines)
	}
	if !d.Empty() {
		p.Change(d)
	}
}

// heed notes what a change means for what is seen of targets.
func (f *Feed) heed(r store.Reader, c store.Change) {
	switch c.Table {
	case store.Targets.Name():
		if c.New == nil {
			f.orphan(c.Key)
		}
	case store.Nodes.Name():
		was, _ := c.Old.(*model.Node)
		is, _ := c.New.(*model.Node)
		if was.Agent() != is.Agent() || is == nil {
			f.doubt(r, c.Key)
			if is != nil && !is.Agent() && !is.Lost() { // its view counts for a while
				f.later(c.Key)
			}
		}
	case store.Servers.Name():
		if c.New == nil {
			f.doubt(r, c.Key)
		}
	case store.ClusterSettings.Name():
		was, _ := c.Old.(*model.Settings)
		is, _ := c.New.(*model.Settings)
		if is != nil && is.Level >= model.LevelViews && (was == nil || was.Level < model.LevelViews) {
			f.Again()
		}
	}
}

// later has them judged when the view of a machine whose agent is away counts no more.
func (f *Feed) later(viewer string) {
	time.AfterFunc(timeouts.LostGrace+timeouts.FeedRetry, func() {
		f.store.View(func(r store.Reader) { f.doubt(r, viewer) })
	})
}

// doubt has the targets judged anew of which a machine said something.
func (f *Feed) doubt(r store.Reader, viewer string) {
	f.mu.Lock()
	for v := range store.TargetViews.By(r, store.ByViewer, viewer) {
		f.doubts[v.TargetHealth.Key()] = struct{}{}
	}
	f.mu.Unlock()
	f.nudge()
}

// findOrphans notes the healths of targets that are gone, and the views of machines that are.
func (f *Feed) findOrphans(r store.Reader) {
	for h := range store.TargetHealths.Scan(r, "") {
		if _, ok := store.Targets.Get(r, h.Key()); !ok {
			f.orphan(h.Key())
		}
	}
	away := map[string]bool{}
	for v := range store.TargetViews.Scan(r, "") {
		if _, gone := counts(r, v.Viewer, time.Now()); gone && !away[v.Viewer] {
			away[v.Viewer] = true
			f.later(v.Viewer)
		}
		if _, ok := store.Targets.Get(r, v.TargetHealth.Key()); !ok {
			f.orphan(v.TargetHealth.Key())
		} else if yes, _ := counts(r, v.Viewer, time.Now()); !yes {
			f.mu.Lock()
			f.doubts[v.TargetHealth.Key()] = struct{}{}
			f.mu.Unlock()
			f.nudge()
		}
	}
}

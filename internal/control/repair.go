package control

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// everybody lists every owner but the tasks that a node holds: clusters, nodes, services, tasks that are nowhere.
func everybody(r store.Reader) []owner {
	var all []owner
	for c := range store.Clusters.Scan(r, "") {
		all = append(all, owner{ofCluster, c.Name})
	}
	for n := range store.Nodes.Scan(r, "") {
		all = append(all, owner{ofNode, n.ID})
		all = append(all, standaloneOn(r, n.ID)...)
	}
	for s := range store.Services.Scan(r, "") {
		all = append(all, owner{ofService, s.Key()})
	}
	return append(all, strays(r)...)
}

// standaloneOn lists the tasks of no service that a node holds.
func standaloneOn(r store.Reader, node string) (tasks []owner) {
	for t := range store.Tasks.By(r, store.ByNode, node) {
		if t.Service == "" && !t.Ended() {
			tasks = append(tasks, owner{ofTask, t.ID})
		}
	}
	return tasks
}

// strays lists the owners of what no service, node or cluster that exists leads to.
func strays(r store.Reader) (all []owner) {
	seen := map[owner]bool{}
	stray := func(o owner) {
		if !seen[o] {
			seen[o] = true
			all = append(all, o)
		}
	}
	for t := range store.Tasks.By(r, store.ByState, store.TaskPending) {
		stray(ownerOf(t))
	}
	for t := range store.Targets.Scan(r, "") {
		if _, ok := store.Services.Get(r, t.Service); !ok && t.Service != "" {
			stray(owner{ofService, t.Service})
		}
	}
	for i := range store.Instances.Scan(r, "") {
		if _, ok := store.Clusters.Get(r, i.Cluster); !ok {
			stray(owner{ofCluster, i.Cluster})
		}
	}
	return all
}

// repair asks for a look at everything within Config.Repair, a part each second. It is what finds what no change told of.
type repair struct {
	left []owner
	size int // of a part
}

// step asks for a look at the next part and returns when the one after it is due.
func (p *repair) step(c *Control, r store.Reader, now time.Time) time.Time {
	if len(p.left) == 0 {
		p.left = everybody(r)
		p.left = append(p.left, owner{kind: ofDefinitions}, owner{kind: ofGarbage})
		p.size = 1 + int(int64(len(p.left))*int64(timeouts.ControlStep)/int64(c.Repair))
		c.garbage.load(r)
	}
	n := min(p.size, len(p.left))
	c.queue.add(p.left[:n]...)
	if p.left = p.left[n:]; len(p.left) == 0 {
		p.left = nil
		return now.Add(c.Repair / 10)
	}
	return now.Add(timeouts.ControlStep)
}

func compareOwners(a, b owner) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
}

// AtRest looks at everything as if it had just begun, and tells the first owner for which more than an event would be stored now; nothing is.
// It is for tests: what changes led to must be what a look at everything leads to.
func (c *Control) AtRest(ctx context.Context) error {
	var all []owner
	c.Store.View(func(r store.Reader) {
		all = append(everybody(r), owner{kind: ofDefinitions})
	})
	for _, o := range all {
		err := c.Store.Update(ctx, func(tx store.Tx) error {
			p := c.newPass(&entry{}, c.Now(), &batch{Reader: tx, tx: tx})
			if err := p.run(o); err != nil {
				return err
			}
			if p.tx.acted {
				return fmt.Errorf("%s is not as it should be: %v", o, p.said)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

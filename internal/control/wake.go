package control

import (
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// interests are the tables that decide what is to be done.
var interests = []store.Interest{
	store.Clusters.All(), store.Nodes.All(), store.Instances.All(), store.TaskDefinitions.All(), store.Tasks.All(), store.Services.All(),
	store.ServiceRevisions.All(), store.Deployments.All(), store.TargetGroups.All(), store.Targets.All(), store.TargetHealths.All(),
	store.Idempotencies.All(),
}

// absorb asks for a look at each owner of which something has changed.
func (c *Control) absorb(w *store.Watcher) {
	batch := w.Take()
	if batch.All {
		c.wakeAll()
		return
	}
	if len(batch.Changes) == 0 {
		return
	}
	c.Store.View(func(r store.Reader) {
		a := alarm{Control: c, r: r, owners: map[owner]bool{}}
		for _, change := range batch.Changes {
			a.ring(change)
		}
		a.done()
	})
}

// wakeAll asks for a look at everything.
func (c *Control) wakeAll() {
	c.Store.View(func(r store.Reader) {
		c.garbage.load(r)
		c.queue.add(everybody(r)...)
		c.queue.add(owner{kind: ofDefinitions}, owner{kind: ofGarbage})
		c.queue.addAt(owner{kind: ofRepair}, c.Now().Add(c.Repair))
	})
}

// alarm finds out whom changes concern. r is the state after them.
type alarm struct {
	*Control
	r      store.Reader
	owners map[owner]bool
	order  []owner
	room   bool // a task that fitted nowhere may fit now
}

func (a *alarm) wake(k kind, key string) {
	if o := (owner{k, key}); !a.owners[o] {
		a.owners[o] = true
		a.order = append(a.order, o)
	}
}

func (a *alarm) done() {
	slices.SortFunc(a.order, compareOwners)
	a.queue.add(a.order...)
	if a.room {
		a.madeRoom()
	}
}

// fewWaiting is how many owners of tasks that fit nowhere are looked at whenever something may fit; more are looked at once a second, and
// a thousand more a second later.
const fewWaiting = 100

func (c *Control) madeRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now := c.Now(); {
	case len(c.waiting) == 0:
	case len(c.waiting) <= fewWaiting:
		c.queue.add(slices.SortedFunc(maps.Keys(c.waiting), compareOwners)...)
	default:
		c.queue.addAt(owner{kind: ofWaiting}, later(now, c.retried.Add(timeouts.ControlRefit*time.Duration(1+len(c.waiting)/1000))))
	}
}

// retry looks at all owners of tasks that fit nowhere.
func (c *Control) retry(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retried = now
	c.queue.add(slices.SortedFunc(maps.Keys(c.waiting), compareOwners)...)
}

// waits notes whether an owner has tasks that fit nowhere.
func (c *Control) waits(o owner, waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waits {
		c.waiting[o] = struct{}{}
	} else {
		delete(c.waiting, o)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// either is the row as it is, or as it was when it is gone.
func either[T any](c store.Change) (old, now, either *T) {
	old, _ = c.Old.(*T)
	now, _ = c.New.(*T)
	if now != nil {
		return old, now, now
	}
	return old, now, old
}

func (a *alarm) ring(c store.Change) {
	switch c.Table {
	case store.Tasks.Name():
		old, now, t := either[model.Task](c)
		a.task(old, now, t)
	case store.Services.Name():
		a.wake(ofService, c.Key)
	case store.ServiceRevisions.Name():
		_, _, r := either[model.ServiceRevision](c)
		a.wake(ofService, r.Cluster+"/"+r.Service)
	case store.Deployments.Name():
		_, _, d := either[model.Deployment](c)
		a.wake(ofService, d.Cluster+"/"+d.Service)
	case store.Targets.Name():
		a.target(c)
	case store.TargetHealths.Name():
		if t, ok := store.Targets.Get(a.r, c.Key); ok && t.Service != "" {
			a.wake(ofService, t.Service)
		}
	case store.TargetGroups.Name():
		for t := range store.Targets.By(a.r, store.ByTargetGroup, c.Key) {
			if t.Service != "" {
				a.wake(ofService, t.Service)
			}
		}
	case store.Nodes.Name():
		old, now, _ := either[model.Node](c)
		a.node(c.Key, old, now)
	case store.Instances.Name():
		_, _, i := either[model.Instance](c)
		a.room = true
		a.servicesOn(i.NodeID)
		a.wake(ofCluster, i.Cluster)
	case store.Clusters.Name():
		a.room = true
		a.wake(ofCluster, c.Key)
	case store.TaskDefinitions.Name():
		if _, now, _ := either[model.TaskDefinition](c); now != nil && deleting(now) {
			a.mu.Lock()
			a.queue.addAt(owner{kind: ofDefinitions}, later(a.Now(), a.swept.Add(timeouts.ControlCollect)))
			a.mu.Unlock()
		}
	case store.Idempotencies.Name():
		if _, now, _ := either[model.Idempotency](c); now != nil {
			a.garbage.token(now)
		}
	}
}

func (a *alarm) task(old, now, t *model.Task) {
	if o := ownerOf(t); now != nil || o.kind == ofService {
		a.wake(o.kind, o.key)
	}
	if now != nil && now.Ended() {
		a.garbage.ended(now)
		a.queue.addAt(owner{kind: ofGarbage}, a.garbage.due(a.Control, a.Now()))
	}
	placed := func(t *model.Task) bool { return t != nil && t.NodeID != "" && !t.Ended() }
	if placed(old) != placed(now) { // where it leaves is room, and where it comes is company that another asks for
		a.room = true
	}
}

// ownerOf is who looks after a task.
func ownerOf(t *model.Task) owner {
	if t.Service == "" {
		return owner{ofTask, t.ID}
	}
	return owner{ofService, t.Cluster + "/" + t.Service}
}

func (a *alarm) target(c store.Change) {
	_, now, t := either[model.Target](c)
	if t.Service != "" {
		a.wake(ofService, t.Service)
	}
	if now != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if o, ok := a.held[c.Key]; ok {
		delete(a.held, c.Key)
		a.wake(o.kind, o.key)
	}
}

func (a *alarm) node(id string, old, now *model.Node) {
	a.room = true
	a.wake(ofNode, id)
	if old != nil && now != nil && old.Address == now.Address && maps.Equal(old.Attributes, now.Attributes) && old.Lost() == now.Lost() {
		return
	}
	a.servicesOn(id) // their targets show where they are, and their tasks may be lost
}

func (a *alarm) servicesOn(node string) {
	for t := range store.Tasks.By(a.r, store.ByNode, node) {
		if !t.Ended() && t.Service != "" {
			a.wake(ofService, t.Cluster+"/"+t.Service)
		}
	}
}

func deleting(d *model.TaskDefinition) bool {
	return d.Definition.Status == types.TaskDefinitionStatusDeleteInProgress
}

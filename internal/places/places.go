// Package places keeps the placement state of a store: what the API's RunTask and the control loop place by, without reading every
// node and task each time.
package places

import (
	"slices"
	"sync"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/placement"
	"github.com/berthdev/berth/internal/store"
)

// Keeper follows a store. Its state is at all times what the next Update's function sees, with what that function has placed so far:
// no two Updates can take one place, and what an Update placed that then failed is free again.
type Keeper struct {
	mu    sync.Mutex
	state *placement.State
	// tx is the Update that placed last, and tried are its tasks. They are taken back as soon as another one begins to place, or
	// the store tells what has changed: those that were stored are among that.
	tx    store.Tx
	tried []string
}

// New makes a Keeper of the store.
func New(s store.Store) *Keeper {
	k := &Keeper{}
	s.Follow(k)
	return k
}

// Place chooses a container instance for a task of no place, and counts it as placed there until the Update of tx ends; then only
// if tx has stored it there. What else tx has written is not seen. Call it within an Update only.
func (k *Keeper) Place(tx store.Tx, t *model.Task) placement.Decision {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.begin(tx)
	return k.note(k.state.Place(t))
}

// PlaceOn is Place on the container instance that the client named (StartTask).
func (k *Keeper) PlaceOn(tx store.Tx, at *model.Instance, t *model.Task) placement.Decision {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.begin(tx)
	return k.note(k.state.PlaceOn(at, t))
}

// Free is what tasks leave free of a node, in CPU units and MiB.
func (k *Keeper) Free(node string) (cpu, memory int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.Free(node)
}

// Balanced are the TCP ports that load balancers have on a node.
func (k *Keeper) Balanced(node string) []int32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.Balanced(node)
}

func (k *Keeper) begin(tx store.Tx) {
	if k.tx != tx {
		k.takeBack()
		k.tx = tx // held, so that no other transaction can have its address
	}
}

func (k *Keeper) note(d placement.Decision) placement.Decision {
	if d.NodeID != "" {
		k.tried = append(k.tried, d.TaskID)
	}
	return d
}

func (k *Keeper) takeBack() {
	for _, id := range k.tried {
		k.state.DropTask(id)
	}
	k.tx, k.tried = nil, nil
}

// Reset implements store.Follower.
func (k *Keeper) Reset(r store.Reader) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = placement.NewState(
		slices.Collect(store.Clusters.Scan(r, "")), slices.Collect(store.Nodes.Scan(r, "")),
		slices.Collect(store.Instances.Scan(r, "")), slices.Collect(store.Tasks.By(r, store.ByState, store.TaskLive)))
	for l := range store.Listeners.Scan(r, "") {
		k.state.PutListener(l)
	}
	for at := range store.Servers.Scan(r, "") {
		k.state.PutServer(at.ID)
	}
	k.tx, k.tried = nil, nil
}

// Apply implements store.Follower.
func (k *Keeper) Apply(changes []store.Change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	stored := map[string]bool{}
	for _, c := range changes {
		switch c.Table {
		case store.Tasks.Name():
			stored[c.Key] = true
			if t, ok := c.New.(*model.Task); ok {
				k.state.PutTask(t)
			} else {
				k.state.DropTask(c.Key)
			}
		case store.Nodes.Name():
			if n, ok := c.New.(*model.Node); ok {
				k.state.PutNode(n)
			} else {
				k.state.DropNode(c.Key)
			}
		case store.Clusters.Name():
			if at, ok := c.New.(*model.Cluster); ok {
				k.state.PutCluster(at)
			} else {
				k.state.DropCluster(c.Key)
			}
		case store.Instances.Name():
			if i, ok := c.New.(*model.Instance); ok {
				k.state.PutInstance(i)
			} else if i, ok := c.Old.(*model.Instance); ok {
				k.state.DropInstance(i)
			}
		case store.Listeners.Name():
			if l, ok := c.New.(*model.Listener); ok {
				k.state.PutListener(l)
			} else {
				k.state.DropListener(c.Key)
			}
		case store.Servers.Name():
			if at, ok := c.New.(*model.Server); ok {
				k.state.PutServer(at.ID)
			} else {
				k.state.DropServer(c.Key)
			}
		}
	}
	k.tried = slices.DeleteFunc(k.tried, func(id string) bool { return stored[id] })
	k.takeBack()
}

package nodelink

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// serverSession is one session of the server's half.
type serverSession struct {
	s       *Server
	conn    Conn
	node    string
	epoch   int64
	kept    atomic.Pointer[[]Kept]
	heard   atomic.Int64 // when the last message came, in nanoseconds since began
	began   time.Time
	sent    map[string]sent // by task id; only send touches it, and what follows
	full    bool            // the full set was sent
	keep    bool            // what was said of Keep last
	servers []string        // the addresses that were sent
}

// sent is what the node was told of a task: the parts of an assignment that change.
type sent struct {
	stop  bool
	fence time.Duration
}

// send keeps the node's assignments what the store says. A change of one of its tasks costs what changed.
func (ss *serverSession) send(ctx context.Context) error {
	changes := ss.s.Store.Watch(ctx, store.Tasks.Where(store.ByNode, ss.node), store.Nodes.Where(store.ByKey, ss.node), store.Servers.All(),
		store.ClusterSettings.All())
	batch := store.Batch{All: true}
	for {
		if err := ss.tellServers(ctx, batch); err != nil {
			return err
		}
		a, err := ss.next(batch)
		if err != nil {
			return err
		}
		if err := ss.tell(ctx, a); err != nil {
			return err
		}
		if _, ok := <-changes.C(); !ok {
			return ctx.Err()
		}
		batch = changes.Take()
	}
}

// next is what the node is to be told after the changes; nil for nothing.
func (ss *serverSession) next(batch store.Batch) (a *Assignments, err error) {
	if batch.All || !ss.full {
		return ss.whole()
	}
	return ss.changed(batch.Changes)
}

// chunk is how many assignments a message carries.
const chunk = 200

// tell sends a, in several messages if it is large.
func (ss *serverSession) tell(ctx context.Context, a *Assignments) error {
	if a == nil || !a.Full && len(a.Put) == 0 && len(a.Remove) == 0 && a.Keep == ss.keep {
		return nil
	}
	ss.full, ss.keep = true, a.Keep
	for put := range slices.Chunk(a.Put, chunk) {
		if len(a.Put) <= chunk {
			break
		}
		part := &Assignments{Revision: a.Revision, Full: a.Full, Put: put, More: true, Keep: a.Keep}
		if err := ss.conn.Send(ctx, Message{Assignments: part}); err != nil {
			return err
		}
		a = &Assignments{Revision: a.Revision, Put: a.Put[len(put):], Remove: a.Remove, Keep: a.Keep}
	}
	return ss.conn.Send(ctx, Message{Assignments: a})
}

// whole compares all of the node's tasks with what was sent. It is nil as long as the store does not know the session yet.
func (ss *serverSession) whole() (a *Assignments, err error) {
	ss.s.Store.View(func(r store.Reader) {
		switch node, ok := store.Nodes.Get(r, ss.node); {
		case !ok || node.Epoch > ss.epoch || node.Epoch == ss.epoch && !node.Connected:
			err = errStale
			return
		case node.Epoch < ss.epoch:
			return // a mirror that is behind; it will be heard of
		}
		a = &Assignments{Revision: r.Revision(), Full: !ss.full, Keep: unconfirmed(r)}
		gone := maps.Clone(ss.sent)
		for t := range store.Tasks.By(r, store.ByNode, ss.node) {
			if !t.Ended() {
				delete(gone, t.ID)
				ss.assign(r, a, t)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(gone)) {
			ss.remove(a, id)
		}
	})
	return a, err
}

// changed compares the tasks that have changed with what was sent.
func (ss *serverSession) changed(changes []store.Change) (a *Assignments, err error) {
	ss.s.Store.View(func(r store.Reader) {
		a = &Assignments{Revision: r.Revision(), Keep: unconfirmed(r)}
		for _, c := range changes {
			switch c.Table {
			case store.Tasks.Name():
				if now, ok := c.New.(*model.Task); ok && now.NodeID == ss.node && !now.Ended() {
					ss.assign(r, a, now)
				} else {
					ss.remove(a, c.Key)
				}
			case store.Nodes.Name():
				if now, ok := c.New.(*model.Node); !ok || now.Epoch != ss.epoch || !now.Connected { // the last: this server was taken for dead
					err = errStale
				}
			}
		}
	})
	return a, err
}

// unconfirmed tells whether the state was put back from a backup and nobody has confirmed it yet.
func unconfirmed(r store.Reader) bool {
	s, ok := store.ClusterSettings.Get(r, model.SettingsKey)
	return ok && s.Unconfirmed
}

// assign adds the task to what is sent, unless the node knows all of it that matters.
func (ss *serverSession) assign(r store.Reader, a *Assignments, t *model.Task) {
	now := sent{stop: t.Desired == model.Stopped && t.Released}
	if s, ok := store.Services.Get(r, t.Cluster+"/"+t.Service); ok && t.Service != "" {
		now.fence = model.OnPartitionOf(s.Tags).Fence
	}
	if was, ok := ss.sent[t.ID]; ok && was == now {
		return
	}
	def, ok := store.TaskDefinitions.Get(r, model.TaskDefinitionKey(t.Family, t.Revision))
	if !ok {
		ss.s.Log.Error("a task's definition is missing", "task", t.ID, "definition", t.TaskDefinition)
		return
	}
	ss.sent[t.ID] = now
	a.Put = append(a.Put, model.Assignment{Task: t, Definition: def.Definition, Stop: now.stop, Fence: now.fence})
}

// remove adds that the node is to forget a task, if it knows it.
func (ss *serverSession) remove(a *Assignments, id string) {
	if _, ok := ss.sent[id]; ok {
		delete(ss.sent, id)
		a.Remove = append(a.Remove, id)
	}
}

// tellServers sends the addresses of the servers when they have changed; where there are none (a server that other machines do not reach)
// it sends nothing.
func (ss *serverSession) tellServers(ctx context.Context, batch store.Batch) error {
	concerned := batch.All
	for _, c := range batch.Changes {
		concerned = concerned || c.Table == store.Servers.Name()
	}
	if !concerned {
		return nil
	}
	var now []string
	ss.s.Store.View(func(r store.Reader) {
		for s := range store.Servers.Scan(r, "") {
			if s.Address != "" {
				now = append(now, s.Address)
			}
		}
	})
	if len(now) == 0 || slices.Equal(now, ss.servers) {
		return nil
	}
	ss.servers = now
	spread := time.Duration(ss.s.sessions.Load()) * time.Duration(len(now)) * timeouts.SessionMove
	return ss.conn.Send(ctx, Message{Servers: &Servers{Addresses: now, Spread: spread}})
}

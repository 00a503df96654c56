package nodelink

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Caller is who opens a session, as its transport has proved.
type Caller struct {
	Node string // its id
	// Key is the hash of its public key; "" for the node of the server's own process, which needs none and may be new.
	Key string
}

// Opening is a session that is to be written down.
type Opening struct {
	Caller
	Hello
	Server string // the id of the server that holds the session
}

// Ledger is where sessions, and what nodes report in them, are written down: in the store where the server is the leader; elsewhere by
// asking the leader. What it returns from is durable.
type Ledger interface {
	// Begin notes that the node is connected, under a new epoch. Errors: *Refused.
	Begin(ctx context.Context, o Opening) (Seen, error)
	// End notes that the session of that epoch has ended, unless a newer one has begun.
	End(ctx context.Context, node string, epoch int64) error
	// Report stores the newer of the reports. What does not fit (another node's task, an older report, a falling status) is dropped: the
	// agent is told what is true by its assignments.
	Report(ctx context.Context, node string, epoch int64, reports []model.Report) error
}

// Book is the Ledger of a store.
type Book struct {
	Store store.Store
	Now   func() time.Time
}

var _ Ledger = Book{}

// errStale says that a newer session of the node exists.
var errStale = errors.New("a newer session of this node took over")

// IsStale tells whether a Ledger's error says that a newer session of the node exists.
func IsStale(err error) bool { return errors.Is(err, errStale) }

// Begin implements Ledger: it stores what the node says of itself under a new epoch.
func (b Book) Begin(ctx context.Context, o Opening) (now Seen, err error) {
	err = b.Store.Update(store.Freeing(ctx), func(tx store.Tx) error { // without a session nothing can be stopped
		node := model.Node{ID: o.Node}
		old, known := store.Nodes.Get(tx, o.Node)
		if known {
			node = *old
		}
		now.Incarnation = incarnation(tx)
		if err := admit(o, known, &node, now.Incarnation); err != nil {
			return err
		}
		if node.RegisteredAt.IsZero() {
			node.RegisteredAt = b.Now()
		}
		node.Declaration, node.Server = o.Declaration, o.Server
		node.Epoch++
		node.Connected, node.ConnectedAt, node.LostAt = true, b.Now(), time.Time{}
		store.Nodes.Put(tx, &node)
		now.Epoch = node.Epoch
		return nil
	})
	return now, err
}

// incarnation is that of the state.
func incarnation(r store.Reader) string {
	if s, ok := store.ClusterSettings.Get(r, model.SettingsKey); ok {
		return s.Incarnation
	}
	return ""
}

// admit tells why a session must not be; nil when it may.
func admit(o Opening, known bool, node *model.Node, incarnation string) error {
	switch {
	case o.Key == "":
		return nil
	case !known:
		return refused(timeouts.SessionRefused, "node %s is not in this cluster any more: join again with a token (berth node --join …)", o.Node)
	case node.KeyHash != o.Key:
		return refused(timeouts.SessionRefused, "node %s has joined with another key since: run berth node reset here and join again, or remove the other", o.Node)
	case node.Connected && node.Boot != "" && o.Boot != "" && node.Boot != o.Boot:
		return refused(timeouts.Heartbeat, "node %s is connected from another machine (%s): is this disk a copy of that one's? Then run "+
			"berth node reset here; a machine that was just started anew is let in within %s", o.Node, node.Hostname, timeouts.SessionLost)
	case o.Seen.Incarnation == incarnation && o.Seen.Epoch > node.Epoch:
		return refused(timeouts.SessionRefused, "the server's state is older than what node %s has seen of it (session %d, and the server knows %d): was "+
			"a disk put back? Restore a backup with berth restore, which nodes accept", o.Node, o.Seen.Epoch, node.Epoch)
	}
	return nil
}

// End implements Ledger.
func (b Book) End(ctx context.Context, id string, epoch int64) error {
	return b.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		if old, ok := store.Nodes.Get(tx, id); ok && old.Epoch == epoch && old.Connected {
			b.lost(tx, old)
		}
		return nil
	})
}

// Forget notes that no node has a session with that server: call it once when the server starts, before it serves any, since no session
// outlives the server that held it.
func (b Book) Forget(ctx context.Context, server string) error {
	return b.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		for _, old := range slices.Collect(store.Nodes.Scan(tx, "")) {
			if old.Connected && (old.Server == server || old.Server == "") { // rows from before a session had a server
				b.lost(tx, old)
			}
		}
		return nil
	})
}

func (b Book) lost(tx store.Tx, old *model.Node) {
	node := *old
	node.Connected, node.LostAt = false, b.Now()
	store.Nodes.Put(tx, &node)
}

// reportsAtATime bounds the transaction that stores reports.
const reportsAtATime = 256

// Report implements Ledger.
func (b Book) Report(ctx context.Context, node string, epoch int64, reports []model.Report) error {
	var newer []model.Report
	b.Store.View(func(r store.Reader) { // a session that begins again says again what is stored
		for _, report := range reports {
			if _, ok := news(r, node, report); ok {
				newer = append(newer, report)
			}
		}
	})
	for batch := range slices.Chunk(newer, reportsAtATime) {
		err := b.Store.Update(store.Freeing(ctx), func(tx store.Tx) error { // reports of ends are among them
			if n, ok := store.Nodes.Get(tx, node); !ok || n.Epoch != epoch {
				return errStale
			}
			for _, report := range batch {
				if old, ok := news(tx, node, report); ok {
					store.Tasks.Put(tx, observe(old, report.Observed, b.Now()))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// news returns the task that a report is of, and whether the report counts.
func news(r store.Reader, node string, report model.Report) (*model.Task, bool) {
	old, ok := store.Tasks.Get(r, report.TaskID)
	return old, ok && old.NodeID == node && !old.Ended() && report.Observed.Seq > old.Observed.Seq &&
		!report.Observed.Status.Before(old.Observed.Status)
}

// observe returns the task as it is once the observation counts. A task that ends, or begins to end by itself, is not wanted any
// more.
func observe(old *model.Task, o model.Observed, now time.Time) *model.Task {
	t := *old
	t.Observed = o
	if visible(old.Observed, o) {
		t.Version++
	}
	if t.Ended() && o.StoppedAt.IsZero() {
		t.Observed.StoppedAt = now
	}
	if (o.StopCode != "" || t.Ended()) && t.Desired != model.Stopped {
		t.Desired, t.StoppingAt, t.Released = model.Stopped, now, t.Ended()
	}
	return &t
}

// visible tells whether clients can see the difference.
func visible(was, is model.Observed) bool {
	was.Seq = is.Seq
	return !reflect.DeepEqual(was, is)
}

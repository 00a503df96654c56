package nodelink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// ServerConfig is what the server's half needs.
type ServerConfig struct {
	Store store.Store
	Now   func() time.Time
	Log   *slog.Logger
	// LostAfter is how long a session without a message lives; default 15 s.
	LostAfter time.Duration
}

// Server is the server's half.
type Server struct{ ServerConfig }

// NewServer makes a Server. Now and Log may be left out.
func NewServer(c ServerConfig) *Server {
	if c.LostAfter == 0 {
		c.LostAfter = timeouts.SessionLost
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{c}
}

// errStale says that a newer session of the node exists.
var errStale = errors.New("a newer session of this node took over")

// Forget notes that no node is connected: call it once when the server starts, before any Serve, since no session outlives the
// server that held it. A node that does not come back within control's grace is then treated as lost.
func (s *Server) Forget(ctx context.Context) error {
	err := s.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		for _, old := range slices.Collect(store.Nodes.Scan(tx, "")) {
			if old.Connected {
				node := *old
				node.Connected, node.LostAt = false, s.Now()
				store.Nodes.Put(tx, &node)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note that no node is connected yet: %w", err)
	}
	return nil
}

// Serve runs one session of a node, which the transport has identified, until it is lost or ctx is done. The node is Connected meanwhile.
func (s *Server) Serve(ctx context.Context, node string, conn Conn) error {
	defer func() { _ = conn.Close() }()
	m, err := conn.Recv(ctx)
	if err != nil {
		return fmt.Errorf("wait for hello: %w", err)
	}
	if m.Hello == nil || node == "" {
		return errors.New("the session did not begin with the hello of a node")
	}
	epoch, err := s.welcome(ctx, node, m.Hello.Declaration)
	if err != nil {
		return fmt.Errorf("register node %s: %w", node, err)
	}
	log := s.Log.With("node", node, "epoch", epoch)
	if err := conn.Send(ctx, Message{Welcome: &Welcome{Epoch: epoch}}); err != nil {
		return err
	}
	log.Info("node connected", "hostname", m.Hello.Hostname)
	ss := &serverSession{s: s, conn: conn, node: node, epoch: epoch, began: time.Now(), sent: map[string]sent{}}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ss.send(gctx) })
	g.Go(func() error { return ss.receive(gctx) })
	g.Go(func() error { return ss.watchSilence(gctx) })
	err = g.Wait()
	if ctx.Err() == nil {
		log.Warn("node lost", "error", err)
		s.lost(context.WithoutCancel(ctx), ss.node, epoch)
	}
	return err
}

// welcome stores what the node says of itself under a new epoch.
func (s *Server) welcome(ctx context.Context, id string, says model.Declaration) (epoch int64, err error) {
	err = s.Store.Update(store.Freeing(ctx), func(tx store.Tx) error { // without a session nothing can be stopped
		node := model.Node{ID: id}
		if old, ok := store.Nodes.Get(tx, id); ok {
			node = *old
		}
		if node.RegisteredAt.IsZero() {
			node.RegisteredAt = s.Now()
		}
		node.Declaration = says
		node.Epoch++
		node.Connected, node.ConnectedAt, node.LostAt = true, s.Now(), time.Time{}
		store.Nodes.Put(tx, &node)
		epoch = node.Epoch
		return nil
	})
	return epoch, err
}

// lost notes that the session of that epoch has ended, unless a newer one has begun.
func (s *Server) lost(ctx context.Context, id string, epoch int64) {
	err := s.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		old, ok := store.Nodes.Get(tx, id)
		if !ok || old.Epoch != epoch {
			return nil
		}
		node := *old
		node.Connected, node.LostAt = false, s.Now()
		store.Nodes.Put(tx, &node)
		return nil
	})
	if err != nil {
		s.Log.Error("cannot note that a node is lost", "node", id, "error", err)
	}
}

// serverSession is one session.
type serverSession struct {
	s     *Server
	conn  Conn
	node  string
	epoch int64
	heard atomic.Int64 // when the last message came, in nanoseconds since began
	began time.Time
	sent  map[string]sent // by task id; only send touches it
}

// sent is what the node was told of a task: the parts of an assignment that change.
type sent struct{ stop bool }

// watchSilence ends a session in which nothing was heard for LostAfter.
func (ss *serverSession) watchSilence(ctx context.Context) error {
	timer := time.NewTimer(ss.s.LostAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			silent := time.Since(ss.began) - time.Duration(ss.heard.Load())
			if silent >= ss.s.LostAfter {
				return fmt.Errorf("nothing heard for %s", ss.s.LostAfter)
			}
			timer.Reset(ss.s.LostAfter - silent)
		}
	}
}

// send keeps the node's assignments what the store says. A change of one of its tasks costs what changed.
func (ss *serverSession) send(ctx context.Context) error {
	changes := ss.s.Store.Watch(ctx, store.Tasks.Where(store.ByNode, ss.node), store.Nodes.Where(store.ByKey, ss.node))
	a, err := ss.whole(true)
	for {
		if err != nil {
			return err
		}
		if a.Full || len(a.Put) > 0 || len(a.Remove) > 0 {
			if err := ss.conn.Send(ctx, Message{Assignments: a}); err != nil {
				return err
			}
		}
		if _, ok := <-changes.C(); !ok {
			return ctx.Err()
		}
		if batch := changes.Take(); batch.All {
			a, err = ss.whole(false)
		} else {
			a, err = ss.changed(batch.Changes)
		}
	}
}

// whole compares all of the node's tasks with what was sent.
func (ss *serverSession) whole(full bool) (a *Assignments, err error) {
	ss.s.Store.View(func(r store.Reader) {
		if node, ok := store.Nodes.Get(r, ss.node); !ok || node.Epoch != ss.epoch {
			err = errStale
			return
		}
		a = &Assignments{Revision: r.Revision(), Full: full}
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
		a = &Assignments{Revision: r.Revision()}
		for _, c := range changes {
			switch now := c.New.(type) {
			case *model.Task:
				if now.NodeID == ss.node && !now.Ended() {
					ss.assign(r, a, now)
					continue
				}
			case *model.Node:
				if now.Epoch != ss.epoch {
					err = errStale
				}
				continue
			}
			if c.Table == store.Nodes.Name() {
				err = errStale
			} else {
				ss.remove(a, c.Key)
			}
		}
	})
	return a, err
}

// assign adds the task to what is sent, unless the node knows all of it that matters.
func (ss *serverSession) assign(r store.Reader, a *Assignments, t *model.Task) {
	now := sent{stop: t.Desired == model.Stopped && t.Released}
	if was, ok := ss.sent[t.ID]; ok && was == now {
		return
	}
	def, ok := store.TaskDefinitions.Get(r, model.TaskDefinitionKey(t.Family, t.Revision))
	if !ok {
		ss.s.Log.Error("a task's definition is missing", "task", t.ID, "definition", t.TaskDefinition)
		return
	}
	ss.sent[t.ID] = now
	a.Put = append(a.Put, model.Assignment{Task: t, Definition: def.Definition, Stop: now.stop})
}

// remove adds that the node is to forget a task, if it knows it.
func (ss *serverSession) remove(a *Assignments, id string) {
	if _, ok := ss.sent[id]; ok {
		delete(ss.sent, id)
		a.Remove = append(a.Remove, id)
	}
}

// receive stores reports as they come.
func (ss *serverSession) receive(ctx context.Context) error {
	for {
		m, err := ss.conn.Recv(ctx)
		if err != nil {
			return err
		}
		ss.heard.Store(int64(time.Since(ss.began)))
		if m.Reports == nil {
			continue
		}
		if m.Reports.Epoch != ss.epoch {
			return fmt.Errorf("reports of epoch %d in a session of epoch %d", m.Reports.Epoch, ss.epoch)
		}
		if err := ss.s.apply(ctx, ss.node, ss.epoch, m.Reports.Items); err != nil {
			return fmt.Errorf("store reports: %w", err)
		}
		if err := ss.conn.Send(ctx, Message{Ack: &Ack{Batch: m.Reports.Batch}}); err != nil {
			return err
		}
	}
}

// reportsAtATime bounds the transaction that stores reports.
const reportsAtATime = 256

// apply stores the newer of the reports. What does not fit (another node's task, an older report, a falling status) is dropped: the
// agent is told what is true by its assignments.
func (s *Server) apply(ctx context.Context, node string, epoch int64, reports []model.Report) error {
	var newer []model.Report
	s.Store.View(func(r store.Reader) { // a session that begins again says again what is stored
		for _, report := range reports {
			if _, ok := news(r, node, report); ok {
				newer = append(newer, report)
			}
		}
	})
	for batch := range slices.Chunk(newer, reportsAtATime) {
		err := s.Store.Update(store.Freeing(ctx), func(tx store.Tx) error { // reports of ends are among them
			if n, ok := store.Nodes.Get(tx, node); !ok || n.Epoch != epoch {
				return errStale
			}
			for _, report := range batch {
				if old, ok := news(tx, node, report); ok {
					store.Tasks.Put(tx, observe(old, report.Observed, s.Now()))
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

package nodelink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// ServerConfig is what the server's half needs.
type ServerConfig struct {
	// ID is the server's: rows of nodes say which server holds their session.
	ID string
	// Store is read only: a follower's is its mirror, which may be behind what its Ledger has written.
	Store  store.Store
	Ledger Ledger // nil: the Book of Store
	// OnHeard, which may be nil, is told of each message of a node. noBeats: the node says that its beats do not get through.
	OnHeard func(node string, noBeats bool)
	// OnUsage, which may be nil, gets what a node's tasks use. It must not block.
	OnUsage func(node string, u model.Usage)
	Now     func() time.Time
	Log     *slog.Logger
	Fabric  Fabric // the servers' half of the network of tasks; nil where tasks have no addresses
	// LostAfter is how long a session without a message lives; default 15 s.
	LostAfter time.Duration
}

// Server is the server's half.
type Server struct {
	ServerConfig
	sessions atomic.Int64 // that are open

	mu   sync.Mutex
	live map[string]*serverSession // by node: the newest that this server holds
}

// ErrElsewhere says that this server holds no session of a node.
var ErrElsewhere = errors.New("the node has no session with this server")

// Call hands a call to a node that has its session here. Errors: ErrElsewhere.
func (s *Server) Call(ctx context.Context, node string, c Call) error {
	s.mu.Lock()
	ss := s.live[node]
	s.mu.Unlock()
	if ss == nil {
		return ErrElsewhere
	}
	return ss.conn.Send(ctx, Message{Call: &c})
}

// hold notes a session, until the function that it returns is called.
func (s *Server) hold(ss *serverSession) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[ss.node] = ss
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.live[ss.node] == ss {
			delete(s.live, ss.node)
		}
	}
}

// Kept are the tasks that nodes with a session here keep though the state does not know them, by node. heard is false of a node that has not
// said yet.
func (s *Server) Kept() (all map[string][]Kept, heard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, heard = map[string][]Kept{}, true
	for node, ss := range s.live {
		if k := ss.kept.Load(); k == nil {
			heard = false
		} else if len(*k) > 0 {
			all[node] = *k
		}
	}
	return all, heard
}

// NewServer makes a Server. Ledger, Now and Log may be left out.
func NewServer(c ServerConfig) *Server {
	if c.LostAfter == 0 {
		c.LostAfter = timeouts.SessionLost
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Ledger == nil {
		c.Ledger = Book{Store: c.Store, Now: c.Now}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{ServerConfig: c, live: map[string]*serverSession{}}
}

// Forget notes that no node has a session with this server: call it once when the server starts, before any Serve. A node that does not
// come back within control's grace is then treated as lost.
func (s *Server) Forget(ctx context.Context) error {
	if err := (Book{Store: s.Store, Now: s.Now}).Forget(ctx, s.ID); err != nil {
		return fmt.Errorf("note that no node is connected yet: %w", err)
	}
	return nil
}

// Serve runs one session of a node, which the transport has identified, until it is lost or ctx is done. The node is Connected meanwhile.
func (s *Server) Serve(ctx context.Context, who Caller, conn Conn) error {
	defer func() { _ = conn.Close() }()
	now, declared, err := s.welcome(ctx, who, conn)
	if errors.Is(err, errAsked) {
		return nil
	}
	if err != nil {
		return err
	}
	s.sessions.Add(1)
	defer s.sessions.Add(-1)
	log := s.Log.With("node", who.Node, "epoch", now.Epoch)
	log.Info("node connected", "hostname", declared.Hostname)
	ss := &serverSession{s: s, conn: conn, node: who.Node, epoch: now.Epoch, began: time.Now(), sent: map[string]sent{}}
	defer s.hold(ss)()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ss.send(gctx) })
	g.Go(func() error { return ss.receive(gctx) })
	g.Go(func() error { return ss.watchSilence(gctx) })
	g.Go(func() error { return ss.sendPeers(gctx) })
	g.Go(func() error { return ss.sendGroups(gctx) })
	err = g.Wait()
	if ctx.Err() == nil {
		log.Warn("node lost", "error", err)
		if err := s.Ledger.End(context.WithoutCancel(ctx), who.Node, now.Epoch); err != nil {
			log.Error("cannot note that a node is lost", "error", err)
		}
	}
	return err
}

// welcome opens the session.
func (s *Server) welcome(ctx context.Context, who Caller, conn Conn) (now Seen, hello *Hello, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.SessionOpen)
	defer cancel()
	m, err := conn.Recv(ctx)
	if err != nil {
		return now, nil, fmt.Errorf("wait for hello: %w", err)
	}
	if m.Addresses != nil && who.Node != "" {
		return now, nil, errors.Join(errAsked, s.settle(ctx, who.Node, conn, m.Addresses))
	}
	if m.Hello == nil || who.Node == "" {
		return now, nil, errors.New("the session did not begin with the hello of a node")
	}
	now, err = s.Ledger.Begin(ctx, Opening{Caller: who, Hello: *m.Hello, Server: s.ID})
	if err != nil {
		said, ok := errors.AsType[*Refused](err)
		if !ok {
			said = refused(0, "the server cannot open a session now: %v", err)
		}
		err = fmt.Errorf("register node %s: %w", who.Node, err)
		return now, nil, errors.Join(err, conn.Send(ctx, Message{Refused: said}))
	}
	return now, m.Hello, conn.Send(ctx, Message{Welcome: &Welcome{now}})
}

// receive stores reports as they come.
func (ss *serverSession) receive(ctx context.Context) error {
	for {
		m, err := ss.conn.Recv(ctx)
		if err != nil {
			return err
		}
		ss.heard.Store(int64(time.Since(ss.began)))
		if ss.s.OnHeard != nil {
			ss.s.OnHeard(ss.node, m.Heartbeat != nil && m.Heartbeat.NoBeats)
		}
		if m.Heartbeat != nil {
			ss.kept.Store(&m.Heartbeat.Kept)
		}
		if m.Addresses != nil {
			if err := ss.settleHere(ctx, m.Addresses); err != nil {
				return err
			}
		}
		if m.Usage != nil && ss.s.OnUsage != nil {
			ss.s.OnUsage(ss.node, *m.Usage)
		}
		if m.Reports == nil {
			continue
		}
		if m.Reports.Epoch != ss.epoch {
			return fmt.Errorf("reports of epoch %d in a session of epoch %d", m.Reports.Epoch, ss.epoch)
		}
		if err := ss.s.Ledger.Report(ctx, ss.node, ss.epoch, m.Reports.Items); err != nil {
			return fmt.Errorf("store reports: %w", err)
		}
		if err := ss.conn.Send(ctx, Message{Ack: &Ack{Batch: m.Reports.Batch}}); err != nil {
			return err
		}
	}
}

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

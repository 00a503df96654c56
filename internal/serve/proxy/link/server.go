package link

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// busyInterval is how often a predecessor says which of its targets still have requests.
const busyInterval = 20 * time.Millisecond

// reportSize is how many targets one report names.
const reportSize = 2000

// Socket is a listening socket: what it is called, and a descriptor that stays the Server's owner's. Of two with one name that are
// not the same the identity differs.
type Socket struct {
	Name       string
	Identity   any
	Descriptor func() (fd int, release func(), err error)
}

// ServerConfig is what a Server is told. Health, Problems, Busy, Count, Sockets tell what there is now; the others are called when
// a peer wants something, and may be called at the same time by several connections.
type ServerConfig struct {
	Hello     Hello // Role, Epoch and Seq are the Server's own
	Change    func(proxy.Delta)
	Health    func() []model.TargetHealth
	Problems  func() map[string]string
	Busy      func() []string
	Count     func() proxy.Snapshot
	Sockets   func() []Socket
	Succeeded func() // a successor serves: give up the listeners, which are its own as well, and end when nothing is in flight
	Quit      func()
	Log       *slog.Logger
}

// Server is the proxy's half. The node's reports lose nothing while no node is there: the next one is told all there is.
type Server struct {
	c ServerConfig

	mu       sync.Mutex
	sessions map[*session]struct{}
	feeder   *session
	epoch    string
	seq      uint64
	closed   bool

	applying sync.Mutex // orders changes
}

// session is one connection.
type session struct {
	server *Server
	conn   *Conn
	role   Role
	wake   chan struct{}
	done   chan struct{} // closed when the connection has ended

	mu       sync.Mutex
	health   map[string]model.TargetHealth // to be said
	problems map[string]string
	sockets  map[string]any // the identities of those that the peer has

	partial *Apply // parts that have come
}

// NewServer makes a Server.
func NewServer(c ServerConfig) *Server {
	return &Server{c: c, sessions: map[*session]struct{}{}}
}

// Serve answers those who connect, until l is closed.
func (s *Server) Serve(l *net.UnixListener) error {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return err
		}
		go s.handle(NewConn(c))
	}
}

// Close ends every connection.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.sessions {
		c.conn.Close()
	}
}

// Health takes what the proxy sees of a target; it does not block.
func (s *Server) Health(h model.TargetHealth) {
	if f := s.feeding(); f != nil {
		f.mu.Lock()
		f.health[h.Key()] = h
		f.mu.Unlock()
		f.nudge()
	}
}

// Problem takes why a listener's port is not served; it does not block.
func (s *Server) Problem(listener, problem string) {
	if f := s.feeding(); f != nil {
		f.mu.Lock()
		f.problems[listener] = problem
		f.mu.Unlock()
		f.nudge()
	}
}

// SocketsChanged has the node told of sockets that were opened and closed; it does not block.
func (s *Server) SocketsChanged() {
	if f := s.feeding(); f != nil {
		f.nudge()
	}
}

func (s *Server) feeding() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.feeder
}

func (c *session) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// handle answers one peer until the connection ends.
func (s *Server) handle(conn *Conn) {
	c := &session{server: s, conn: conn, wake: make(chan struct{}, 1), done: make(chan struct{}), health: map[string]model.TargetHealth{},
		problems: map[string]string{}, sockets: map[string]any{}}
	defer close(c.done)
	defer conn.Close()
	m, got, err := conn.Receive(timeouts.ProxyGreet)
	closeAll(got)
	if err != nil || m.Hello == nil {
		return
	}
	c.role = m.Hello.Role
	if err := c.greet(); err != nil {
		s.c.Log.Warn("a peer of the link went away", "error", err)
		return
	}
	defer s.leave(c)
	if c.role == Feed {
		go c.report()
	}
	for {
		m, got, err := conn.Receive(0)
		closeAll(got) // nobody hands sockets to a proxy that runs
		if err != nil {
			if errors.Is(err, ErrFrame) {
				s.c.Log.Error("a peer of the link is not understood", "error", err)
			}
			return
		}
		if err := c.take(m); err != nil {
			return
		}
	}
}

// greet says what there is. A feeder takes the place of the one before it.
func (c *session) greet() error {
	s := c.server
	s.mu.Lock()
	hello := s.c.Hello
	hello.Epoch, hello.Seq = s.epoch, s.seq
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.sessions[c] = struct{}{}
	if c.role == Feed {
		if s.feeder != nil {
			s.feeder.conn.Close()
		}
		s.feeder = c
	}
	s.mu.Unlock()
	if err := c.conn.Send(&Message{Hello: &hello}); err != nil {
		return err
	}
	if err := c.sendSockets(true); err != nil {
		return err
	}
	if c.role == Feed { // later changes overwrite what is noted here only by what is newer
		health, problems := s.c.Health(), s.c.Problems()
		c.mu.Lock()
		for _, h := range health {
			if _, newer := c.health[h.Key()]; !newer {
				c.health[h.Key()] = h
			}
		}
		for arn, p := range problems {
			if _, newer := c.problems[arn]; !newer {
				c.problems[arn] = p
			}
		}
		c.mu.Unlock()
		c.nudge()
	}
	return c.conn.Send(&Message{Ready: true})
}

func (s *Server) leave(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
	if s.feeder == c {
		s.feeder = nil
	}
}

// take does what a message asks for.
func (c *session) take(m *Message) error {
	s := c.server
	switch {
	case m.Apply != nil:
		s.apply(c, m.Apply)
	case m.Beat > 0:
		return c.conn.Send(&Message{Beat: m.Beat})
	case m.Count > 0:
		return c.conn.Send(&Message{Counted: &Counted{Number: m.Count, Snapshot: s.c.Count()}})
	case m.Quit:
		s.c.Quit()
	case m.Ready && c.role == Succeed:
		s.mu.Lock()
		s.feeder, s.epoch, s.seq = nil, "", 0 // from now on the successor feeds
		for other := range s.sessions {       // the node finds the successor
			if other != c {
				other.conn.Close()
			}
		}
		s.mu.Unlock()
		s.c.Succeeded()
		go c.reportBusy()
	}
	return nil
}

// apply takes a change, once its last part has come, unless it came before. A feeder that was replaced is not heard.
func (s *Server) apply(c *session, a *Apply) {
	if c.partial != nil && c.partial.Epoch == a.Epoch && c.partial.Seq == a.Seq {
		c.partial.Delta.Join(a.Delta)
	} else {
		c.partial = a
	}
	if a.More {
		return
	}
	whole := c.partial
	c.partial = nil
	s.applying.Lock()
	defer s.applying.Unlock()
	s.mu.Lock()
	heard := (c.role == Succeed || s.feeder == c) && (s.epoch != whole.Epoch || s.seq < whole.Seq)
	if heard && s.epoch != whole.Epoch && !whole.Delta.All {
		heard = false // an epoch begins with a whole table
	}
	s.mu.Unlock()
	if !heard {
		return
	}
	s.c.Change(whole.Delta)
	s.mu.Lock()
	s.epoch, s.seq = whole.Epoch, whole.Seq
	s.mu.Unlock()
}

// report tells the feeder what is new until the connection ends.
func (c *session) report() {
	for {
		select {
		case <-c.done:
			return
		case <-c.wake:
		}
		c.mu.Lock()
		health, problems := slices.Collect(maps.Values(c.health)), c.problems
		c.health, c.problems = map[string]model.TargetHealth{}, map[string]string{}
		c.mu.Unlock()
		err := c.sendSockets(false)
		for part := range slices.Chunk(health, reportSize) {
			if err == nil {
				err = c.conn.Send(&Message{Health: part})
			}
		}
		if err == nil && len(problems) > 0 {
			err = c.conn.Send(&Message{Problems: problems})
		}
		if err != nil {
			c.conn.Close() // the next one is told all
			return
		}
	}
}

// sendSockets sends those that the peer does not have. It is called by one goroutine at a time.
func (c *session) sendSockets(all bool) error {
	m := Sockets{All: all}
	var fds []int
	var releases []func()
	flush := func() error {
		err := c.conn.Send(&Message{Sockets: &m}, fds...)
		for _, release := range releases {
			release()
		}
		m, fds, releases = Sockets{}, nil, nil
		return err
	}
	now := map[string]bool{}
	for _, socket := range c.server.c.Sockets() {
		now[socket.Name] = true
		if c.sockets[socket.Name] == socket.Identity {
			continue
		}
		fd, release, err := socket.Descriptor()
		if err != nil {
			continue // it was closed meanwhile
		}
		c.sockets[socket.Name] = socket.Identity
		m.Names, fds, releases = append(m.Names, socket.Name), append(fds, fd), append(releases, release)
		if len(fds) == maxDescriptors {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	for name := range c.sockets {
		if !now[name] {
			m.Closed = append(m.Closed, name)
			delete(c.sockets, name)
		}
	}
	if len(m.Names)+len(m.Closed) == 0 && !m.All {
		return nil
	}
	return flush()
}

// reportBusy tells a successor which targets it must wait for.
func (c *session) reportBusy() {
	tick := time.NewTicker(busyInterval)
	defer tick.Stop()
	for {
		s := c.server
		s.mu.Lock()
		seq := s.seq // before Busy looks: what is busy then is as of this change or a later one
		s.mu.Unlock()
		if c.conn.Send(&Message{Busy: &Busy{Seq: seq, Keys: s.c.Busy()}}) != nil {
			return
		}
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
	}
}

// Package session is the server's side of ECS Exec: the data channel of AWS's Session Manager (frames, acknowledgements, retransmission,
// handshake, resumption) for the stock session-manager-plugin, and a plainer one for `berth exec`. Both lead to a command that the task's
// machine runs.
package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/berthdev/berth/internal/timeouts"
)

// Path is where clients open the data channels of their sessions, followed by the session's id.
const Path = "/v1/data-channel/"

// maxSessions bounds those that are open or may be opened.
const maxSessions = 2000

// Spec is what a session is for.
type Spec struct {
	Who       string // the caller's ARN
	Cluster   string
	Node      string
	Task      string // its id
	Service   string // of the task, "" for none
	Container string
	Command   []string
	// Log and Stream are the log group and stream of the session's record; "" for none.
	Log, Stream string
}

// Record is what is known of a session at its beginning and its end.
type Record struct {
	Spec
	ID     string
	Began  time.Time
	Lasted time.Duration // 0 at the beginning
	Ended  bool
	Code   int    // of the command
	Reason string // why it ended otherwise
}

// Config is what a Manager works with. Open and Context are required.
type Config struct {
	// Context ends with the server.
	Context context.Context
	// Open reaches a node: what is written to the stream is execstream's.
	Open func(ctx context.Context, node string) (net.Conn, error)
	// Note is told of each session's beginning and end; Said, which may be nil, of what its command says. Neither may block.
	Note func(Record)
	Said func(r Record, p []byte)
	Now  func() time.Time
	Log  *slog.Logger
}

// Manager holds the sessions of a server.
type Manager struct {
	c        Config
	upgrader websocket.Upgrader

	mu       sync.Mutex
	sessions map[string]*session
	open     sync.WaitGroup
}

// session is one session. Its channel is made by the first connection.
type session struct {
	Spec
	id     string
	manage *Manager

	mu      sync.Mutex
	token   string // of the next connection; "" when none is awaited
	until   time.Time
	begun   time.Time // zero: nobody has connected yet
	sockets chan *websocket.Conn
	end     context.CancelCauseFunc
}

// New makes a Manager.
func New(c Config) *Manager {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Note == nil {
		c.Note = func(Record) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// Whoever has the token may connect, wherever the page comes from that it does so from: nothing else is believed.
	anywhere := func(*http.Request) bool { return true }
	return &Manager{c: c, sessions: map[string]*session{}, upgrader: websocket.Upgrader{HandshakeTimeout: timeouts.RequestHeader, CheckOrigin: anywhere}}
}

// ErrFull says that there are as many sessions as may be.
var ErrFull = errors.New("as many sessions are open as may be")

// Create makes a session, which somebody may begin with the token.
func (m *Manager) Create(s Spec) (id, token string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.c.Now()
	for id, old := range m.sessions {
		if old.expired(now) {
			delete(m.sessions, id)
		}
	}
	if len(m.sessions) >= maxSessions {
		return "", "", ErrFull
	}
	made := &session{Spec: s, id: "ecs-execute-command-" + newID(), manage: m, token: newToken(), until: now.Add(timeouts.SessionToken)}
	m.sessions[made.id] = made
	return made.id, made.token, nil
}

// Resume makes another token for a session whose client was lost; "" when there is no such session any more.
func (m *Manager) Resume(id string) (token string) {
	s := m.find(id)
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun.IsZero() {
		return ""
	}
	s.token, s.until = newToken(), m.c.Now().Add(timeouts.SessionResume)
	return s.token
}

// Terminate ends a session; one that is not there has ended.
func (m *Manager) Terminate(id string) {
	s := m.find(id)
	if s == nil {
		return
	}
	s.mu.Lock()
	end := s.end
	s.token = ""
	s.mu.Unlock()
	if end != nil {
		end(errTerminated)
		return
	}
	m.forget(s)
}

// Who is the ARN of a session's caller, "" when there is no such session.
func (m *Manager) Who(id string) string {
	if s := m.find(id); s != nil {
		return s.Who
	}
	return ""
}

// Close ends all sessions with words, and waits for them a moment.
func (m *Manager) Close() {
	m.mu.Lock()
	var all []*session
	for _, s := range m.sessions {
		all = append(all, s)
	}
	m.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		if s.end != nil {
			s.end(errServer)
		}
		s.mu.Unlock()
	}
	done := make(chan struct{})
	go func() {
		m.open.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(timeouts.RequestDrain / 2):
	}
}

var (
	errTerminated = errors.New("the session was ended")
	errServer     = errors.New("Berth's server is being restarted, which ends this session; open another")
)

func (m *Manager) find(id string) *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[id]
}

func (m *Manager) forget(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, s.id)
}

// expired tells whether nobody can begin the session any more.
func (s *session) expired(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun.IsZero() && now.After(s.until)
}

// spend takes the token, which is good once. first: nobody has connected before.
func (s *session) spend(token string, now time.Time) (first, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" || now.After(s.until) || subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
		return false, false
	}
	s.token = ""
	first = s.begun.IsZero()
	if first {
		s.begun = now
	}
	return first, true
}

func newID() string {
	b := make([]byte, 9)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)[:17]
}

func newToken() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// ServeHTTP takes the connection of a session's client. The URL says which session, and the first message has the token.
func (m *Manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := m.find(strings.TrimPrefix(r.URL.Path, Path))
	if s == nil {
		http.Error(w, "there is no such session: it has ended, or was not begun in time", http.StatusNotFound)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) {
		http.Error(w, "this is the data channel of a session: a WebSocket", http.StatusBadRequest)
		return
	}
	socket, err := m.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the client was told
	}
	socket.SetReadLimit(maxPayload + 4096)
	hello, err := greeting(socket)
	if err != nil {
		m.c.Log.Debug("a session's client did not say who it is", "session", s.id, "error", err)
		_ = socket.Close()
		return
	}
	first, ok := s.spend(hello.TokenValue, m.c.Now())
	if !ok {
		_ = socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.ClosePolicyViolation,
			"the session's token is wrong, was used or has expired"), time.Now().Add(timeouts.SessionSend))
		_ = socket.Close()
		return
	}
	if !first {
		s.again(socket)
		return
	}
	s.begin(socket, strings.HasPrefix(hello.ClientVersion, Plain))
}

// again gives a session that has begun another connection.
func (s *session) again(socket *websocket.Conn) {
	s.mu.Lock()
	sockets := s.sockets
	s.mu.Unlock()
	if sockets == nil { // a plain one, which ends with its connection
		_ = socket.Close()
		return
	}
	select {
	case sockets <- socket:
	case <-time.After(timeouts.SessionSend):
		_ = socket.Close()
	}
}

// begin runs a session until it ends.
func (s *session) begin(socket *websocket.Conn, plain bool) {
	m := s.manage
	ctx, end := context.WithCancelCause(m.c.Context)
	s.mu.Lock()
	s.end = end
	if !plain {
		s.sockets = make(chan *websocket.Conn)
	}
	s.mu.Unlock()
	m.open.Add(1)
	defer m.open.Done()
	defer end(nil)
	defer m.forget(s)
	r := Record{Spec: s.Spec, ID: s.id, Began: s.begun}
	m.c.Note(r)
	if plain {
		r.Code, r.Reason = s.runPlain(ctx, socket)
	} else {
		r.Code, r.Reason = newChannel(s, r).run(ctx, socket)
	}
	r.Ended, r.Lasted = true, cmp.Or(m.c.Now().Sub(r.Began), 1)
	m.c.Note(r)
}

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs"
	"github.com/berthdev/berth/internal/api/ssm"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/shell"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/serve/session"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// A session in a container (ECS Exec) has its client at the leader. Its stream to the task's node is opened by the node, which servers
// cannot dial: the server that holds the node's session hands it a call, and the node connects to whoever called.

// protocolExec (ALPN) is that of the streams of sessions. A node begins one with the call's id.
const protocolExec = "berth-exec"

// pathCall is where a server has another one call a node of its.
const pathCall = "/v1/servers/call"

// passed is a call on its way to the server that has the node's session.
type passed struct {
	Node string
	Call nodelink.Call
}

// calls are those that wait for their nodes to connect.
type calls struct {
	mu      sync.Mutex
	waiting map[string]call // by id
}

type call struct {
	node    string
	streams chan net.Conn
}

// expect notes a call until the function that it returns is called.
func (c *calls) expect(id, node string) (<-chan net.Conn, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[string]call{}
	}
	streams := make(chan net.Conn, 1)
	c.waiting[id] = call{node, streams}
	return streams, func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
		select {
		case late := <-streams:
			_ = late.Close()
		default:
		}
	}
}

// answer gives a node's stream to who waits for it.
func (c *calls) answer(id, node string, stream net.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.waiting[id]
	if !ok || w.node != node {
		return errors.New("nobody waits for this session's stream")
	}
	delete(c.waiting, id)
	w.streams <- stream // it has room for one
	return nil
}

// reach opens a stream to a node.
func (s *server) reach(ctx context.Context, id string) (net.Conn, error) {
	var node *model.Node
	address := ""
	s.store.View(func(r store.Reader) {
		node, _ = store.Nodes.Get(r, id)
		if node == nil || node.Server == s.in.NodeID {
			return
		}
		if row, ok := store.Servers.Get(r, node.Server); ok {
			address = row.Address
		}
	})
	if node == nil || !node.Connected {
		return nil, fmt.Errorf("node %s is not connected", id)
	}
	c := nodelink.Call{ID: randomHex(32), Server: s.in.NodeID, Address: s.port.address()}
	streams, forget := s.calls.expect(c.ID, id)
	defer forget()
	err := s.links.Call(ctx, id, c)
	if errors.Is(err, nodelink.ErrElsewhere) && address != "" {
		err = s.passOn(ctx, address, passed{id, c})
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.ExecCall)
	defer cancel()
	select {
	case stream := <-streams:
		return stream, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("node %s does not answer: %w", id, ctx.Err())
	}
}

func (s *server) passOn(ctx context.Context, address string, p passed) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.ExecAsk)
	defer cancel()
	var done nothing
	return join.Post(ctx, s.port.client(address), pathCall, p, &done)
}

// callNode hands another server's call to a node of this one's.
func (s *server) callNode(ctx context.Context, _ string, p passed) (nothing, error) {
	return nothing{}, s.links.Call(ctx, p.Node, p.Call)
}

// serveStreams takes the streams that nodes open.
func (s *server) serveStreams(ctx context.Context, l net.Listener) error {
	context.AfterFunc(ctx, func() { _ = l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go func() {
			from, _ := peer.From(peer.ContextOf(ctx, c)) // the lane is for machines
			id := make([]byte, 64)
			_ = c.SetReadDeadline(time.Now().Add(timeouts.ExecAsk))
			_, err := io.ReadFull(c, id)
			if err == nil {
				err = c.SetReadDeadline(time.Time{})
			}
			if err == nil {
				err = s.calls.answer(string(id), from.ID, c)
			}
			if err != nil {
				s.log.Debug("the stream of a session is refused", "node", from.ID, "error", err)
				_ = c.Close()
			}
		}()
	}
}

// called answers a server's call: the session's command is run on this machine.
func (n *node) called(ctx context.Context, c nodelink.Call) {
	log := n.log.With("component", "exec")
	dialing, cancel := context.WithTimeout(ctx, timeouts.ExecCall)
	stream, err := n.up.stream(dialing, c)
	cancel()
	if err != nil {
		log.Warn("a server that has a session for a container cannot be reached", "server", c.Server, "error", err)
		return
	}
	if err := shell.Serve(ctx, stream, n.agent.Interact); err != nil && ctx.Err() == nil {
		log.Debug("a session in a container broke", "error", err)
	}
}

// stream connects to the server of this process, or to another one.
func (i *inside) stream(ctx context.Context, c nodelink.Call) (net.Conn, error) {
	s, err := i.wait(ctx)
	if err != nil {
		return nil, err
	}
	if c.Server != s.in.NodeID {
		return dialStream(ctx, s.port.dial, c)
	}
	near, far := net.Pipe()
	if err := s.calls.answer(c.ID, i.node, far); err != nil {
		return nil, err
	}
	return near, nil
}

func (r *remote) stream(ctx context.Context, c nodelink.Call) (net.Conn, error) {
	return dialStream(ctx, r.dialer.Dial, c)
}

// dialStream connects to the cluster port of a server that called.
func dialStream(ctx context.Context, dial func(ctx context.Context, address, protocol string) (net.Conn, error), c nodelink.Call) (net.Conn, error) {
	if c.Address == "" {
		return nil, errors.New("the server has no address for this machine")
	}
	conn, err := dial(ctx, c.Address, protocolExec)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, c.ID); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// hostKey is the context key of a request's own name for this server.
type hostKey struct{}

// origin is where a client reaches this server, by the request that it sent.
type origin struct {
	host   string
	secure bool
}

// withOrigin notes how the client reaches this server.
func withOrigin(r *http.Request) *http.Request {
	at := origin{r.Host, r.Header.Get("X-Forwarded-Proto") == "https"} // the API's own port is plain; r.TLS is that of servers among themselves
	return r.WithContext(context.WithValue(r.Context(), hostKey{}, at))
}

// systems is the service "ssm": the Parameter Store, and what ECS Exec's clients ask of it.
func (s *server) systems(r *region) *wire.Service {
	service := ssm.New(ssm.Config{Store: r.store, Vault: r.vault(), Ring: r.keys, Scope: r.scope, Now: time.Now, Log: s.log.With("component", "ssm")})
	ssm.HandleSessions(service, s.sessionsOf())
	return service
}

// sessionsOf is the part of the service "ssm" that ECS Exec's clients ask.
func (s *server) sessionsOf() ssm.Sessions {
	return ssm.Sessions{Who: s.sessions.Who, Resume: s.sessions.Resume, Terminate: s.sessions.Terminate, URL: s.sessionURL}
}

// openSession makes a session for ExecuteCommand; its stream's URL leads back the way that the request came.
func (s *server) openSession(ctx context.Context, c ecs.Command) (*types.Session, error) {
	id, token, err := s.sessions.Create(session.Spec{Who: c.Who, Cluster: c.Task.Cluster, Node: c.Task.NodeID, Task: c.Task.ID, Service: c.Task.Service,
		Container: c.Container, Command: c.Words, Log: c.LogGroup, Stream: c.LogStream})
	if err != nil {
		return nil, model.Errorf("LimitExceededException", "The session cannot be opened: %s.", err)
	}
	return &types.Session{SessionId: &id, StreamUrl: new(s.sessionURL(ctx, id)), TokenValue: &token}, nil
}

// sessionURL is where the client of a request finds the data channel of a session.
func (s *server) sessionURL(ctx context.Context, id string) string {
	at, ok := ctx.Value(hostKey{}).(origin)
	if !ok || at.host == "" {
		at.host = s.in.Listen
	}
	scheme := "ws"
	if at.secure {
		scheme = "wss"
	}
	return fmt.Sprintf("%s://%s%s%s?role=publish_subscribe&cell-number=1", scheme, at.host, session.Path, id)
}

// isSession tells whether a request is for the data channel of a session.
func isSession(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, session.Path) }

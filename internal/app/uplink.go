package app

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/metadata"
	"github.com/berthdev/berth/internal/node/vitals"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/timeouts"
)

// uplink is all that a node needs of a server: it has no store, no keys and no log store of its own.
type uplink struct {
	dial        func(context.Context) (nodelink.Conn, error)          // opens a session
	address     func() string                                         // at which other machines reach this one
	servers     func(nodelink.Servers)                                // is told where the servers are now; nil: nobody cares
	beats       func() bool                                           // tells whether servers answer this node's beats; nil: it has none
	assigned    func([]model.Assignment)                              // is told of each set; nil: nobody cares
	memory      nodelink.Memory                                       // nil: what is seen of the servers' state is forgotten
	handout     func(context.Context, string) (*model.Handout, error) // what a task's containers are given at their start
	credentials metadata.Credentials                                  // those of tasks' roles
	logs        agent.LogSink
	login       func(context.Context) (user, password string, err error) // to Berth's registry on this machine; nil: it is not here
	registry    http.RoundTripper                                        // Berth's registry, wherever it is; nil: it is on this machine
	stream      func(context.Context, nodelink.Call) (net.Conn, error)   // connects to a server that has a session for a container
	vitals      func(*vitals.Vitals)                                     // is told what watches this machine
	protect     func(context.Context, metadata.ProtectionAsk) (metadata.ProtectionAnswer, error)
	alone       bool // no other node was there before this one
}

// inside is the uplink to the server of this process. Whoever needs the server before it is open waits.
type inside struct {
	node   string // the id of this machine's
	opened chan struct{}
	server *server        // once opened is closed
	vitals *vitals.Vitals // of this machine; nil: nobody looks
	end    func(task string, code types.TaskStopCode, reason string)

	mu      sync.Mutex
	session nodelink.Conn // the last one
	told    []model.Assignment
	pulse   *pulse // nil as long as there are no other machines
}

// beatBy has the node beat, from now on.
func (i *inside) beatBy(p *pulse) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pulse = p
	if i.told != nil {
		p.assigned(i.told)
	}
}

// assigned is told of each set.
func (i *inside) assigned(all []model.Assignment) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.told = all; i.pulse != nil {
		i.pulse.assigned(all)
	}
}

// beats tells whether the node's beats are answered, if it has any.
func (i *inside) beats() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.pulse == nil || i.pulse.node.Passes()
}

func newInside(node string) *inside { return &inside{node: node, opened: make(chan struct{})} }

// open lets in who waits. It is called once.
func (i *inside) open(s *server) {
	i.server = s
	close(i.opened)
}

// again has the node open its session again: what it says of itself has changed.
func (i *inside) again() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.session != nil {
		_ = i.session.Close()
	}
}

// address is that of the server's cluster port, where it has one.
func (i *inside) address() string {
	select {
	case <-i.opened:
		if host, _, err := net.SplitHostPort(i.server.port.address()); err == nil {
			return host
		}
	default:
	}
	return "127.0.0.1"
}

func (i *inside) uplink() uplink {
	return uplink{dial: i.dial, address: i.address, credentials: i, handout: i.handout, logs: i, login: i.login, vitals: func(v *vitals.Vitals) { i.vitals = v }, beats: i.beats, assigned: i.assigned, stream: i.stream, protect: i.protect, alone: true}
}

func (i *inside) wait(ctx context.Context) (*server, error) {
	select {
	case <-i.opened:
		return i.server, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dial opens a session between the two halves of one process.
func (i *inside) dial(ctx context.Context) (nodelink.Conn, error) {
	s, err := i.wait(ctx)
	if err != nil {
		return nil, err
	}
	near, far := nodelink.Pipe()
	i.mu.Lock()
	i.session = far
	i.mu.Unlock()
	go func() {
		if err := s.links.Serve(ctx, nodelink.Caller{Node: i.node}, near); err != nil && ctx.Err() == nil {
			s.log.Warn("node session ended", "error", err)
		}
	}()
	return far, nil
}

// Issue implements metadata.Credentials.
func (i *inside) Issue(ctx context.Context, roleARN, session string) (metadata.RoleCredentials, error) {
	s, err := i.wait(ctx)
	if err != nil {
		return metadata.RoleCredentials{}, err
	}
	return issueRole(s.keys, roleARN, session)
}

// issueRole makes credentials of a task's role, when that lets tasks take it on. SDKs renew them (ecs.md 1.8).
func issueRole(keys *iam.Authority, roleARN, session string) (metadata.RoleCredentials, error) {
	if err := keys.MayAssume(roleARN, "ecs-tasks.amazonaws.com"); err != nil {
		return metadata.RoleCredentials{}, err
	}
	c := keys.Issue(roleARN, session, timeouts.TaskCredentials)
	return metadata.RoleCredentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, Token: c.Token, Expiration: c.Expiration}, nil
}

// login is that of the registry.
func (i *inside) login(ctx context.Context) (user, password string, err error) {
	s, err := i.wait(ctx)
	if err != nil {
		return "", "", err
	}
	password, _ = s.keys.IssueRegistryToken(wire.Caller{}, timeouts.RegistryToken)
	return "AWS", password, nil
}

// Prepare implements agent.LogSink.
func (i *inside) Prepare(ctx context.Context, group, stream string, createGroup bool) error {
	s, err := i.wait(ctx)
	if err != nil {
		return err
	}
	return s.homeRegion.lines.Prepare(ctx, group, stream, createGroup)
}

// Position implements agent.LogSink.
func (i *inside) Position(ctx context.Context, group, stream, source string) (model.LogPosition, error) {
	s, err := i.wait(ctx)
	if err != nil {
		return model.LogPosition{}, err
	}
	return s.homeRegion.lines.Position(ctx, group, stream, source)
}

// Append implements agent.LogSink.
func (i *inside) Append(ctx context.Context, batch model.LogBatch) error {
	s, err := i.wait(ctx)
	if err != nil {
		return err
	}
	return s.homeRegion.lines.Append(ctx, batch)
}

package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/life"
	"github.com/berthdev/berth/internal/pki"
)

// hearBeats has the server hear the beats of nodes at its cluster port, until ctx is done. key is the cluster's. Where the port cannot be
// taken, nodes beat in their sessions.
func (s *server) hearBeats(ctx context.Context, address string, key []byte) error {
	socket, err := listenBeats(address)
	if err != nil {
		s.log.Warn("beats do not arrive here: nodes are judged by their sessions, which takes longer", "error", err)
		return nil
	}
	beats := beat.NewServer(beat.ServerConfig{OnBye: s.life.Bye, Log: s.log.With("component", "beat")})
	s.life.Listen(life.Hearing{Beats: beats, Key: func(node string) beat.Key { return beat.Key(pki.NodeBeatKey(key, node)) }})
	return beat.NewPort(socket, beats, nil).Run(ctx)
}

// listenBeats takes the cluster port for packets as listenCluster does for connections.
func listenBeats(address string) (beat.Socket, error) {
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		host = ""
	}
	return beat.Listen(net.JoinHostPort(host, number))
}

// pulse is the node's half of the beats.
type pulse struct {
	node *beat.Node
	key  []byte
	log  *slog.Logger
}

func newPulse(in *Instance, log *slog.Logger) (*pulse, error) {
	id, err := beat.ParseID(in.NodeID)
	if err != nil {
		return nil, err
	}
	key, err := pki.LoadBeatKey(in.pkiDir())
	if err != nil {
		return nil, fmt.Errorf("the key of this node's beats: %w", err)
	}
	return &pulse{node: beat.NewNode(beat.NodeConfig{ID: id, Boot: beat.BootOf(bootID()), Log: log}), key: key, log: log}, nil
}

// to beats to these servers from now on.
func (p *pulse) to(servers []string) {
	if err := p.node.Set(beat.Settings{Servers: servers, Key: p.key}); err != nil {
		p.log.Error("this node does not beat", "error", err)
	}
}

// run beats until ctx is done.
func (p *pulse) run(ctx context.Context) error {
	socket, err := beat.Listen(fmt.Sprintf(":%d", life.Port))
	if err != nil {
		p.log.Warn("the port of beats is taken: this node beats from another, which firewalls may not let probes to", "error", err)
		if socket, err = beat.Listen(":0"); err != nil {
			p.log.Error("this node beats in its session only", "error", err)
			return nil
		}
	}
	go p.node.Run(ctx)
	return beat.NewPort(socket, nil, p.node).Run(ctx)
}

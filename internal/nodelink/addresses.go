package nodelink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// Addresses says what the node has of the VPC's addresses, and what it needs. It is answered with Blocks, which the node hears before it
// asks again. A node that has none yet may ask in place of saying Hello: it is answered, and the session ends.
type Addresses struct {
	Epoch int64  // 0 in place of Hello
	Zone  string // such as us-east-1a
	model.Addresses
}

// Blocks are the blocks of which the node gives addresses from now on, that of its gateway first.
type Blocks struct {
	Blocks []netip.Prefix
	// In are those of users' subnets, by subnet.
	In     map[string]model.SubnetBlocks `json:",omitempty"`
	Failed string                        // why it is not known; the node goes on with what it has
}

// Peers changes which other machines there are. What comes with More is to be done with what follows it. A Full one replaces everything.
type Peers struct {
	Full   bool
	More   bool
	Put    []model.Peer
	Remove []string // nodes
	// Encrypt: what is between machines goes through WireGuard.
	Encrypt bool
}

// peersAtATime is how many peers one message carries: about 150 KiB.
const peersAtATime = 1000

// Fabric is the servers' half of the network of tasks.
type Fabric interface {
	// Settle returns the blocks that the node is to have, that of its gateway first.
	Settle(ctx context.Context, node, zone string, says model.Addresses) ([]netip.Prefix, error)
	// SettleIn returns the blocks of users' subnets that the node is to have, by subnet.
	SettleIn(ctx context.Context, node string, says model.Addresses) (map[string]model.SubnetBlocks, error)
	// Follow tells of the peers, all of them first. The caller closes what it gets.
	Follow() Following
	// Encrypted tells whether what is between machines is to be encrypted.
	Encrypted() bool
	// FollowGroups tells of the security groups that the node enforces. The caller closes what it gets.
	FollowGroups(node string) FollowingGroups
}

// Following is what a session has yet to tell its node of the peers.
type Following interface {
	C() <-chan struct{} // receives when there is something to take
	// Take returns at most most peers; ok is false as long as nothing is known.
	Take(most int) (put []model.Peer, remove []string, more, ok bool)
	Close()
}

// Network is the node's half of the network of tasks.
type Network interface {
	Addresses() model.Addresses
	AddressesChanged() <-chan struct{} // receives when Addresses has something to say that should not wait
	// SetBlocks has addresses given from these blocks; in are those of users' subnets.
	SetBlocks(all []netip.Prefix, in map[string]model.SubnetBlocks) error
	SetPeers(peers []model.Peer, encrypt bool)
	SetGroups(model.Guard) error
}

// AskBlocks asks for the first blocks of a node that has none, in a session of its own.
func AskBlocks(ctx context.Context, dial func(context.Context) (Conn, error), zone string, avoid []netip.Prefix) ([]netip.Prefix, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for addresses: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Send(ctx, Message{Addresses: &Addresses{Zone: zone, Addresses: model.Addresses{Avoid: avoid}}}); err != nil {
		return nil, fmt.Errorf("ask for addresses: %w", err)
	}
	m, err := conn.Recv(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("wait for addresses: %w", err)
	case m.Blocks == nil:
		return nil, errors.New("the server did not answer the question for addresses")
	case m.Blocks.Failed != "":
		return nil, fmt.Errorf("the server gives no addresses: %s", m.Blocks.Failed)
	case len(m.Blocks.Blocks) == 0:
		return nil, errors.New("the VPC has no block of addresses left for this node: give it one more range")
	}
	return m.Blocks.Blocks, nil
}

// errAsked ends a session in which a node only asked for its first blocks.
var errAsked = errors.New("the node asked for addresses")

// settle answers a node's question for addresses.
func (s *Server) settle(ctx context.Context, node string, conn Conn, a *Addresses) error {
	var out Blocks
	if s.Fabric == nil {
		out.Failed = "it gives none"
	} else if blocks, err := s.Fabric.Settle(ctx, node, a.Zone, a.Addresses); err != nil {
		out.Failed = err.Error()
		s.Log.Warn("a node gets no addresses", "node", node, "error", err)
	} else if out.In, err = s.Fabric.SettleIn(ctx, node, a.Addresses); err != nil {
		out.Failed = err.Error()
		s.Log.Warn("a node gets no addresses of subnets", "node", node, "error", err)
	} else {
		out.Blocks = blocks
	}
	return conn.Send(ctx, Message{Blocks: &out})
}

// settleHere answers a question of a session's.
func (ss *serverSession) settleHere(ctx context.Context, a *Addresses) error {
	if a.Epoch != ss.epoch {
		return fmt.Errorf("addresses of epoch %d in a session of epoch %d", a.Epoch, ss.epoch)
	}
	return ss.s.settle(ctx, ss.node, ss.conn, a)
}

// sendPeers tells the node which machines there are, for as long as the session lasts.
func (ss *serverSession) sendPeers(ctx context.Context) error {
	if ss.s.Fabric == nil {
		return nil
	}
	following := ss.s.Fabric.Follow()
	defer following.Close()
	full, whole := true, false // of this message; of those up to one without More
	for {
		put, remove, more, ok := following.Take(peersAtATime)
		if ok && (full || whole || len(put)+len(remove) > 0) {
			slices.SortFunc(put, func(a, b model.Peer) int { return strings.Compare(a.Node, b.Node) })
			slices.Sort(remove)
			m := &Peers{Full: full, More: more, Put: put, Remove: remove, Encrypt: ss.s.Fabric.Encrypted()}
			if err := ss.conn.Send(ctx, Message{Peers: m}); err != nil {
				return err
			}
			full, whole = false, more
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-following.C():
		}
	}
}

// talkNetwork says what the node has of addresses: at once, when that changes, and from time to time.
func (s *clientSession) talkNetwork(ctx context.Context) error {
	n := s.c.Network
	if n == nil {
		return nil
	}
	tick := time.NewTicker(timeouts.BlocksSaid)
	defer tick.Stop()
	for {
		says := &Addresses{Epoch: s.epoch, Zone: s.c.Declare().Attributes["ecs.availability-zone"], Addresses: n.Addresses()}
		if err := s.conn.Send(ctx, Message{Addresses: says}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-s.blocks:
			s.hearBlocks(b)
		}
		select { // a burst of starts asks once
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(timeouts.BlocksAsk):
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-n.AddressesChanged():
		}
	}
}

func (s *clientSession) hearBlocks(b *Blocks) {
	if b.Failed != "" {
		s.c.Log.Warn("the server gives this node no addresses", "reason", b.Failed)
		return
	}
	if err := s.c.Network.SetBlocks(b.Blocks, b.In); err != nil {
		s.c.Log.Error("cannot use the blocks of addresses that the server gives", "error", err)
	}
}

// hearPeers notes which machines there are, and tells of it once all of it is known.
func (s *clientSession) hearPeers(m *Peers) {
	if m.Full {
		s.peers = map[string]model.Peer{}
	}
	if s.c.Network == nil || s.peers == nil {
		return
	}
	for _, p := range m.Put {
		s.peers[p.Node] = p
	}
	for _, node := range m.Remove {
		delete(s.peers, node)
	}
	if m.More {
		return
	}
	all := make([]model.Peer, 0, len(s.peers))
	for _, node := range slices.Sorted(maps.Keys(s.peers)) {
		all = append(all, s.peers[node])
	}
	s.c.Network.SetPeers(all, m.Encrypt)
}

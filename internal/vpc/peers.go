package vpc

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"sync"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Peers tells which machines there are, and through which of them each block of addresses is reached: one watch of the store for all
// who want to know. Followers have one as leaders do.
type Peers struct {
	store store.Store

	mu    sync.Mutex
	known map[string]model.Peer // by node; nil before the first look
	subs  map[*Subscription]bool
}

// NewPeers makes Peers that Run fills.
func NewPeers(s store.Store) *Peers { return &Peers{store: s, subs: map[*Subscription]bool{}} }

// Run follows the store until ctx ends.
func (p *Peers) Run(ctx context.Context) error {
	watch := p.store.Watch(ctx, store.Nodes.All(), store.Blocks.All(), store.ClusterSettings.All())
	p.all()
	for range watch.C() {
		batch := watch.Take()
		if batch.All {
			p.all()
			continue
		}
		nodes := map[string]bool{}
		for _, c := range batch.Changes {
			if c.Table == store.ClusterSettings.Name() {
				p.again()
			}
			for _, row := range []any{c.Old, c.New} {
				switch row := row.(type) {
				case *model.Node:
					if row != nil {
						nodes[row.ID] = true
					}
				case *model.Block:
					if row != nil {
						nodes[row.Node] = true
					}
				}
			}
		}
		p.store.View(func(r store.Reader) {
			for node := range nodes {
				p.look(r, node)
			}
		})
	}
	return nil
}

// all looks at every node.
func (p *Peers) all() {
	p.store.View(func(r store.Reader) {
		gone := map[string]bool{}
		p.mu.Lock()
		first := p.known == nil
		if first {
			p.known = map[string]model.Peer{}
		}
		for node := range p.known {
			gone[node] = true
		}
		p.mu.Unlock()
		for n := range store.Nodes.Scan(r, "") {
			delete(gone, n.ID)
			p.look(r, n.ID)
		}
		for node := range gone {
			p.look(r, node)
		}
		if first {
			p.mu.Lock()
			defer p.mu.Unlock()
			for s := range p.subs {
				s.begin(p.known)
			}
		}
	})
}

// again has everybody told of all peers once more, as what holds for all of them may have changed.
func (p *Peers) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.subs {
		s.begin(p.known)
	}
}

// look compares what is known of a node with its rows.
func (p *Peers) look(r store.Reader, node string) {
	now, ok := peerOf(r, node)
	p.mu.Lock()
	defer p.mu.Unlock()
	old, was := p.known[node]
	switch {
	case !ok && !was, ok && was && reflect.DeepEqual(old, now):
		return
	case ok:
		p.known[node] = now
	default:
		delete(p.known, node)
	}
	for s := range p.subs {
		s.add(node)
	}
}

// peerOf is a node as others reach its tasks; ok is false when they do not: it is gone, or has no addresses.
func peerOf(r store.Reader, node string) (p model.Peer, ok bool) {
	n, ok := store.Nodes.Get(r, node)
	if !ok {
		return p, false
	}
	blocks := held(r, node)
	for b := range store.Blocks.By(r, store.ByNode, node) { // a task may have got an address there just now
		if b.Recalled || b.Subnet != "" {
			blocks = append(blocks, b.Prefix())
		}
	}
	address, err := netip.ParseAddr(n.Address)
	if err != nil || len(blocks) == 0 {
		return p, false
	}
	return model.Peer{Node: node, Address: address, MTU: n.MTU, Blocks: blocks, Key: n.OverlayKey}, true
}

// Known returns all peers by node, as far as Run has seen them.
func (p *Peers) Known() map[string]model.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.known)
}

// Subscription is what one session has yet to tell its node.
type Subscription struct {
	peers   *Peers
	notices chan struct{}

	// Under peers.mu.
	begun   bool
	pending map[string]bool
}

// Subscribe follows the peers until the subscription is closed. All of them are to be told first.
func (p *Peers) Subscribe() *Subscription {
	s := &Subscription{peers: p, notices: make(chan struct{}, 1), pending: map[string]bool{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subs[s] = true
	if p.known != nil {
		s.begin(p.known)
	}
	return s
}

// C receives when there is something to take.
func (s *Subscription) C() <-chan struct{} { return s.notices }

// Take returns what has changed since the last Take, at most most peers in each of put and remove; more tells that there is more of it.
// ok is false as long as the peers are not known.
func (s *Subscription) Take(most int) (put []model.Peer, remove []string, more, ok bool) {
	p := s.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	for node := range s.pending {
		if len(put)+len(remove) == most {
			return put, remove, true, s.begun
		}
		delete(s.pending, node)
		if peer, here := p.known[node]; here {
			put = append(put, peer)
		} else {
			remove = append(remove, node)
		}
	}
	return put, remove, false, s.begun
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.peers.mu.Lock()
	defer s.peers.mu.Unlock()
	delete(s.peers.subs, s)
}

// The following need peers.mu.

func (s *Subscription) begin(known map[string]model.Peer) {
	s.begun = true
	for node := range known {
		s.pending[node] = true
	}
	s.tell()
}

func (s *Subscription) add(node string) {
	if s.begun {
		s.pending[node] = true
		s.tell()
	}
}

func (s *Subscription) tell() {
	select {
	case s.notices <- struct{}{}:
	default:
	}
}

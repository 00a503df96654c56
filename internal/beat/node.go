package beat

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// NodeConfig is what a node's half needs.
type NodeConfig struct {
	ID   ID
	Boot uint64 // names this boot of the machine: see Boot
	// Away: this is the keeper, and the agent is not there.
	Away bool
	// Health tells what is wrong with the machine; nil: nothing. It is asked for each beat and must not block.
	Health func() Health
	// Clock is the time since the machine's boot; nil means the kernel's. Two processes of one boot have the same clock. It may block, as the
	// clock of a paused machine does: no lock is held meanwhile.
	Clock func() time.Duration
	Log   *slog.Logger
}

// Node is a node's half: it beats to every server, keeps the lease, answers probes and carries those that servers ask it to.
type Node struct {
	c NodeConfig

	mu       sync.Mutex
	socket   Socket
	signer   *signer // nil before Set
	settings Settings
	servers  []peer
	health   Health // Bye, once it was said
	period   time.Duration
	late     pauses
	lease    time.Duration // by Clock; 0: none yet
	carried  map[uint64]carried
	changed  chan struct{} // settings or period
}

// peer is one server as the node knows it.
type peer struct {
	name     string
	addr     netip.AddrPort // invalid: its name is not resolved
	cookie   uint64
	answered time.Duration // by Clock; 0: never
}

// carried is a probe that was carried to another node.
type carried struct {
	from netip.AddrPort // the server that asked
	at   time.Duration
}

// NewNode makes a node's half. It is silent before Set.
func NewNode(c NodeConfig) *Node {
	if c.Clock == nil {
		c.Clock = sinceBoot
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Node{c: c, period: timeouts.Beat, carried: map[uint64]carried{}, changed: make(chan struct{}, 1)}
}

func (n *Node) use(s Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.socket = s
}

// Set tells the node whom to beat to. Servers that stay keep what is known of them.
func (n *Node) Set(s Settings) error {
	if len(s.Key) != len(Key{}) {
		return errors.New("the server's key for beats has another length than this version's")
	}
	var servers []peer
	for _, name := range s.Servers[:min(len(s.Servers), MaxServers)] {
		addr, err := net.ResolveUDPAddr("udp", name)
		p := peer{name: name}
		if err != nil {
			n.c.Log.Warn("a server's address for beats is not known", "server", name, "error", err)
		} else {
			p.addr = unmap(addr.AddrPort())
		}
		servers = append(servers, p)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range servers {
		if k := slices.IndexFunc(n.servers, func(p peer) bool { return p.addr == servers[i].addr }); k >= 0 {
			servers[i].cookie, servers[i].answered = n.servers[k].cookie, n.servers[k].answered
		}
	}
	n.settings, n.servers, n.signer = s, servers, newSigner(Key(s.Key))
	if s.Period > 0 {
		n.period = s.Period
	}
	n.poke()
	return nil
}

// Settings are the last that were Set; the zero ones before.
func (n *Node) Settings() Settings {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.settings
}

func (n *Node) poke() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// Run beats until ctx is done: each period, up to a tenth earlier or later.
func (n *Node) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	planned := n.c.Clock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
			timer.Reset(0)
			planned = n.c.Clock()
			continue
		case <-timer.C:
		}
		now := n.c.Clock()
		n.beat(now, now-planned)
		n.mu.Lock()
		wait := time.Duration(float64(n.period) * (0.9 + 0.2*rand.Float64()))
		n.mu.Unlock()
		planned = now + wait
		timer.Reset(wait)
	}
}

// beat sends one beat to each server. late is how much later than planned it is.
func (n *Node) beat(now, late time.Duration) {
	n.mu.Lock()
	if late > timeouts.BeatStood {
		n.late.note(now, late)
	}
	var out []Datagram
	for slot := range n.servers {
		out = n.to(slot, now, out)
	}
	socket := n.socket
	n.mu.Unlock()
	if socket != nil && len(out) > 0 {
		socket.Write(out)
	}
}

// to appends a beat to one server. mu is held.
func (n *Node) to(slot int, now time.Duration, out []Datagram) []Datagram {
	s := &n.servers[slot]
	if !s.addr.IsValid() || n.signer == nil {
		return out
	}
	p := packet{kind: kindBeat, node: n.c.ID, boot: n.c.Boot, slot: uint8(slot), seq: uint64(now / time.Microsecond), cookie: s.cookie,
		epoch: uint32(n.settings.Epoch), health: n.state(), pause: uint8(min(n.late.longest(now)/pauseUnit, 255))}
	out = append(out, Datagram{Addr: s.addr, N: Size})
	n.signer.seal(&p, out[len(out)-1].Data[:Size])
	return out
}

func (n *Node) state() Health {
	h := n.health
	if n.c.Health != nil {
		h |= n.c.Health()
	}
	if n.c.Away {
		h |= Away
	}
	return h
}

// Bye says that the machine shuts down: its tasks are replaced at once. It is said thrice, since packets get lost.
func (n *Node) Bye(ctx context.Context) {
	n.mu.Lock()
	n.health |= Bye
	n.mu.Unlock()
	for range 3 {
		n.beat(n.c.Clock(), 0)
		select {
		case <-ctx.Done():
			return
		case <-time.After(timeouts.BeatBye):
		}
	}
}

// Lease is how long ago, at most, a server that heard this node was in contact with the leader; false before the first answer.
func (n *Node) Lease() (age time.Duration, ok bool) {
	now := n.c.Clock()
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(0, now-n.lease), n.lease > 0
}

// LeaseAt is the lease by the clock since boot, 0 for none: two processes of one boot can hand it on.
func (n *Node) LeaseAt() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lease
}

// Resume takes on the lease that another process of this boot has had.
func (n *Node) Resume(lease time.Duration) {
	now := n.c.Clock()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lease = max(n.lease, min(lease, now))
}

// Passes tells whether UDP gets through: a server has answered within timeouts.BeatPasses.
func (n *Node) Passes() bool {
	now := n.c.Clock()
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.servers, func(p peer) bool { return p.answered > 0 && now-p.answered < timeouts.BeatPasses })
}

// take handles what came and appends what is to be sent.
func (n *Node) take(in, out []Datagram) []Datagram {
	now := n.c.Clock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.signer == nil {
		return out
	}
	for i := range in {
		b := in[i].body()
		p, err := parse(b)
		if err != nil {
			continue
		}
		if p.kind == kindLive && p.node != n.c.ID {
			out = n.bring(&p, b, out)
			continue
		}
		if p.node != n.c.ID || p.kind == kindBeat || p.kind == kindLive || !n.signer.check(b) {
			continue
		}
		switch p.kind {
		case kindAnswer:
			out = n.answer(&p, now, out)
		case kindProbe:
			live := packet{kind: kindLive, node: p.node, boot: n.c.Boot, epoch: uint32(n.settings.Epoch), seq: p.seq, health: n.state()}
			out = append(out, Datagram{Addr: in[i].Addr, N: Size})
			n.signer.seal(&live, out[len(out)-1].Data[:Size])
		case kindAsk:
			out = n.carry(&p, b[Size:], in[i].Addr, now, out)
		}
	}
	return out
}

// answer takes in a server's answer, and beats again when the beat did not count for want of a cookie.
func (n *Node) answer(p *packet, now time.Duration, out []Datagram) []Datagram {
	sent := time.Duration(p.seq) * time.Microsecond
	if int(p.slot) >= len(n.servers) || sent > now || now-sent > timeouts.BeatAnswer {
		return out
	}
	s := &n.servers[p.slot]
	s.answered = max(s.answered, now)
	if p.period >= timeouts.BeatLeast && p.period != n.period {
		n.period = p.period
	}
	fresh := p.cookie != s.cookie
	s.cookie = p.cookie
	switch {
	case p.health&notCounted == 0:
		n.lease = max(n.lease, sent-p.age)
	case fresh: // once for each cookie: a server that goes on to refuse is not to be answered for ever
		out = n.to(int(p.slot), now, out)
	}
	return out
}

// maxCarried bounds the probes that are remembered.
const maxCarried = 256

// carry sends a probe, which a server made, on to another node.
func (n *Node) carry(ask *packet, probe []byte, server netip.AddrPort, now time.Duration, out []Datagram) []Datagram {
	p, err := parse(probe)
	if err != nil || p.kind != kindProbe || !ask.to.IsValid() || ask.to.Port() == 0 {
		return out
	}
	for nonce, c := range n.carried {
		if now-c.at > timeouts.BeatAnswer {
			delete(n.carried, nonce)
		}
	}
	if len(n.carried) >= maxCarried {
		return out
	}
	n.carried[p.seq] = carried{server, now}
	d := Datagram{Addr: ask.to, N: Size}
	copy(d.Data[:], probe)
	return append(out, d)
}

// bring sends the answer to a carried probe back to the server, which knows whether it is genuine.
func (n *Node) bring(p *packet, b []byte, out []Datagram) []Datagram {
	c, ok := n.carried[p.seq]
	if !ok {
		return out
	}
	delete(n.carried, p.seq)
	d := Datagram{Addr: c.from, N: Size}
	copy(d.Data[:], b)
	return append(out, d)
}

// unmap makes one address of the two spellings that an IPv4 one has.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// BootOf makes a packet's boot of the kernel's boot id, any string.
func BootOf(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])
}

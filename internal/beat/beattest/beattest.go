// Package beattest carries beats in memory, with what networks do to them: for simulations in a synctest bubble, and for many nodes in one
// process.
package beattest

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/beat"
)

// Net is a network.
type Net struct {
	mu   sync.Mutex
	at   map[netip.AddrPort]*wire
	rng  *rand.Rand
	loss float64 // of each packet
	late time.Duration
	cut  func(from, to netip.AddrPort) bool
}

// NewNet makes a network that loses nothing. The same seed gives the same fate to the same packets in the same order.
func NewNet(seed uint64) *Net {
	return &Net{at: map[netip.AddrPort]*wire{}, rng: rand.New(rand.NewPCG(seed, 0))}
}

// Disturb loses that part of all packets and delays the others by up to late, so that they overtake each other.
func (n *Net) Disturb(loss float64, late time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.late = loss, late
}

// Cut drops the packets for which it is true; nil drops none.
func (n *Net) Cut(cut func(from, to netip.AddrPort) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// Listen takes an address, also from whoever has it.
func (n *Net) Listen(at netip.AddrPort) beat.Socket {
	w := &wire{net: n, addr: at, in: make(chan beat.Datagram, 1024), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[at] = w
	return w
}

// wire is a socket.
type wire struct {
	net  *Net
	addr netip.AddrPort
	in   chan beat.Datagram
	done chan struct{}
	once sync.Once
}

// Read implements beat.Socket.
func (w *wire) Read(into []beat.Datagram) (int, error) {
	select {
	case into[0] = <-w.in:
	case <-w.done:
		return 0, net.ErrClosed
	}
	n := 1
	for n < len(into) {
		select {
		case into[n] = <-w.in:
			n++
		default:
			return n, nil
		}
	}
	return n, nil
}

// Write implements beat.Socket.
func (w *wire) Write(out []beat.Datagram) {
	n := w.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range out {
		to := d.Addr
		d.Addr = w.addr
		if n.cut != nil && n.cut(w.addr, to) || n.loss > 0 && n.rng.Float64() < n.loss {
			continue
		}
		if n.late == 0 {
			n.deliver(to, d)
			continue
		}
		time.AfterFunc(time.Duration(n.rng.Int64N(int64(n.late))), func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.deliver(to, d)
		})
	}
}

// deliver puts a packet where it is addressed to; mu is held.
func (n *Net) deliver(to netip.AddrPort, d beat.Datagram) {
	if other := n.at[to]; other != nil {
		select {
		case other.in <- d:
		default: // as a full buffer of the kernel
		}
	}
}

// Close implements beat.Socket.
func (w *wire) Close() error {
	w.once.Do(func() { close(w.done) })
	return nil
}

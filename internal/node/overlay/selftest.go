package overlay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/network"
	"github.com/berthdev/berth/internal/timeouts"
)

// Without checksum offload a stream between tasks of two machines costs four times the CPU; with it, some network cards and hypervisors
// spoil what is inside of VXLAN. So a machine asks others, through the overlay, for what it sends them: first without, and when they
// answer, with offload. It stays on as long as nobody is lost by it.

// testBytes are large enough for the segments to be cut up by the hardware.
const testBytes = 64 << 10

// sampled is how many other machines a machine asks: all of them in a small fleet.
const sampled = 8

// checker decides whether checksums are left to the hardware.
type checker struct {
	answers func(model.Peer) bool // within timeouts.OverlayTest
	get     func() (bool, error)
	set     func(bool) error
	broken  bool            // offload has lost somebody
	good    map[string]bool // nodes that answer with offload
}

// check asks the peers that it has not asked yet. done is false when it is to be repeated: none has answered.
func (c *checker) check(peers []model.Peer) (done bool, err error) {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p model.Peer) bool { return c.good[p.Node] })
	if len(peers) == 0 || c.broken {
		return true, nil
	}
	on, err := c.get()
	if err != nil {
		return false, err
	}
	here, away := c.ask(peers)
	if on {
		c.note(here)
		if len(away) == 0 {
			return true, nil
		}
		if err := c.set(false); err != nil {
			return false, err
		}
		if back, _ := c.ask(away); len(back) > 0 {
			c.broken = true
			return true, nil
		}
		return false, c.set(true) // they are away for another reason
	}
	if len(here) == 0 {
		return false, nil
	}
	if err := c.set(true); err != nil {
		return false, err
	}
	still, lost := c.ask(here)
	if len(lost) > 0 {
		c.broken = true
		return true, c.set(false)
	}
	c.note(still)
	return len(away) == 0, nil
}

func (c *checker) note(peers []model.Peer) {
	for _, p := range peers {
		c.good[p.Node] = true
	}
}

// ask tells who answers. A lost packet is no lost peer.
func (c *checker) ask(peers []model.Peer) (here, away []model.Peer) {
	for _, p := range peers {
		ok := false
		for range 3 {
			if ok = c.answers(p); ok {
				break
			}
		}
		if ok {
			here = append(here, p)
		} else {
			away = append(away, p)
		}
	}
	return here, away
}

// sample are the peers that a machine asks: those that follow it in the order of their ids.
func sample(self string, peers []model.Peer) []model.Peer {
	i, _ := slices.BinarySearchFunc(peers, self, func(p model.Peer, id string) int {
		switch {
		case p.Node < id:
			return -1
		case p.Node > id:
			return 1
		}
		return 0
	})
	return slices.Concat(peers[i:], peers[:i])[:min(sampled, len(peers))]
}

// gatewayOf is the machine's own address among those of its tasks.
func gatewayOf(p model.Peer) netip.Addr { return end(p).Next() }

// answers tells whether a peer sends back, through the overlay, what it is sent.
func (o *Overlay) answers(p model.Peer) bool {
	address := net.JoinHostPort(gatewayOf(p).String(), strconv.Itoa(network.SelfTestPort))
	d := net.Dialer{Timeout: timeouts.OverlayTest, LocalAddr: &net.TCPAddr{IP: o.c.Gateway.AsSlice()}}
	conn, err := d.Dial("tcp4", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(timeouts.OverlayTest)) != nil {
		return false
	}
	sent := bytes.Repeat([]byte("berth"), testBytes/5)
	go func() { _, _ = conn.Write(sent) }() // what is not sent does not come back
	got := make([]byte, len(sent))
	_, err = io.ReadFull(conn, got)
	return err == nil && bytes.Equal(got, sent)
}

// listen answers the questions of other machines at this one's gateway until ctx ends.
func (o *Overlay) listen() (net.Listener, error) {
	l, err := net.Listen("tcp4", net.JoinHostPort(o.c.Gateway.String(), strconv.Itoa(network.SelfTestPort)))
	if err != nil {
		return nil, fmt.Errorf("overlay: answer other machines: %w", err)
	}
	return l, nil
}

// serveTests sends back what other machines, and nobody else, send.
func (o *Overlay) serveTests(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, 2*sampled)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err != nil || !o.machine(from.Addr()) {
			conn.Close() // a task
			continue
		}
		select {
		case room <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			defer conn.Close()
			if conn.SetDeadline(time.Now().Add(timeouts.OverlayTest)) == nil {
				_, _ = io.Copy(conn, io.LimitReader(conn, testBytes))
			}
		})
	}
}

// machine tells whether a is the address of a machine of the fleet among those of its tasks.
func (o *Overlay) machine(a netip.Addr) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.wanted.Peers, func(p model.Peer) bool { return len(p.Blocks) > 0 && gatewayOf(p) == a })
}

// check finds out, once there are other machines and when others come, whether checksums may be left to the hardware.
func (o *Overlay) check(ctx context.Context) {
	c := o.newChecker()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.levelled:
		}
		for {
			o.mu.Lock()
			peers, self, made := o.reachable, o.wanted.Self.Node, o.made
			encrypted := o.wanted.Encrypt
			o.mu.Unlock()
			if encrypted { // its checksums are its own
				break
			}
			if c.made != made { // another device, which leaves nothing to the hardware yet
				c = o.newChecker()
				c.made = made
			}
			done, err := c.check(sample(self, peers))
			if err != nil {
				o.log.Warn("cannot tell whether checksums may be left to the hardware", "error", err)
			}
			if c.broken && !c.said {
				c.said = true
				o.log.Warn("checksums of what goes to tasks of other machines are made by this machine's CPU: its network card spoils them")
			}
			if done || err != nil || len(peers) == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(timeouts.OverlayKept):
			case <-o.levelled:
			}
		}
	}
}

// deviceChecker is the checker of one device.
type deviceChecker struct {
	checker
	made int // the device's index
	said bool
}

func (o *Overlay) newChecker() *deviceChecker {
	name := deviceName(o.c.ID)
	return &deviceChecker{checker: checker{answers: o.answers, good: map[string]bool{},
		get: func() (bool, error) { return getChecksums(name) },
		set: func(on bool) error { return setChecksums(name, on) }}}
}

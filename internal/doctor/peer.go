package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
)

// waits of a look at another machine.
const (
	peerDial  = 3 * time.Second
	udpAnswer = 700 * time.Millisecond
)

// Peer looks from this machine at another one, by its address: what the machines of a cluster say to each other, and how long that takes.
func Peer(ctx context.Context, address string) []Finding {
	at, err := netip.ParseAddr(address)
	if err != nil {
		return found("address", Fail, fmt.Sprintf("%q is no IP address.", address), "Say the address at which the other machine is reached: berth node ls shows those of nodes.")
	}
	all := route(at)
	for _, p := range []struct {
		port int
		what string
	}{{peer.Port, "the cluster port, of servers only"}, {peer.Port + 1, "etcd's, between servers only"}} {
		all = append(all, tcp(ctx, at, p.port, p.what)...)
	}
	for _, p := range []struct {
		port int
		what string
	}{{peer.Port, "beats and probes"}, {4569, "traffic between tasks"}} {
		all = append(all, udp(at, p.port, p.what)...)
	}
	return all
}

// route tells by which of this machine's addresses the other one is reached, and how large a packet may be.
func route(at netip.Addr) []Finding {
	const name = "route"
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, peer.Port)))
	if err != nil {
		return found(name, Fail, fmt.Sprintf("This machine has no way to %s: %v.", at, err), "Look at: ip route get "+at.String())
	}
	defer c.Close()
	host, _, _ := net.SplitHostPort(c.LocalAddr().String())
	mtu := 0
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if at.Is4() {
				mtu, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU)
			} else {
				mtu, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU)
			}
		})
	}
	if mtu > 0 && mtu < 1280+50 {
		return found(name, Warn, fmt.Sprintf("Packets to %s may have %d bytes only: tasks of different machines are left with %d.", at, mtu, mtu-50), "Raise the MTU of what lies between.")
	}
	return ok(name, "%s is reached from %s, with packets of up to %d bytes.", at, host, mtu)
}

// tcp tells whether a port takes connections.
func tcp(ctx context.Context, at netip.Addr, port int, what string) []Finding {
	p := join.Port{Network: "tcp", Number: uint16(port)}
	name := p.String()
	ctx, cancel := context.WithTimeout(ctx, peerDial)
	defer cancel()
	began := time.Now()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(at, uint16(port)).String())
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return ok(name, "%s: nobody listens (%s), and nothing stands in the way.", name, what)
	case err != nil:
		return found(name, Warn, fmt.Sprintf("%s (%s) does not answer: %v.", name, what, err), "If a server runs there, run there: "+p.Cure())
	}
	defer c.Close()
	took := time.Since(began)
	if port != peer.Port {
		return ok(name, "%s (%s) answers within %s.", name, what, took.Round(10*time.Microsecond))
	}
	return clusterPort(ctx, c, name, took)
}

// clusterPort asks a server for its time.
func clusterPort(ctx context.Context, c net.Conn, name string, took time.Duration) []Finding {
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{peer.ProtocolHTTP}, MinVersion: tls.VersionTLS13}) // whoever it is, it is only asked for its time
	if err := t.HandshakeContext(ctx); err != nil {
		return found(name, Warn, fmt.Sprintf("%s answers, and is no cluster port of Berth's: %v.", name, err), "Look there at: ss -ltnp sport = :"+strconv.Itoa(peer.Port))
	}
	who := "a server"
	if certs := t.ConnectionState().PeerCertificates; len(certs) > 0 {
		if p, err := pki.PeerOf(certs[0]); err == nil {
			who = fmt.Sprintf("server %s of cluster %s", p.ID[:min(8, len(p.ID))], p.Cluster)
		}
	}
	offset, apart, err := peer.AskClock(ctx, t, &pki.Clock{})
	switch {
	case err != nil:
		return found(name, Warn, fmt.Sprintf("%s is %s, which does not say its time: %v.", name, who, err), "")
	case apart:
		return found(name, Warn, fmt.Sprintf("%s is %s, whose clock is %+.1f s from this machine's.", name, who, offset.Seconds()), "Set both clocks by NTP: timedatectl set-ntp true")
	}
	return ok(name, "%s is %s; it answers within %s, and its clock is %+.2f s from this machine's.", name, who, took.Round(10*time.Microsecond), offset.Seconds())
}

// udp tells whether a packet comes back as refused: silence is what an open port and a firewall have in common.
func udp(at netip.Addr, port int, what string) []Finding {
	p := join.Port{Network: "udp", Number: uint16(port)}
	name := p.String()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, uint16(port))))
	if err != nil {
		return found(name, Warn, fmt.Sprintf("%s (%s): %v.", name, what, err), "")
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(udpAnswer))
	for range 2 {
		if _, err = c.Write([]byte("berth doctor")); err != nil {
			break
		}
		if _, err = c.Read(make([]byte, 64)); errors.Is(err, unix.ECONNREFUSED) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return found(name, Warn, fmt.Sprintf("%s (%s): nobody listens, and nothing stands in the way.", name, what), "Start Berth there, if it should run.")
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENETUNREACH):
		return found(name, Fail, fmt.Sprintf("%s (%s) is closed by a firewall: %v.", name, what, err), "Run there: "+p.Cure())
	}
	return ok(name, "%s (%s): nothing came back, as from a port that Berth has; a firewall that swallows packets looks alike (berth node ls shows what gets through).", name, what)
}

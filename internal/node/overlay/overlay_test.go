package overlay

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
)

// Tasks of three machines talk to each other both ways, and see each other's true addresses; so do the machines themselves. Large
// transfers get through though what tasks send is larger than the way takes.
func TestTasksOfThreeMachines(t *testing.T) {
	r := newRig(t, 3, 1500)
	r.join()
	a, b, c := r.machines[0].task("a"), r.machines[1].task("b"), r.machines[2].task("c")
	const much = 4 << 20
	for _, way := range [][2]int{{0, 1}, {1, 0}, {0, 2}, {2, 1}} {
		from, to := []string{a.IPv4, b.IPv4, c.IPv4}[way[0]], []string{a.IPv4, b.IPv4, c.IPv4}[way[1]]
		info := a
		switch way[0] {
		case 1:
			info = b
		case 2:
			info = c
		}
		if got, err := fromTask(t, info, to+":80", much); err != nil || got != fmt.Sprint(from, " ", much) {
			t.Errorf("from %s to %s: %q %v", from, to, got, err)
		}
	}
	m := r.machines[0]
	m.do(func() { // a proxy of one machine reaches tasks of another by the machine's own address among them
		if got, err := ask(b.IPv4+":80", much); err != nil || got != fmt.Sprint(m.network.Gateway(), " ", much) {
			t.Errorf("from a machine to a task of another: %q %v", got, err)
		}
		if got, err := ask(a.IPv4+":80", 1); err != nil || got != fmt.Sprint(m.network.Gateway(), " 1") {
			t.Errorf("from a machine to its own task: %q %v", got, err)
		}
	})
	// A large datagram that must not be cut up is answered with how large it may be.
	inside(t, a.NetnsPath, func() error {
		conn, err := net.Dial("udp4", b.IPv4+":9")
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, _ := conn.(*net.UDPConn).SyscallConn()
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		for range 20 {
			if _, err = conn.Write(make([]byte, 1460)); err != nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err == nil || !strings.Contains(err.Error(), "message too long") {
			t.Errorf("1460 bytes without being cut up: %v", err)
		}
		return nil
	})
}

func TestWhatATaskMayNot(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.join()
	a, b := r.machines[0].task("a"), r.machines[1].task("b")
	gateway := r.machines[1].network.Gateway().String()
	r.machines[1].do(func() { must(t, serve(t, gateway+":5353")) })
	if got, err := fromTask(t, a, gateway+":5353", 1); err == nil {
		t.Errorf("a task reaches what another machine keeps for its own: %q", got)
	}
	if got, err := fromTask(t, b, gateway+":5353", 1); err != nil {
		t.Errorf("the machine's own task: %q %v", got, err)
	}
	// An address of nobody is refused at once, by the machine whose it would be.
	began := time.Now()
	if _, err := fromTask(t, a, "172.31.1.60:80", 1); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a task that is no more: %v after %s", err, time.Since(began))
	}
}

// Peers come, change and go; what the kernel has follows, and what somebody took away is made anew.
func TestPeersChange(t *testing.T) {
	r := newRig(t, 3, 1500)
	a, b, c := r.machines[0], r.machines[1], r.machines[2]
	ta, tb, tc := a.task("a"), b.task("b"), c.task("c")
	reached := func(to string) bool {
		t.Helper()
		_, err := fromTask(t, ta, to+":80", 1)
		return err == nil
	}
	a.do(func() {
		must(t, a.overlay.level(true))
		if _, err := netlink.LinkByName(deviceName(a.id)); err == nil {
			t.Error("a machine that is alone has a device for others")
		}
	})
	a.level(false, a.peer, b.peer)
	b.level(true, a.peer, b.peer)
	c.level(true, a.peer, b.peer, c.peer)
	if !reached(tb.IPv4) || reached(tc.IPv4) {
		t.Error("b is to be reached, and c not yet")
	}
	a.level(false, a.peer, b.peer, c.peer)
	if !reached(tb.IPv4) || !reached(tc.IPv4) {
		t.Error("c was added")
	}
	more := c.peer
	more.Blocks = append(more.Blocks, netip.MustParsePrefix("172.31.2.64/26"))
	a.level(false, a.peer, more)
	if reached(tb.IPv4) || !reached(tc.IPv4) {
		t.Error("b was removed")
	}
	a.do(func() {
		l, err := netlink.LinkByName(deviceName(a.id))
		must(t, err)
		routes, _ := netlink.RouteList(l, netlink.FAMILY_V4)
		neighbours, _ := netlink.NeighList(l.Attrs().Index, netlink.FAMILY_V4)
		if len(routes) != 2 || routes[0].MTU != 1450 || len(neighbours) != 1 {
			t.Errorf("%v\n%v", routes, neighbours)
		}
		must(t, netlink.LinkDel(l))
		if a.overlay.there() {
			t.Error("the device was deleted, and nobody noticed")
		}
	})
	a.level(true, a.peer, b.peer, more)
	if !reached(tb.IPv4) || !reached(tc.IPv4) {
		t.Error("the device was made anew")
	}
	a.do(func() { // one entry of each kind is lost, and the table
		l, err := netlink.LinkByName(deviceName(a.id))
		must(t, err)
		must(t, netlink.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(b.peer.Blocks[0])}))
		must(t, netlink.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: end(c.peer).AsSlice()}))
		must(t, a.overlay.filter.remove())
	})
	if reached(tb.IPv4) || reached(tc.IPv4) {
		t.Error("what was taken away is missed by nobody")
	}
	a.level(true, a.peer, b.peer, more)
	if !reached(tb.IPv4) || !reached(tc.IPv4) {
		t.Error("what was taken away was made anew")
	}
	// Another process takes over what is there, and connections live on.
	a.do(func() {
		must(t, a.overlay.Close())
		o, err := Open(Config{ID: a.id, Gateway: a.network.Gateway()})
		must(t, err)
		a.overlay = o
		before, _ := netlink.LinkByName(deviceName(a.id))
		o.Set(Wanted{Self: a.peer, Peers: []model.Peer{b.peer}})
		must(t, o.level(true))
		after, err := netlink.LinkByName(deviceName(a.id))
		if err != nil || before.Attrs().Index != after.Attrs().Index {
			t.Errorf("the device was made anew: %v", err)
		}
	})
	if !reached(tb.IPv4) || reached(tc.IPv4) {
		t.Error("another process has b only")
	}
	a.level(false)
	a.do(func() {
		if _, err := netlink.LinkByName(deviceName(a.id)); err == nil {
			t.Error("the device is left, and there is no peer")
		}
	})
}

// What a machine that is not of the fleet sends to the overlay's port reaches no task, whatever it says that it is; nor does a machine
// of the fleet pass for another's task.
func TestStrangersAreNotHeard(t *testing.T) {
	r := newRig(t, 3, 1500)
	a, b, stranger := r.machines[0], r.machines[1], r.machines[2]
	a.level(true, a.peer, b.peer)
	b.level(true, a.peer, b.peer)
	task := a.task("a")
	heard := make(chan string, 10)
	inside(t, task.NetnsPath, func() error {
		conn, err := net.ListenPacket("udp4", ":7")
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			buf := make([]byte, 100)
			for {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				heard <- from.String() + " " + string(buf[:n])
			}
		}()
		return nil
	})
	inner := func(source, text string) []byte { return vxlanPacket(end(a.peer), source, task.IPv4, 7, text) }
	say := func(m *machine, packet []byte) {
		t.Helper()
		m.do(func() {
			conn, err := net.Dial("udp4", netip.AddrPortFrom(a.peer.Address, Port).String())
			must(t, err)
			defer conn.Close()
			_, err = conn.Write(packet)
			must(t, err)
		})
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
		case <-time.After(map[bool]time.Duration{true: 300 * time.Millisecond, false: 3 * time.Second}[want == ""]):
			if want != "" {
				t.Errorf("did not hear %q", want)
			}
		}
	}
	say(b, inner("172.31.1.9", "of b"))
	expect("172.31.1.9:1000 of b")
	say(stranger, inner("172.31.1.9", "of a stranger"))
	expect("")
	say(b, inner("172.31.0.9", "b as one of a's tasks"))
	say(b, inner("192.0.2.9", "b as a machine"))
	say(b, inner("127.0.0.1", "b as a itself"))
	expect("")
	a.level(false, a.peer) // b has left
	say(b, inner("172.31.1.9", "of b, which has left"))
	expect("")
}

func TestTwoThousandPeers(t *testing.T) {
	r := newRig(t, 1, 1500)
	m := r.machines[0]
	var peers []model.Peer
	for i := range 2000 {
		n := i + 4
		peers = append(peers, model.Peer{Node: fmt.Sprintf("%04d", n), Address: netip.AddrFrom4([4]byte{10, 8, byte(n >> 8), byte(n)}), MTU: 1500,
			Blocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(20 + n>>10), byte(n >> 2), byte(n & 3 << 6)}), 26)}})
	}
	began := time.Now()
	m.level(true, peers...)
	t.Logf("2,000 peers at once: %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	m.level(true, peers...)
	t.Logf("a comparison of them all: %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	m.level(false, peers[1:]...)
	t.Logf("one goes: %s", time.Since(began).Round(time.Microsecond))
	m.do(func() {
		must(t, m.overlay.read())
		m.overlay.have.allowed = m.overlay.filter.read()
	})
	for name, got := range map[string]int{"routes": len(m.overlay.have.routes), "neighbours": len(m.overlay.have.neighbours), "forwarding entries": len(m.overlay.have.fdb),
		"addresses": len(m.overlay.have.allowed)} {
		if got != 1999 {
			t.Errorf("the kernel has %d %s", got, name)
		}
	}
}

// Docker's and ufw's policies, which drop what they do not know, keep tasks of other machines out for a moment only.
func TestMachinesWithFirewalls(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.join()
	a, b := r.machines[0].task("a"), r.machines[1].task("b")
	for _, m := range r.machines {
		m.do(func() {
			c, err := nftables.New()
			must(t, err)
			drop := nftables.ChainPolicyDrop
			table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
			for name, hook := range map[string]*nftables.ChainHook{"FORWARD": nftables.ChainHookForward, "INPUT": nftables.ChainHookInput} {
				c.AddChain(&nftables.Chain{Table: table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: &drop})
			}
			must(t, c.Flush())
		})
	}
	if _, err := fromTask(t, a, b.IPv4+":80", 1); err == nil {
		t.Error("the firewall drops nothing")
	}
	for until := time.Now().Add(20 * time.Second); ; {
		_, err := fromTask(t, a, b.IPv4+":80", 1)
		if err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("tasks of another machine are not reached through the firewall: %v", err)
		}
	}
	r.machines[0].do(func() {
		if _, err := ask(b.IPv4+":80", 1); err != nil {
			t.Errorf("the machine itself does not reach a task of another: %v", err)
		}
	})
}

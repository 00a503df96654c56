package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/network"
)

// rig is some machines on one switch: network namespaces. The test's thread is locked.
type rig struct {
	t        testing.TB
	home     netns.NsHandle
	machines []*machine
}

// machine is a namespace with a Network and an Overlay of its own.
type machine struct {
	r       *rig
	ns      netns.NsHandle
	id      string
	peer    model.Peer
	network *network.Network
	overlay *Overlay
}

func newRig(t testing.TB, count, mtu int) *rig {
	t.Helper()
	if os.Getenv("BERTH_INTEGRATION") != "1" || os.Getuid() != 0 {
		t.Skip("needs root and BERTH_INTEGRATION=1: its machines are network namespaces")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test's goroutine
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, home: home}
	t.Cleanup(func() { netns.Set(home); home.Close() })
	hub := r.namespace()
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkAttrs("switch", mtu)}))
	up(t, "switch", "")
	for i := range count {
		m := &machine{r: r, ns: r.namespace(), id: fmt.Sprintf("o%d%04x", i, rand.IntN(1<<16))}
		must(t, netns.Set(hub))
		port := fmt.Sprint("port", i)
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: linkAttrs(port, mtu), PeerName: "eth0", PeerNamespace: netlink.NsFd(int(m.ns)), PeerMTU: uint32(mtu)}))
		l, err := netlink.LinkByName(port)
		must(t, err)
		b, err := netlink.LinkByName("switch")
		must(t, err)
		must(t, errors.Join(netlink.LinkSetMaster(l, b), netlink.LinkSetUp(l)))
		m.peer = model.Peer{Node: m.id, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), MTU: mtu,
			Blocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(i), 0}), 26)}}
		m.do(func() {
			up(t, "lo", "")
			up(t, "eth0", m.peer.Address.String()+"/24")
			m.open()
		})
		t.Cleanup(func() {
			m.do(func() {
				must(t, errors.Join(m.network.Destroy(context.Background()), m.overlay.Close(), RemoveAll(m.id)))
				if l, err := netlink.LinkByName(deviceName(m.id)); err == nil {
					t.Errorf("%s is left", l.Attrs().Name)
				}
			})
		})
		r.machines = append(r.machines, m)
	}
	return r
}

func (r *rig) namespace() netns.NsHandle {
	r.t.Helper()
	ns, err := netns.New() // and enters it
	must(r.t, err)
	r.t.Cleanup(func() { ns.Close() })
	return ns
}

// open opens the machine's network and overlay, in its namespace.
func (m *machine) open() {
	t := m.r.t
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	n, err := network.Open(context.Background(), network.Config{ID: m.id, RunDir: t.TempDir(), StateDir: t.TempDir(), Blocks: m.peer.Blocks, Log: log})
	must(t, err)
	key, err := LoadKey(filepath.Join(t.TempDir(), "key"))
	must(t, err)
	m.peer.Key, err = PublicKey(key)
	must(t, err)
	o, err := Open(Config{ID: m.id, Gateway: n.Gateway(), Key: key, Log: log})
	must(t, err)
	m.network, m.overlay = n, o
}

// do runs f on the machine.
func (m *machine) do(f func()) {
	m.r.t.Helper()
	must(m.r.t, netns.Set(m.ns))
	f()
	must(m.r.t, netns.Set(m.r.home))
}

// level has the machine's overlay be what is wanted.
func (m *machine) level(all bool, peers ...model.Peer) {
	m.r.t.Helper()
	m.do(func() {
		m.overlay.Set(Wanted{Self: m.peer, Peers: peers})
		must(m.r.t, m.overlay.level(all))
	})
}

// join has all machines know each other.
func (r *rig) join() {
	r.t.Helper()
	var peers []model.Peer
	for _, m := range r.machines {
		peers = append(peers, m.peer)
	}
	for _, m := range r.machines {
		m.level(true, peers...)
	}
}

// encrypt has all machines know each other, by WireGuard.
func (r *rig) encrypt() {
	r.t.Helper()
	var peers []model.Peer
	for _, m := range r.machines {
		peers = append(peers, m.peer)
	}
	for _, m := range r.machines {
		m.do(func() {
			m.overlay.Set(Wanted{Self: m.peer, Peers: peers, Encrypt: true})
			must(r.t, m.overlay.level(true))
		})
	}
}

// task is one of the machine's, which answers on port 80 with the address that it sees.
func (m *machine) task(id string) agent.NetworkInfo {
	t := m.r.t
	t.Helper()
	var info agent.NetworkInfo
	var err error
	m.do(func() {
		info, err = m.network.Setup(context.Background(), agent.NetworkSpec{ID: id, TaskID: id, Mode: types.NetworkModeAwsvpc})
	})
	must(t, err)
	inside(t, info.NetnsPath, func() error { return serve(t, ":80") })
	return info
}

// serve answers each connection with the address that it comes from and a count of the bytes that it sent.
func serve(t testing.TB, address string) error {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				n, _ := io.Copy(io.Discard, c)
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintf(c, "%s %d", host, n)
			}()
		}
	}()
	return nil
}

// ask sends bytes to address from this thread's namespace and returns the answer.
func ask(address string, bytes int) (string, error) {
	c, err := net.DialTimeout("tcp4", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(make([]byte, bytes)); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	data, err := io.ReadAll(c)
	return string(data), err
}

// fromTask asks from a task.
func fromTask(t testing.TB, task agent.NetworkInfo, address string, bytes int) (answer string, err error) {
	t.Helper()
	inside(t, task.NetnsPath, func() error {
		answer, err = ask(address, bytes)
		return nil
	})
	return answer, err
}

// inside runs f on a thread in the namespace.
func inside(t testing.TB, path string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		ns, err := netns.GetFromPath(path)
		if err == nil {
			defer ns.Close()
			if err = netns.Set(ns); err == nil {
				err = f()
			}
		}
		done <- err
	}()
	must(t, <-done)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func linkAttrs(name string, mtu int) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU = name, mtu
	return a
}

func up(t testing.TB, name, address string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	if address != "" {
		a, err := netlink.ParseAddr(address)
		must(t, err)
		must(t, netlink.AddrAdd(l, a))
	}
	must(t, netlink.LinkSetUp(l))
}

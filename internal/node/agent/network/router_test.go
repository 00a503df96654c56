package network_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/network"
)

// dropTables deletes the tables of a name, of every family.
func dropTables(t *testing.T, name string) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyBridge} {
		c.DelTable(&nftables.Table{Name: name, Family: family})
		if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
	}
}

// machine is a namespace that stands for a machine with two cards, each leading to a neighbour's namespace. The test's thread is in
// it until the test ends.
func machine(t *testing.T) (left, right string) {
	t.Helper()
	if os.Getenv("BERTH_INTEGRATION") != "1" || os.Getuid() != 0 {
		t.Skip("needs root and BERTH_INTEGRATION=1")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test's goroutine
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		netns.Set(home)
		home.Close()
	})
	fresh := func() netns.NsHandle {
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		return ns
	}
	l, r, m := fresh(), fresh(), fresh()
	give := func(name, address, gateway string) {
		t.Helper()
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		addr, _ := netlink.ParseAddr(address)
		if err := errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link)); err != nil {
			t.Fatal(err)
		}
		if gateway != "" {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, side := range map[string]struct {
		ns   netns.NsHandle
		half string
	}{"left": {l, "192.0.2"}, "right": {r, "198.51.100"}} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(int(side.ns))}); err != nil {
			t.Fatal(err)
		}
		give(name, side.half+".1/24", "")
		netns.Set(side.ns)
		give("up0", side.half+".2/24", side.half+".1")
		netns.Set(m)
	}
	lo, _ := netlink.LinkByName("lo")
	netlink.LinkSetUp(lo)
	forward(t, "0")
	path := func(ns netns.NsHandle) string { return "/proc/self/fd/" + strconv.Itoa(int(ns)) }
	return path(l), path(r)
}

func forward(t *testing.T, value string) string {
	t.Helper()
	if value != "" {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

const routerMetadata = 51679

func openHere(t *testing.T) (*network.Network, network.Config) {
	t.Helper()
	c := network.Config{ID: "rtr" + strconv.Itoa(100+int(time.Now().UnixNano()%800)), RunDir: t.TempDir(), StateDir: t.TempDir(),
		MetadataPort: routerMetadata, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	n, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return n, c
}

// A machine that forwarded nothing forwards for tasks only, once Berth runs, and nothing again when Berth is gone.
func TestTheMachineDoesNotBecomeARouter(t *testing.T) {
	left, right := machine(t)
	serve(t, right, ":80")
	serve(t, left, ":80")
	n, _ := openHere(t)
	if got := forward(t, ""); got != "1" {
		t.Fatalf("ip_forward is %s", got)
	}
	if _, err := dialInside(t, left, "198.51.100.2:80"); err == nil {
		t.Error("a neighbour uses this machine as its router")
	}
	task := setup(t, n, agent.NetworkSpec{ID: "task", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80}}})
	serve(t, task.NetnsPath, ":80")
	if got, err := dialInside(t, task.NetnsPath, "198.51.100.2:80"); err != nil || !strings.Contains(got, "198.51.100.1:") {
		t.Errorf("a task does not reach a neighbour: %q %v", got, err)
	}
	if _, err := dialInside(t, left, "192.0.2.1:"+strconv.Itoa(int(task.Ports[0].HostPort))); err != nil {
		t.Errorf("a neighbour does not reach a published port: %v", err)
	}
	if _, err := dialInside(t, left, task.IPv4+":80"); err == nil {
		t.Error("a neighbour reaches a task by its address")
	}
	if err := n.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if got := forward(t, ""); got != "0" {
		t.Errorf("ip_forward is %s after Berth has gone, and was 0 before", got)
	}
}

// A machine that is a router stays one.
func TestARouterStaysOne(t *testing.T) {
	left, right := machine(t)
	serve(t, right, ":80")
	forward(t, "1")
	n, _ := openHere(t)
	if _, err := dialInside(t, left, "198.51.100.2:80"); err != nil {
		t.Errorf("the machine was a router and is none: %v", err)
	}
	if err := n.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if got := forward(t, ""); got != "1" {
		t.Errorf("ip_forward is %s after Berth has gone, and was 1 before", got)
	}
}

// Docker comes after Berth: its bridge forwards, and Berth leaves forwarding on for it.
func TestAnotherProgramsBridgeMayForward(t *testing.T) {
	left, right := machine(t)
	serve(t, right, ":80")
	n, _ := openHere(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "docker0"
	docker := &netlink.Bridge{LinkAttrs: attrs}
	if err := errors.Join(netlink.LinkAdd(docker), netlink.LinkSetUp(docker)); err != nil {
		t.Fatal(err)
	}
	addr, _ := netlink.ParseAddr("172.17.0.1/16")
	if err := netlink.AddrAdd(docker, addr); err != nil {
		t.Fatal(err)
	}
	inner, err := netns.GetFromPath(left) // the neighbour becomes a container
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	cattrs := netlink.NewLinkAttrs()
	cattrs.Name, cattrs.MasterIndex = "vethdocker", docker.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: cattrs, PeerName: "eth9", PeerNamespace: netlink.NsFd(int(inner))}
	if err := errors.Join(netlink.LinkAdd(veth), netlink.LinkSetUp(veth)); err != nil {
		t.Fatal(err)
	}
	back := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(172, 17, 0, 0).To4(), Mask: net.CIDRMask(16, 32)}, Gw: net.ParseIP("198.51.100.1")}
	inside(t, right, func() error { return netlink.RouteAdd(back) }) // no masquerading here
	inside(t, left, func() error {
		eth9, err := netlink.LinkByName("eth9")
		if err != nil {
			return err
		}
		a, _ := netlink.ParseAddr("172.17.0.2/16")
		to := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(198, 51, 100, 0).To4(), Mask: net.CIDRMask(24, 32)}, Gw: net.ParseIP("172.17.0.1")}
		return errors.Join(netlink.AddrAdd(eth9, a), netlink.LinkSetUp(eth9), netlink.RouteAdd(to))
	})
	if _, err := dialInside(t, left, "198.51.100.2:80"); err != nil {
		t.Errorf("a container of Docker does not reach the network: %v", err)
	}
	if err := n.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if got := forward(t, ""); got != "1" {
		t.Errorf("ip_forward is %s, and Docker needs it", got)
	}
}

// A firewall that starts after Berth, and one that starts anew, lets tasks through within seconds.
func TestAFirewallThatComesLater(t *testing.T) {
	for name, make := range map[string]func(*nftables.Conn){
		"Docker or ufw": func(c *nftables.Conn) {
			drop := nftables.ChainPolicyDrop
			table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
			c.AddChain(&nftables.Chain{Table: table, Name: "FORWARD", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
				Priority: nftables.ChainPriorityFilter, Policy: &drop})
			c.AddChain(&nftables.Chain{Table: table, Name: "INPUT", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput,
				Priority: nftables.ChainPriorityFilter, Policy: &drop})
		},
		"firewalld": func(c *nftables.Conn) {
			drop := nftables.ChainPolicyDrop
			table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "firewalld"})
			c.AddChain(&nftables.Chain{Table: table, Name: "filter_FORWARD", Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(10), Policy: &drop})
			c.AddChain(&nftables.Chain{Table: table, Name: "filter_INPUT", Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityRef(10), Policy: &drop})
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, right := machine(t)
			serve(t, right, ":80")
			n, _ := openHere(t)
			serve(t, fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), n.Gateway().String()+":"+strconv.Itoa(routerMetadata))
			if l, err := net.Listen("tcp4", n.Gateway().String()+":8099"); err == nil { // of this machine, for others
				t.Cleanup(func() { l.Close() })
			}
			task := setup(t, n, agent.NetworkSpec{ID: "task", Mode: types.NetworkModeAwsvpc})
			c, err := nftables.New()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // it starts, and is reloaded
				c.FlushRuleset()
				make(c)
				if err := c.Flush(); err != nil {
					t.Fatal(err)
				}
				for until := time.Now().Add(15 * time.Second); ; {
					_, err = dialInside(t, task.NetnsPath, "198.51.100.2:80")
					if _, merr := dialInside(t, task.NetnsPath, "169.254.170.2:80"); err == nil && merr == nil {
						break
					} else if err == nil {
						err = fmt.Errorf("metadata: %w", merr)
					}
					if time.Now().After(until) {
						t.Fatalf("tasks do not reach the network any more: %v", err)
					}
				}
			}
			if _, err := dialInside(t, task.NetnsPath, n.Gateway().String()+":8099"); err == nil {
				t.Error("a task reaches what the firewall keeps for others")
			}
			if err := n.Destroy(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

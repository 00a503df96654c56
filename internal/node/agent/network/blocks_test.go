package network_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/network"
)

// An instance whose addresses were of a subnet of its own keeps what its tasks use of that, and they notice nothing; so does the next
// process, and the bridge leads nowhere else.
func TestASubnetBecomesBlocks(t *testing.T) {
	n, c := open(t, 0)
	a := setup(t, n, agent.NetworkSpec{ID: "a", TaskID: "a", Mode: types.NetworkModeAwsvpc})
	b := setup(t, n, agent.NetworkSpec{ID: "b", TaskID: "b", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80}}})
	for _, info := range []agent.NetworkInfo{a, b} {
		serve(t, info.NetnsPath, ":80")
	}
	check := func(n *network.Network) {
		t.Helper()
		for _, info := range []agent.NetworkInfo{a, b} {
			if _, err := get("http://" + info.IPv4 + "/"); err != nil {
				t.Errorf("from the machine: %v", err)
			}
		}
		if got, err := dialInside(t, a.NetnsPath, b.IPv4+":80"); err != nil || !strings.Contains(got, a.IPv4) {
			t.Errorf("from task to task: %q %v", got, err)
		}
		if _, err := get(fmt.Sprintf("http://127.0.0.1:%d/", b.Ports[0].HostPort)); err != nil {
			t.Errorf("to the published port: %v", err)
		}
		if got := setup(t, n, agent.NetworkSpec{ID: "a", TaskID: "a", Mode: types.NetworkModeAwsvpc}); got.IPv4 != a.IPv4 || got.Gateway != a.Gateway {
			t.Errorf("it is %+v now, was %+v", got, a)
		}
	}
	first := netip.PrefixFrom(n.Gateway(), 26).Masked()
	says := n.Addresses()
	if len(says.Has) != 1 || says.Has[0].Block != first || says.Has[0].Used != 2 {
		t.Fatalf("it claims %+v", says)
	}
	at := n.Subnet().Addr().As4()
	at[2] += 2
	next := netip.PrefixFrom(netip.AddrFrom4(at), 26)
	if err := n.SetBlocks([]netip.Prefix{first, next}, nil); err != nil {
		t.Fatal(err)
	}
	check(n)
	bridge, err := netlink.LinkByName(network.BridgeName(c.ID))
	if err != nil {
		t.Fatal(err)
	}
	addrs, _ := netlink.AddrList(bridge, netlink.FAMILY_V4)
	routes, _ := netlink.RouteList(bridge, netlink.FAMILY_V4)
	if len(addrs) != 1 || addrs[0].IPNet.String() != netip.PrefixFrom(n.Gateway(), 26).String() || len(routes) != 2 {
		t.Errorf("the bridge has the addresses %v and the routes %v", addrs, routes)
	}
	// The next block's addresses are given when those of the first are taken, and work as they do.
	var last agent.NetworkInfo
	for i := range 60 {
		last = setup(t, n, agent.NetworkSpec{ID: fmt.Sprint("t", i), Mode: types.NetworkModeAwsvpc})
	}
	if !next.Contains(netip.MustParseAddr(last.IPv4)) {
		t.Errorf("the last of 62 addresses is %s", last.IPv4)
	}
	serve(t, last.NetnsPath, ":80")
	if got, err := dialInside(t, a.NetnsPath, last.IPv4+":80"); err != nil || !strings.Contains(got, a.IPv4) {
		t.Errorf("from block to block: %q %v", got, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	check(m)
	if says := m.Addresses(); len(says.Has) != 2 || says.Has[0].Block != first || says.Has[0].Used+says.Has[1].Used != 62 {
		t.Errorf("after a restart it says %+v", says.Has)
	}
	for i := range 60 {
		if err := m.Teardown(context.Background(), fmt.Sprint("t", i)); err != nil {
			t.Fatal(err)
		}
	}
}

// The first block of a node of a fleet is the servers'.
func TestBlocksThatWereGivenFirst(t *testing.T) {
	n, c := open(t, 0)
	if err := n.Destroy(context.Background()); err != nil {
		t.Fatal(err)
	}
	c.StateDir, c.Blocks = t.TempDir(), []netip.Prefix{netip.MustParsePrefix("10.201.7.64/26")}
	if network.Remembered(c.StateDir) {
		t.Error("a new node remembers blocks")
	}
	taken, err := network.Taken(c)
	if err != nil || len(taken) == 0 {
		t.Errorf("the machine reaches %v (%v)", taken, err)
	}
	m, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Destroy(context.Background()) })
	if !network.Remembered(c.StateDir) || m.Gateway().String() != "10.201.7.65" {
		t.Errorf("its gateway is %s", m.Gateway())
	}
	if info := setup(t, m, agent.NetworkSpec{ID: "a", Mode: types.NetworkModeAwsvpc}); info.IPv4 != "10.201.7.68" {
		t.Errorf("its first task has %s", info.IPv4)
	}
}

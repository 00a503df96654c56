package network_test

import (
	"net"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/berthdev/berth/internal/node/agent"
)

// What a task sends beyond this machine carries the machine's address: "outside" is a namespace behind a link of its own, which has
// no route to the tasks' subnet.
func TestOutboundIsMasqueraded(t *testing.T) {
	n, c := open(t, 0)
	outside := setup(t, n, agent.NetworkSpec{ID: "outside", Mode: types.NetworkModeNone})
	ns, err := netns.GetFromPath(outside.NetnsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "o" + c.ID
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(int(ns))}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	give := func(name, address string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}
	if err := give(attrs.Name, "198.51.100.1/24"); err != nil {
		t.Fatal(err)
	}
	inside(t, outside.NetnsPath, func() error { return give("up0", "198.51.100.2/24") })
	serve(t, outside.NetnsPath, "198.51.100.2:80")
	task := setup(t, n, agent.NetworkSpec{ID: "task", Mode: types.NetworkModeAwsvpc})
	got, err := dialInside(t, task.NetnsPath, net.JoinHostPort("198.51.100.2", "80"))
	if err != nil || !strings.Contains(got, "198.51.100.1:") {
		t.Errorf("%q %v; want an answer to the machine's address", got, err)
	}
}

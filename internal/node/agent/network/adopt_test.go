package network_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/network"
)

// Tasks that an earlier version connected to the bridge stay connected, to the machine and to each other.
func TestTasksOfTheBridgeAreAdopted(t *testing.T) {
	n, c := open(t, 0)
	bits := n.Subnet().Bits()
	var infos []agent.NetworkInfo
	specs := []agent.NetworkSpec{{ID: "a", TaskID: "a", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80}}},
		{ID: "b", TaskID: "b", Mode: types.NetworkModeAwsvpc}}
	for _, spec := range specs {
		info := setup(t, n, spec)
		infos = append(infos, info)
		serve(t, info.NetnsPath, ":80")
	}
	fresh := setup(t, n, agent.NetworkSpec{ID: "c", TaskID: "c", Mode: types.NetworkModeAwsvpc})
	serve(t, fresh.NetnsPath, ":80")
	gateway := net.IP(n.Gateway().AsSlice())
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	bridge, err := netlink.LinkByName(network.BridgeName(c.ID))
	if err != nil {
		t.Fatal(err)
	}
	for i, info := range infos { // as it was
		ip := net.ParseIP(info.IPv4).To4()
		l, err := netlink.LinkByName(network.DevicePrefix(c.ID) + hex.EncodeToString(ip[1:]))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(specs[i].ID))
		random, _ := net.ParseMAC("02:00:00:00:00:0" + fmt.Sprint(i))
		err = errors.Join(netlink.LinkSetDown(l), netlink.LinkSetName(l, ("v" + c.ID + hex.EncodeToString(sum[:]))[:15]),
			netlink.LinkSetHardwareAddr(l, random), netlink.LinkSetMaster(l, bridge), netlink.LinkSetUp(l))
		if err != nil {
			t.Fatal(err)
		}
		inside(t, info.NetnsPath, func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			addr := func(ones int) *netlink.Addr {
				return &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(ones, 32)}}
			}
			err = errors.Join(netlink.LinkSetDown(eth0), netlink.AddrDel(eth0, addr(32)), netlink.AddrAdd(eth0, addr(bits)), netlink.LinkSetUp(eth0))
			return errors.Join(err, netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway}))
		})
	}
	m, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i, spec := range specs {
		if got := setup(t, m, spec); got.IPv4 != infos[i].IPv4 {
			t.Errorf("%s has %s, had %s", spec.ID, got.IPv4, infos[i].IPv4)
		}
		if _, err := get("http://" + infos[i].IPv4 + "/"); err != nil {
			t.Errorf("from the machine to %s: %v", spec.ID, err)
		}
	}
	for _, way := range [][2]agent.NetworkInfo{{infos[0], infos[1]}, {infos[1], infos[0]}, {infos[0], fresh}, {fresh, infos[1]}} {
		if _, err := dialInside(t, way[0].NetnsPath, way[1].IPv4+":80"); err != nil {
			t.Errorf("from %s to %s: %v", way[0].IPv4, way[1].IPv4, err)
		}
	}
	if _, err := get(fmt.Sprintf("http://127.0.0.1:%d/", infos[0].Ports[0].HostPort)); err != nil {
		t.Errorf("to the published port: %v", err)
	}
}

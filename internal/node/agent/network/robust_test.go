package network_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/network"
)

func TestManyAtOnce(t *testing.T) {
	n, c := open(t, 0)
	var wg sync.WaitGroup
	var mu sync.Mutex
	addrs := map[string]string{}
	for i := range 24 {
		for range 2 { // each asked for twice at the same time
			wg.Go(func() {
				id := fmt.Sprintf("t%d", i)
				info, err := n.Setup(context.Background(), agent.NetworkSpec{ID: id, TaskID: "task" + id, Mode: types.NetworkModeBridge,
					Ports: []agent.PortMapping{{ContainerPort: 80}}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if other, ok := addrs[info.IPv4]; ok && other != id {
					t.Errorf("%s and %s both have %s", id, other, info.IPv4)
				}
				addrs[info.IPv4] = id
			})
		}
	}
	wg.Wait()
	if len(addrs) != 24 {
		t.Errorf("%d addresses for 24 networks", len(addrs))
	}
	for a, want := range addrs {
		if id, task, ok := n.ByAddr(netip.MustParseAddr(a)); !ok || id != want || task != "task"+want {
			t.Errorf("%s belongs to %s of %s (%v), want %s", a, id, task, ok, want)
		}
	}
	for i := range 24 {
		wg.Go(func() {
			if err := n.Teardown(context.Background(), fmt.Sprintf("t%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := links(c.ID); len(got) != 1 {
		t.Errorf("links after teardown: %v, want the bridge alone", got)
	}
}

func TestAPublishedPortIsTaken(t *testing.T) {
	n, _ := open(t, 0)
	info := setup(t, n, agent.NetworkSpec{ID: "a", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80}}})
	address := fmt.Sprintf("0.0.0.0:%d", info.Ports[0].HostPort)
	if l, err := net.Listen("tcp4", address); err == nil {
		l.Close()
		t.Fatal("another program could listen on a published port")
	}
	if err := n.Teardown(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatalf("the port is not free after teardown: %v", err)
	}
	defer l.Close()
	_, err = n.Setup(context.Background(), agent.NetworkSpec{ID: "b", Mode: types.NetworkModeBridge,
		Ports: []agent.PortMapping{{ContainerPort: 80, HostPort: info.Ports[0].HostPort}}})
	if err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("publishing a port of another program: %v", err)
	}
	if ids, _ := n.List(context.Background()); len(ids) != 0 {
		t.Errorf("a failed Setup left %v", ids)
	}
}

func TestUDPIsPublished(t *testing.T) {
	n, _ := open(t, 0)
	info := setup(t, n, agent.NetworkSpec{ID: "u", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 53,
		Protocol: "udp"}}})
	inside(t, info.NetnsPath, func() error {
		conn, err := net.ListenPacket("udp4", ":53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			buf := make([]byte, 64)
			for {
				k, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				conn.WriteTo(buf[:k], from)
			}
		}()
		return nil
	})
	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", info.Ports[0].HostPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(3 * time.Second))
	fmt.Fprint(conn, "hello")
	buf := make([]byte, 64)
	if k, err := conn.Read(buf); err != nil || string(buf[:k]) != "hello" {
		t.Errorf("answer %q, %v", buf[:k], err)
	}
}

// A new process finds the bridge and the table gone, as after another program's "flush ruleset", and repairs both.
func TestRepair(t *testing.T) {
	n, c := open(t, 0)
	spec := agent.NetworkSpec{ID: "a", TaskID: "t", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80}}}
	info := setup(t, n, spec)
	serve(t, info.NetnsPath, ":80")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	bridge, err := netlink.LinkByName(network.BridgeName(c.ID))
	if err == nil {
		err = netlink.LinkDel(bridge)
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	again := setup(t, m, spec)
	if again.IPv4 != info.IPv4 || again.Ports[0] != info.Ports[0] {
		t.Errorf("repaired to %+v, was %+v", again, info)
	}
	if _, err := get(fmt.Sprintf("http://127.0.0.1:%d/", info.Ports[0].HostPort)); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

func TestInstancesSideBySide(t *testing.T) {
	a, _ := open(t, 0)
	b, _ := open(t, 0)
	if a.Subnet().Overlaps(b.Subnet()) {
		t.Fatalf("subnets %s and %s overlap", a.Subnet(), b.Subnet())
	}
	infoA := setup(t, a, agent.NetworkSpec{ID: "x", Mode: types.NetworkModeAwsvpc})
	infoB := setup(t, b, agent.NetworkSpec{ID: "x", Mode: types.NetworkModeAwsvpc})
	serve(t, infoA.NetnsPath, ":80")
	serve(t, infoB.NetnsPath, ":80")
	if err := a.Destroy(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := get("http://" + infoB.IPv4 + "/"); err != nil {
		t.Errorf("after the other instance is gone: %v", err)
	}
}

func TestWhatSetupRefuses(t *testing.T) {
	n, _ := open(t, 0)
	for name, spec := range map[string]agent.NetworkSpec{
		"a path":          {ID: "../x", Mode: types.NetworkModeAwsvpc},
		"no id":           {Mode: types.NetworkModeAwsvpc},
		"host mode":       {ID: "a", Mode: types.NetworkModeHost},
		"ports in awsvpc": {ID: "a", Mode: types.NetworkModeAwsvpc, Ports: []agent.PortMapping{{ContainerPort: 80}}},
		"port 0":          {ID: "a", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{}}},
		"a protocol":      {ID: "a", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 1, Protocol: "sctp"}}},
		"a port twice": {ID: "a", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 1,
			HostPort: 50001}, {ContainerPort: 2, HostPort: 50001}}},
		"a high host port": {ID: "a", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 1, HostPort: 70000}}},
	} {
		if info, err := n.Setup(context.Background(), spec); err == nil {
			t.Errorf("%s was set up: %+v", name, info)
		}
	}
	if ids, _ := n.List(context.Background()); len(ids) != 0 {
		t.Errorf("left over: %v", ids)
	}
}

package network_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
)

// announce sends an ARP answer from eth0 of the namespace that says: ip is at mac.
func announce(t *testing.T, path, ip string, mac net.HardwareAddr) {
	t.Helper()
	inside(t, path, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		own := eth0.Attrs().HardwareAddr
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		addr := net.ParseIP(ip).To4()
		all := net.HardwareAddr{255, 255, 255, 255, 255, 255}
		for op := byte(1); op <= 2; op++ { // as a question and as an answer
			frame := append(append(append([]byte(nil), all...), own...), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, op)
			frame = append(append(append(append(frame, mac...), addr...), all...), addr...)
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Attrs().Index, Halen: 6}); err != nil {
				return err
			}
		}
		return nil
	})
}

// A task that claims another one's address, by ARP, by taking the address, or by taking the hardware address as well, gets none of
// its traffic, and is not taken for it.
func TestATaskCannotTakeAnothersAddress(t *testing.T) {
	n, _ := open(t, 0)
	victim := setup(t, n, agent.NetworkSpec{ID: "victim", TaskID: "victim", Mode: types.NetworkModeAwsvpc})
	thief := setup(t, n, agent.NetworkSpec{ID: "thief", TaskID: "thief", Mode: types.NetworkModeAwsvpc})
	serve(t, victim.NetnsPath, ":80")
	serve(t, thief.NetnsPath, ":80")
	asked, err := net.Listen("tcp4", n.Gateway().String()+":0") // as the metadata server does, it tells tasks by their addresses
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	callers := make(chan string, 16)
	go func() {
		for {
			c, err := asked.Accept()
			if err != nil {
				return
			}
			callers <- c.RemoteAddr().String()
			c.Close()
		}
	}()
	check := func(how string) {
		t.Helper()
		inside(t, thief.NetnsPath, func() error { // what the thief sends from the victim's address
			d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(victim.IPv4)}}
			if c, err := d.Dial("tcp4", asked.Addr().String()); err == nil {
				c.Close()
				t.Errorf("%s: the thief spoke to the machine as %s", how, <-callers)
			}
			return nil
		})
		if _, err := dialInside(t, victim.NetnsPath, asked.Addr().String()); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: the victim lost its connection: %v", how, err)
		}
		select {
		case from := <-callers:
			if !strings.HasPrefix(from, victim.IPv4+":") {
				t.Errorf("%s: the machine was asked by %s", how, from)
			}
		case <-time.After(3 * time.Second):
			t.Errorf("%s: the victim does not reach the machine", how)
		}
		if _, err := get("http://" + victim.IPv4 + "/"); err != nil {
			t.Errorf("%s: the machine does not reach the victim: %v", how, err)
		}
	}
	announce(t, thief.NetnsPath, victim.IPv4, hardware(t, thief.NetnsPath))
	check("by ARP")
	inside(t, thief.NetnsPath, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(eth0, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(victim.IPv4), Mask: net.CIDRMask(32, 32)}})
	})
	check("with its address")
	inside(t, thief.NetnsPath, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		mac, err := net.ParseMAC(victim.MAC)
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(eth0, mac)
	})
	check("with its address and its hardware address")
}

func hardware(t *testing.T, path string) (mac net.HardwareAddr) {
	t.Helper()
	inside(t, path, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err == nil {
			mac = eth0.Attrs().HardwareAddr
		}
		return err
	})
	return mac
}

// Nothing that a task sends with IPv6, or to all devices of the bridge, reaches the machine or another task.
func TestTasksShareNoLink(t *testing.T) {
	n, c := open(t, 0)
	a := setup(t, n, agent.NetworkSpec{ID: "a", TaskID: "a", Mode: types.NetworkModeAwsvpc})
	b := setup(t, n, agent.NetworkSpec{ID: "b", TaskID: "b", Mode: types.NetworkModeAwsvpc})
	heard := make(chan string, 16)
	inside(t, b.NetnsPath, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(uint16(unix.ETH_P_ALL)<<8))
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
			return err
		}
		go func() {
			defer close(heard)
			buf := make([]byte, 2048)
			for {
				k, _, err := unix.Recvfrom(fd, buf, 0)
				if err != nil {
					return
				}
				if k >= 12 && strings.HasPrefix(net.HardwareAddr(buf[6:12]).String(), a.MAC[:8]) {
					heard <- fmt.Sprintf("%x", buf[:min(k, 42)])
				}
			}
		}()
		return nil
	})
	announce(t, a.NetnsPath, a.IPv4, hardware(t, a.NetnsPath))
	for packet := range heard {
		if strings.Contains(packet, strings.ReplaceAll(a.MAC, ":", "")) {
			t.Errorf("a task hears another one's broadcast: %s", packet)
		}
	}
	for _, device := range links(c.ID) {
		data, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + device + "/disable_ipv6")
		if err == nil && strings.TrimSpace(string(data)) != "1" {
			t.Errorf("%s speaks IPv6, which no rule of ours filters", device)
		}
	}
}

// Another program takes every rule away, as `nft flush ruleset` does: they come back by themselves.
func TestRulesComeBack(t *testing.T) {
	n, c := open(t, 0)
	info := setup(t, n, agent.NetworkSpec{ID: "a", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80}}})
	serve(t, info.NetnsPath, ":80")
	dropTables(t, "berth-"+c.ID)
	address := fmt.Sprintf("http://127.0.0.1:%d/", info.Ports[0].HostPort)
	if _, err := get(address); err == nil {
		t.Fatal("the port answers without rules")
	}
	for until := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := get(address); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the port does not answer again")
		}
	}
	if id, _, ok := n.ByAddr(netip.MustParseAddr(info.IPv4)); !ok || id != "a" {
		t.Errorf("the address belongs to %q", id)
	}
	if err := n.Teardown(context.Background(), "a"); err != nil {
		t.Error(err)
	}
}

package network_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/network"
)

// open makes a network that is gone when the test ends.
func open(t testing.TB, metadata uint16) (*network.Network, network.Config) {
	t.Helper()
	if os.Getenv("BERTH_INTEGRATION") != "1" || os.Getuid() != 0 {
		t.Skip("needs root and BERTH_INTEGRATION=1: it makes a bridge, namespaces and an nftables table")
	}
	c := network.Config{ID: fmt.Sprintf("e%05x", rand.IntN(1<<20)), RunDir: t.TempDir(), StateDir: t.TempDir(),
		MetadataPort: metadata, Log: slog.New(slog.DiscardHandler)}
	n, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
		if left := links(c.ID); len(left) > 0 {
			t.Errorf("links left: %v", left)
		}
	})
	return n, c
}

func links(id string) (names []string) {
	all, _ := netlink.LinkList()
	for _, l := range all {
		if strings.Contains(l.Attrs().Name, id) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

func setup(t testing.TB, n *network.Network, spec agent.NetworkSpec) agent.NetworkInfo {
	t.Helper()
	info, err := n.Setup(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return info
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
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// serve answers in the namespace on an address with the client's address.
func serve(t testing.TB, path, address string) {
	t.Helper()
	inside(t, path, func() error {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
		return nil
	})
}

func get(url string) (string, error) {
	c := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// dialInside makes one request from the namespace. The connection is made on the namespace's thread.
func dialInside(t testing.TB, path, address string) (string, error) {
	t.Helper()
	var answer string
	var failed error
	inside(t, path, func() error {
		conn, err := net.DialTimeout("tcp4", address, 2*time.Second)
		if err != nil {
			failed = err
			return nil
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(3 * time.Second))
		fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: x\r\n\r\n")
		data, err := io.ReadAll(conn)
		answer, failed = string(data), err
		return nil
	})
	return answer, failed
}

func TestTwoTasksOnPort80(t *testing.T) {
	n, _ := open(t, 0)
	a := setup(t, n, agent.NetworkSpec{ID: "a", TaskID: "a", Mode: types.NetworkModeAwsvpc})
	b := setup(t, n, agent.NetworkSpec{ID: "b", TaskID: "b", Mode: types.NetworkModeAwsvpc})
	serve(t, a.NetnsPath, ":80")
	serve(t, b.NetnsPath, ":80")
	for _, ip := range []string{a.IPv4, b.IPv4} {
		if _, err := get("http://" + ip + "/"); err != nil {
			t.Errorf("from the machine: %v", err)
		}
	}
	if got, err := dialInside(t, a.NetnsPath, b.IPv4+":80"); err != nil || !strings.Contains(got, a.IPv4) {
		t.Errorf("from task to task: %q %v", got, err)
	}
	again := setup(t, n, agent.NetworkSpec{ID: "a", TaskID: "a", Mode: types.NetworkModeAwsvpc})
	if again.IPv4 != a.IPv4 || again.MAC != a.MAC {
		t.Errorf("setting up again: %+v, was %+v", again, a)
	}
}

func TestPublishedPorts(t *testing.T) {
	n, c := open(t, 0)
	spec := agent.NetworkSpec{ID: "c", TaskID: "t", Mode: types.NetworkModeBridge,
		Ports: []agent.PortMapping{{ContainerPort: 80, Protocol: "tcp"}}}
	info := setup(t, n, spec)
	other := setup(t, n, agent.NetworkSpec{ID: "o", TaskID: "o", Mode: types.NetworkModeBridge})
	serve(t, info.NetnsPath, ":80")
	serve(t, other.NetnsPath, ":80")
	port := info.Ports[0].HostPort
	if port < 49153 {
		t.Errorf("dynamic host port %d", port)
	}
	for _, host := range []string{"127.0.0.1", n.Gateway().String()} {
		if _, err := get(fmt.Sprintf("http://%s:%d/", host, port)); err != nil {
			t.Errorf("from the machine to %s: %v", host, err)
		}
	}
	if _, err := dialInside(t, other.NetnsPath, fmt.Sprintf("%s:%d", n.Gateway(), port)); err != nil {
		t.Errorf("from another container: %v", err)
	}
	if _, err := dialInside(t, info.NetnsPath, fmt.Sprintf("%s:%d", n.Gateway(), port)); err != nil {
		t.Errorf("from the container itself: %v", err)
	}
	if _, err := n.Setup(context.Background(), agent.NetworkSpec{ID: "d", Mode: types.NetworkModeBridge,
		Ports: []agent.PortMapping{{ContainerPort: 80, HostPort: port, Protocol: "tcp"}}}); err == nil ||
		!strings.Contains(err.Error(), "in use") {
		t.Errorf("the same port again: %v", err)
	}
	// A new process takes over what is there.
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := get(fmt.Sprintf("http://127.0.0.1:%d/", port)); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if got := setup(t, m, spec); got.IPv4 != info.IPv4 || got.Ports[0].HostPort != port {
		t.Errorf("after a restart: %+v, was %+v", got, info)
	}
	if err := m.Teardown(context.Background(), "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := get(fmt.Sprintf("http://127.0.0.1:%d/", port)); err == nil {
		t.Error("the port answers after the container is gone")
	}
	if err := m.Teardown(context.Background(), "c"); err != nil {
		t.Errorf("a second teardown: %v", err)
	}
	if ids, _ := m.List(context.Background()); len(ids) != 1 || ids[0] != "o" {
		t.Errorf("list: %v", ids)
	}
}

func TestMetadataAddressLeadsHome(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })}
	go srv.Serve(l)
	defer srv.Close()
	n, _ := open(t, uint16(l.Addr().(*net.TCPAddr).Port))
	for _, mode := range []types.NetworkMode{types.NetworkModeAwsvpc, types.NetworkModeBridge} {
		info := setup(t, n, agent.NetworkSpec{ID: string(mode), TaskID: "t", Mode: mode})
		if got, err := dialInside(t, info.NetnsPath, "169.254.170.2:80"); err != nil || !strings.Contains(got, info.IPv4) {
			t.Errorf("%s: %q %v; want an answer that names %s", mode, got, err, info.IPv4)
		}
	}
}

func TestTasksDoNotReachTheMachinesLoopback(t *testing.T) {
	n, _ := open(t, 0)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info := setup(t, n, agent.NetworkSpec{ID: "a", Mode: types.NetworkModeAwsvpc})
	inside(t, info.NetnsPath, func() error { // its own loopback is out of the way
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(lo)
	})
	if _, err := dialInside(t, info.NetnsPath, l.Addr().String()); err == nil {
		t.Error("a task reached 127.0.0.1 of the machine")
	}
	none := setup(t, n, agent.NetworkSpec{ID: "n", Mode: types.NetworkModeNone})
	if none.IPv4 != "" {
		t.Errorf("mode none has the address %s", none.IPv4)
	}
	if _, err := dialInside(t, none.NetnsPath, n.Gateway().String()+":80"); err == nil {
		t.Error("a task without a network reached the machine")
	}
}

func TestCyclesLeaveNothing(t *testing.T) {
	n, c := open(t, 0)
	before := len(links(c.ID))
	seen := map[string]bool{}
	for i := range 60 {
		id := fmt.Sprintf("t%d", i)
		info := setup(t, n, agent.NetworkSpec{ID: id, Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80}}})
		if seen[info.IPv4] {
			t.Errorf("%s is given again at once", info.IPv4)
		}
		seen[info.IPv4] = true
		if err := n.Teardown(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	}
	if after := len(links(c.ID)); after != before {
		t.Errorf("%d links, then %d", before, after)
	}
	if left, _ := os.ReadDir(c.RunDir + "/netns"); len(left) > 0 {
		t.Errorf("%d namespaces left", len(left))
	}
}

func BenchmarkSetup(b *testing.B) {
	n, _ := open(b, 0)
	i := 0
	for b.Loop() {
		i++
		id := fmt.Sprintf("t%d", i)
		setup(b, n, agent.NetworkSpec{ID: id, Mode: types.NetworkModeAwsvpc})
		b.StopTimer()
		n.Teardown(context.Background(), id)
		b.StartTimer()
	}
}

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
)

// caller asks one address again and again, strictly: what net/http's client would quietly try again is a failure.
type caller struct {
	address   string // host:port
	keepAlive bool

	mu       sync.Mutex
	answers  []time.Time
	slowest  time.Duration
	failures []failure
}

type failure struct {
	dialled time.Time // zero: the connection was refused
	at      time.Time
	err     error
}

// run asks until ctx is done.
func (c *caller) run(ctx context.Context) {
	var conn net.Conn
	var r *bufio.Reader
	var dialled time.Time
	for ctx.Err() == nil {
		began := time.Now()
		if conn == nil {
			var err error
			if conn, err = net.DialTimeout("tcp", c.address, 10*time.Second); err != nil {
				c.note(began, failure{at: time.Now(), err: err})
				time.Sleep(2 * time.Millisecond)
				conn = nil
				continue
			}
			r, dialled = bufio.NewReader(conn), time.Now()
		}
		closing, err := c.ask(conn, r)
		if err != nil {
			c.note(began, failure{dialled: dialled, at: time.Now(), err: err})
		} else {
			c.note(began, failure{})
		}
		if err != nil || closing || !c.keepAlive {
			conn.Close()
			conn = nil
		}
		time.Sleep(time.Millisecond)
	}
	if conn != nil {
		conn.Close()
	}
}

func (c *caller) ask(conn net.Conn, r *bufio.Reader) (closing bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"); err != nil {
		return false, err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return false, err
	}
	if res.StatusCode != 200 {
		return res.Close, fmt.Errorf("status %s", res.Status)
	}
	return res.Close, nil
}

func (c *caller) note(began time.Time, f failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.err != nil {
		c.failures = append(c.failures, f)
		return
	}
	now := time.Now()
	c.answers = append(c.answers, now)
	c.slowest = max(c.slowest, now.Sub(began))
}

// traffic is keep-alive and one-shot callers at once.
type traffic struct {
	kinds map[string]*caller
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func startTraffic(address string) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	host := strings.TrimPrefix(address, "http://")
	tr := &traffic{stop: cancel, kinds: map[string]*caller{"keep-alive": {address: host, keepAlive: true}, "one-shot": {address: host}}}
	for _, c := range tr.kinds {
		for range 4 {
			tr.done.Go(func() { c.run(ctx) })
		}
	}
	return tr
}

// end stops the traffic and says what it saw.
func (tr *traffic) end(t *testing.T, what string) (failures []failure) {
	t.Helper()
	tr.stop()
	tr.done.Wait()
	for kind, c := range tr.kinds {
		var gap time.Duration
		for i := 1; i < len(c.answers); i++ {
			gap = max(gap, c.answers[i].Sub(c.answers[i-1]))
		}
		t.Logf("%s, %s: %d answers, %d failures, largest gap %s, slowest answer %s", what, kind, len(c.answers), len(c.failures),
			gap.Round(time.Millisecond), c.slowest.Round(time.Millisecond))
		if len(c.answers) < 100 {
			t.Errorf("%s, %s: only %d answers", what, kind, len(c.answers))
		}
		failures = append(failures, c.failures...)
	}
	return failures
}

// proxyPID is this Berth's `berth proxy` that serves.
func (b *berth) proxyPIDs() []int { return processes(" proxy --config", b.instanceID()) }

// shop is a service of two tasks behind a load balancer, and its name there.
func (b *berth) shop() (address, name string) {
	b.t.Helper()
	b.importImage("app:1")
	def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}})
	address = b.balanced(def, 2)
	b.stable("web")
	out, err := elb.NewFromConfig(b.config()).DescribeLoadBalancers(context.Background(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.eventually(10*time.Second, "the load balancer answers", func() error {
		status, _, _, err := get(address + "/")
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	return address, *out.LoadBalancers[0].DNSName
}

// named asks for a load balancer's name at the API's port.
func (b *berth) named(name string) error {
	req, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d/", b.port), nil)
	if err != nil {
		return err
	}
	req.Host = name
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}

// The server may be killed, restarted, upgraded, and the proxy itself upgraded: nobody whom a load balancer serves notices.
func TestNothingThatServesPeopleStops(t *testing.T) {
	b := start(t)
	address, name := b.shop()
	other := filepath.Join(b.dir, "berth-next")
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w -X main.version=next", "-o", other, "./cmd/berth")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, act := range []struct {
		what string
		do   func()
	}{
		{"kill -9 of the server", func() {
			b.signal(syscall.SIGKILL)
			for range 20 {
				if err := b.named(name); err != nil {
					t.Error("the load balancer's name at the API's port, while no server runs:", err)
				}
			}
			if pids := b.proxyPIDs(); len(pids) != 1 {
				t.Errorf("proxies %v", pids)
			}
			before := time.Now()
			answered := make(chan error, 1)
			go func() {
				_, err := b.service("web")
				answered <- err
			}()
			b.up()
			if err := <-answered; err != nil {
				t.Error("an API call that came while no server ran:", err)
			}
			t.Logf("an API call that came while no server ran was answered after %s", time.Since(before).Round(time.Millisecond))
		}},
		{"SIGTERM of the server and its next start", func() { b.signal(syscall.SIGTERM); b.up() }},
		{"upgrade of server and proxy", func() {
			old := b.proxyPIDs()
			b.bin = other
			b.signal(syscall.SIGTERM)
			b.up()
			b.eventually(10*time.Second, "another proxy serves", func() error {
				if pids := b.proxyPIDs(); len(pids) == 1 && pids[0] == old[0] {
					return fmt.Errorf("still %v", pids)
				}
				return nil
			})
		}},
	} {
		tr := startTraffic(address)
		time.Sleep(500 * time.Millisecond)
		act.do()
		time.Sleep(time.Second)
		for _, f := range tr.end(t, act.what) {
			t.Errorf("%s: a request failed: %v", act.what, f.err)
		}
	}
	b.stable("web") // nothing was taken for sick or replaced
}

// ended waits until a killed process is dead, with all of its threads, and returns when that was: until then it may accept connections.
func ended(pid int) time.Time {
	for {
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, ok := strings.Cut(string(stat), ") "); err != nil || ok && state[0] == 'Z' && len(threads) <= 1 {
			return time.Now()
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// A proxy that is killed is back at once, and connections that come meanwhile wait for it. When the server is killed as well, the
// next one starts both.
func TestAKilledProxyIsBackAtOnce(t *testing.T) {
	b := start(t)
	address, name := b.shop()
	before := b.tasks("web")
	for round := range 3 {
		tr := startTraffic(address)
		time.Sleep(500 * time.Millisecond)
		pids := b.proxyPIDs()
		if len(pids) != 1 {
			t.Fatalf("proxies %v", pids)
		}
		killed := time.Now()
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		dead := ended(pids[0])
		time.Sleep(1500 * time.Millisecond)
		for _, f := range tr.end(t, fmt.Sprint("kill -9 of the proxy, ", round)) {
			if f.dialled.IsZero() || f.dialled.After(dead) {
				t.Errorf("a new connection failed %s after the kill: %v", f.at.Sub(killed), f.err)
			}
		}
		back := time.Duration(0)
		for _, at := range tr.kinds["one-shot"].answers {
			if at.After(killed.Add(5*time.Millisecond)) && (back == 0 || at.Sub(killed) < back) {
				back = at.Sub(killed)
			}
		}
		t.Logf("back after %s", back.Round(time.Millisecond))
	}
	for _, pid := range b.proxyPIDs() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	b.signal(syscall.SIGKILL)
	for _, pid := range b.proxyPIDs() { // it may have been started again in between
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	b.up()
	if err := b.named(name); err != nil {
		t.Error(err)
	}
	if status, _, _, err := get(address); err != nil || status != 200 {
		t.Errorf("after both were killed: %d %v", status, err)
	}
	b.stable("web")
	if after := b.tasks("web"); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("tasks were replaced: %v, before %v", after, before)
	}
	id := b.instanceID()
	b.mustCLI("down")
	b.wait()
	if left := leftovers(id); left["processes"]+left["cgroups"] > 0 {
		t.Errorf("left after down: %v", left)
	}
}

package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// What BenchmarkProxy does, in turns, for each proxy.
const (
	benchRounds  = 5
	benchSpan    = time.Second // of one turn
	benchCallers = 32          // connections that ask at once
	benchAnswer  = 1 << 10     // bytes
)

// BenchmarkProxy compares Berth with the other proxies that are installed, with a bare ReverseProxy of net/http/httputil and with its
// floor, a program in Go that copies bytes from connection to connection and reads none of them: requests a second, and CPU time a
// request. Every proxy is a process of its own, and its callers and their target are another one: the CPU time is the proxy's alone.
// They take turns; all share the machine's cores.
func BenchmarkProxy(b *testing.B) {
	load := startRole(b, "load")
	target := load.line()
	var all []*contestant
	for _, name := range []string{"copy", "ReverseProxy", "Berth"} {
		r := startRole(b, name, target)
		all = append(all, &contestant{name: name, address: r.line(), pid: r.cmd.Process.Pid})
	}
	for _, name := range []string{"haproxy", "nginx", "caddy"} {
		if c := startOther(b, name, target); c != nil {
			all = append(all, c)
		}
	}
	for b.Loop() {
		for _, c := range all { // connections are opened
			load.run(c.address)
		}
		for range benchRounds {
			for _, c := range all {
				before := cpuTime(b, c.pid)
				c.requests += load.run(c.address)
				c.cpu += cpuTime(b, c.pid) - before
			}
		}
	}
	turns := float64(b.N*benchRounds) * benchSpan.Seconds()
	berth := all[2]
	for _, c := range all {
		b.ReportMetric(float64(c.requests)/turns, c.name+"-req/s")
		b.ReportMetric(c.each(), c.name+"-µsCPU/req")
		if c != berth {
			b.ReportMetric(berth.each()/c.each(), "CPU-Berth/"+c.name)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// contestant is a proxy that listens at address.
type contestant struct {
	name, address string
	pid           int
	requests      int
	cpu           time.Duration
}

// each is the microseconds of CPU time of one request.
func (c *contestant) each() float64 { return float64(c.cpu.Nanoseconds()) / 1000 / float64(c.requests) }

// cpuTime is what the threads of a process and of its children have used.
func cpuTime(b *testing.B, pid int) (sum time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		b.Fatalf("process %d has ended: %v", pid, err)
	}
	for _, task := range tasks {
		stat, _ := os.ReadFile(filepath.Join(task, "schedstat")) // a thread may end meanwhile
		if used, _, ok := strings.Cut(string(stat), " "); ok {
			n, _ := strconv.ParseInt(used, 10, 64)
			sum += time.Duration(n)
		}
		children, _ := os.ReadFile(filepath.Join(task, "children"))
		for _, child := range strings.Fields(string(children)) {
			n, _ := strconv.Atoi(child)
			sum += cpuTime(b, n)
		}
	}
	return sum
}

// role is this test's program as another process of the benchmark.
type role struct {
	b   *testing.B
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

const roleVariable = "BERTH_PROXY_BENCH_ROLE"

func startRole(b *testing.B, name string, args ...string) *role {
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchRole$")
	cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join(append([]string{name}, args...), " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close() // it ends
		_ = cmd.Wait()
	})
	return &role{b: b, cmd: cmd, in: in, out: bufio.NewReader(out)}
}

// line reads what the process says.
func (r *role) line() string {
	s, err := r.out.ReadString('\n')
	if err != nil {
		r.b.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// run has the load ask a proxy for one turn and returns how many answers came.
func (r *role) run(address string) (n int) {
	if _, err := fmt.Fprintln(r.in, address); err != nil {
		r.b.Fatal(err)
	}
	answer := r.line()
	var failed int
	if _, err := fmt.Sscan(answer, &n, &failed); err != nil || failed > 0 || n == 0 {
		r.b.Fatalf("%s: %s", address, answer)
	}
	return n
}

// TestBenchRole is the other processes of BenchmarkProxy. Each says its address and ends with its standard input.
func TestBenchRole(t *testing.T) {
	name, target, _ := strings.Cut(os.Getenv(roleVariable), " ")
	switch name {
	case "":
		t.Skip("a part of BenchmarkProxy")
	case "load":
		answer := make([]byte, benchAnswer)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(answer) }))
		defer s.Close()
		fmt.Println(s.Listener.Addr())
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Println(askAll(lines.Text()))
		}
		return
	case "copy":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(l.Addr())
		go copyAll(l, target)
	case "ReverseProxy":
		s := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(&url.URL{Scheme: "http", Host: target})
				p.SetXForwarded()
			},
			Transport: &http.Transport{MaxIdleConnsPerHost: benchCallers, DisableCompression: true}})
		fmt.Println(s.Listener.Addr())
	case "Berth":
		r := newRig(t, model.PaceFast)
		r.serve(unchecked("g", targetAt(t, target)))
		fmt.Printf("127.0.0.1:%d\n", r.port)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// copyAll is the floor: it waits for a request, takes it for whole, and does the same with the answer.
func copyAll(l net.Listener, target string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			up, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer up.Close()
			for b := make([]byte, 16<<10); ; {
				for _, way := range [][2]net.Conn{{c, up}, {up, c}} {
					n, err := way[0].Read(b)
					if err != nil {
						return
					}
					if _, err := way[1].Write(b[:n]); err != nil {
						return
					}
				}
			}
		}()
	}
}

// askAll asks for one turn over many connections.
func askAll(address string) (ok, failed int64) {
	var good, bad atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(benchSpan)
	for range benchCallers {
		wg.Go(func() {
			n, err := askOne(address, end)
			good.Add(n)
			if err != nil {
				fmt.Fprintln(os.Stderr, address, err)
				bad.Add(1)
			}
		})
	}
	wg.Wait()
	return good.Load(), bad.Load()
}

func askOne(address string, end time.Time) (n int64, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	request := []byte("GET /x HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")
	in := make([]byte, 16<<10)
	for ; time.Now().Before(end); n++ {
		if _, err := c.Write(request); err != nil {
			return n, err
		}
		for got, want := 0, 0; want == 0 || got < want; {
			m, err := c.Read(in[got:])
			if err != nil {
				return n, err
			}
			got += m
			if i := bytes.Index(in[:got], []byte("\r\n\r\n")); want == 0 && i >= 0 {
				if !bytes.HasPrefix(in, []byte("HTTP/1.1 200")) {
					return n, fmt.Errorf("it answers %q", in[:got])
				}
				want = i + 4 + benchAnswer
			}
		}
	}
	return n, nil
}

// others are the configurations of proxies that may be installed, with one thread a core; LISTEN and TARGET are addresses.
var others = map[string]struct{ file, text string }{
	"haproxy": {"haproxy.cfg", `global
  nbthread 2
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind LISTEN
  default_backend b
backend b
  server s TARGET
`},
	"nginx": {"nginx.conf", `worker_processes 2;
daemon off;
pid DIR/pid;
error_log DIR/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c; uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;
  upstream u { server TARGET; keepalive 64; keepalive_requests 1000000; }
  server {
    listen LISTEN;
    location / {
      proxy_pass http://u;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`},
	"caddy": {"Caddyfile", "{\n  admin off\n  auto_https off\n}\nhttp://LISTEN {\n  reverse_proxy TARGET\n}\n"},
}

// startOther starts a proxy that is installed; nil, and said aloud, when it is not.
func startOther(b *testing.B, name, target string) *contestant {
	program, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		if program, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			fmt.Fprintf(os.Stderr, "SKIP %s: it is not installed\n", name)
			return nil
		}
	}
	dir := b.TempDir()
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(b))
	file := filepath.Join(dir, others[name].file)
	text := strings.NewReplacer("LISTEN", listen, "TARGET", target, "DIR", dir).Replace(others[name].text)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	args := map[string][]string{"haproxy": {"-db", "-f", file}, "nginx": {"-p", dir, "-c", file}, "caddy": {"run", "--config", file, "--adapter", "caddyfile"}}[name]
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", listen)
		if err == nil {
			c.Close()
			return &contestant{name: name, address: listen, pid: cmd.Process.Pid}
		}
		if time.Now().After(late) {
			b.Fatalf("%s does not listen: %v", name, err)
		}
	}
}

// scripted is a connection that plays the other side in memory: each write to it is answered by one read.
type scripted struct {
	net.Conn
	says []byte
	left int // how often
}

func (s *scripted) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	return copy(b, s.says), nil
}

func (s *scripted) Write(b []byte) (int, error)      { return len(b), nil }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }
func (s *scripted) Close() error                     { return nil }
func (s *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 7} }

// inMemory serves n requests to a lane whose client and target are in memory.
func inMemory(t testing.TB) (serve func(n int)) {
	p := New(Config{Now: time.Now, Log: slog.New(slog.DiscardHandler), OnHealth: func(model.TargetHealth) {}, OnProblem: func(string, string) {}})
	t.Cleanup(func() { p.Close() })
	r := &rig{port: 1}
	p.Apply(r.table([]Group{unchecked("g", Target{ID: "a", Address: "192.0.2.1", Port: 1})}, Rule{Conditions: []Condition{
		{Field: "path-pattern", Values: []string{"/api/*"}}, {Field: "host-header", Values: []string{"*.example"}}}, Action: forwardTo("none")},
		Rule{Action: forwardTo("g")}))
	target := &p.targets[model.TargetKey("g", "a", 1)].kept
	answer := []byte("HTTP/1.1 200 OK\r\nDate: x\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	return func(n int) {
		up := &upstream{conn: &scripted{says: answer, left: n}, quiet: quiet{idle: time.Minute}, until: time.Now().Add(time.Hour)}
		target.put(up)
		client := &scripted{left: n, says: []byte("GET /x HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")}
		l := newLane(p.ports[1], client)
		p.ports[1].lanes.add(l)
		l.serve()
		if up.conn.(*scripted).left != 0 {
			t.Fatalf("%d requests did not reach the target", up.conn.(*scripted).left)
		}
		target.take(time.Now())
	}
}

// BenchmarkRequestInMemory is a request without the kernel.
func BenchmarkRequestInMemory(b *testing.B) {
	serve := inMemory(b)
	b.ReportAllocs()
	b.ResetTimer()
	serve(b.N)
}

// pooled tells whether a sync.Pool keeps what it is given.
var pooled = true

func TestARequestAllocatesNothing(t *testing.T) {
	if onlyFast(t); !pooled {
		t.Skip("not with the race detector")
	}
	serve := inMemory(t)
	serve(10)
	if each := testing.AllocsPerRun(5, func() { serve(1000) }) / 1000; each > 0.1 {
		t.Errorf("%.2f allocations a request", each)
	}
}

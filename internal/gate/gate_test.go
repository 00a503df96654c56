package gate

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// from dials the listener from an address of the machine's own.
func from(t *testing.T, address string, l net.Listener) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).Dial("tcp", l.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// served tells whether the connection was let through: the other side then writes a byte.
func served(c net.Conn) bool {
	if c == nil {
		return false // refused before the dial was over
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err == nil
}

// greeting serves connections by writing a byte, until they end.
func greeting(t *testing.T, g *Gate) net.Listener {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := g.Listener(raw)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c.Write([]byte{1})
				io.Copy(io.Discard, c)
				c.Close()
				c.Close() // gives one place back, not two
			}()
		}
	}()
	return l
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestOneSourceLeavesPlacesToOthers(t *testing.T) {
	g := New(Config{Name: "test", Total: 16})
	l := greeting(t, g)
	var taken []net.Conn
	for range 50 {
		if c := from(t, "127.0.0.2", l); served(c) {
			taken = append(taken, c)
		}
	}
	if len(taken) != 8 {
		t.Errorf("a greedy source has %d of 16 places, want half", len(taken))
	}
	if !served(from(t, "127.0.0.3", l)) {
		t.Error("somebody new found no place")
	}
	if s := g.Stats(); s.Open != 9 || s.Sources != 2 || s.Refused != 42 {
		t.Errorf("%+v", s)
	}
	taken[0].Close()
	until(t, "a closed connection keeps its place", func() bool { return g.Stats().Open == 8 })
	if !served(from(t, "127.0.0.3", l)) {
		t.Error("a place that was given back cannot be taken")
	}
}

func TestASourceHasItsOwnBound(t *testing.T) {
	g := New(Config{Name: "test", Total: 100, PerSource: 2})
	l := greeting(t, g)
	n := 0
	for range 5 {
		if served(from(t, "127.0.0.2", l)) {
			n++
		}
	}
	if n != 2 || !served(from(t, "127.0.0.3", l)) {
		t.Errorf("a source has %d connections, want 2", n)
	}
}

func TestSourcesOfIPv6AreNetworks(t *testing.T) {
	a := sourceOf(&net.TCPAddr{IP: net.ParseIP("2001:db8::1")})
	if b := sourceOf(&net.TCPAddr{IP: net.ParseIP("2001:db8::ffff:2")}); a != b {
		t.Errorf("%v and %v are two sources", a, b)
	}
	if b := sourceOf(&net.TCPAddr{IP: net.ParseIP("2001:db8:0:1::1")}); a == b {
		t.Errorf("%v is one source", a)
	}
}

// failing accepts with errors first.
type failing struct {
	net.Listener
	errs []error
	n    atomic.Int64
}

func (f *failing) Accept() (net.Conn, error) {
	if i := int(f.n.Add(1)) - 1; i < len(f.errs) {
		return nil, f.errs[i]
	}
	return f.Listener.Accept()
}

func TestAcceptWaitsOutWhatPasses(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	f := &failing{Listener: raw}
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		f.errs = append(f.errs, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", e)})
	}
	l := New(Config{Total: 2}).Listener(f)
	c := from(t, "127.0.0.1", raw)
	defer c.Close()
	if got, err := l.Accept(); err != nil {
		t.Error(err)
	} else {
		got.Close()
	}
	f.errs, f.n = []error{&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EINVAL)}}, atomic.Int64{}
	if _, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a broken listener: %v", err)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v", err)
	}
}

// TestWithoutDescriptors runs a server in a process of its own that has nearly none, and opens more connections than those: it goes
// on serving when they are gone.
func TestWithoutDescriptors(t *testing.T) {
	if os.Getenv("GATE_STARVE") != "" {
		starve()
	}
	cmd := exec.Command(os.Args[0], "-test.run=TestWithoutDescriptors$")
	cmd.Env = append(os.Environ(), "GATE_STARVE=1")
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	address := make([]byte, 64)
	n, err := out.Read(address)
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
		res, err := c.Get("http://" + strings.TrimSpace(string(address[:n])))
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	var all []net.Conn
	for range 80 { // the kernel takes them, the process cannot
		c, err := net.Dial("tcp", strings.TrimSpace(string(address[:n])))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range all {
		c.Close()
	}
	if err := get(); err != nil {
		t.Errorf("after a flood: %v", err)
	}
}

func starve() {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(2)
	}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 24, Max: 24}) != nil {
		os.Exit(3)
	}
	os.Stdout.WriteString(raw.Addr().String() + "\n")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	http.Serve(New(Config{Total: 1000}).Listener(raw), http.NotFoundHandler())
	os.Exit(4)
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100, 60, 5*time.Second)
		ctx := t.Context()
		one, err := b.Take(ctx, "a", 60)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Take(ctx, "a", 1); !errors.Is(err, ErrBusy) {
			t.Errorf("a source beyond its share: %v", err)
		}
		two, err := b.Take(ctx, "b", 40)
		if err != nil {
			t.Fatalf("another source: %v", err)
		}
		done := make(chan error)
		var last func()
		go func() {
			var err error
			last, err = b.Take(ctx, "c", 50)
			done <- err
		}()
		synctest.Wait()
		two()
		two() // once is enough
		synctest.Wait()
		select {
		case <-done:
			t.Error("50 were taken of 40")
		default:
		}
		one()
		if err := <-done; err != nil {
			t.Errorf("who waited: %v", err)
		}
		last()
		if b.Used() != 0 || len(b.sources) != 0 || len(b.queue) != 0 {
			t.Errorf("%d are left in use", b.Used())
		}
	})
}

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func TestBodiesMustComeAtAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan error, 1)
		l := pipes(make(chan net.Conn))
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, Pace{Grace: 10 * time.Second, Rate: 100}.Body(w, r))
			got <- err
		})}
		go srv.Serve(l)
		defer srv.Close()
		near, far := net.Pipe()
		l <- far
		go io.Copy(io.Discard, near)
		start, dripped := time.Now(), make(chan struct{})
		io.WriteString(near, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
		go func() {
			for { // a byte a second
				if _, err := near.Write([]byte{'x'}); err != nil {
					close(dripped)
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if err := <-got; !errors.Is(err, ErrSlow) || time.Since(start) > 12*time.Second {
			t.Errorf("dripping ended after %s: %v", time.Since(start), err)
		}
		near.Close()
		<-dripped

		steady, other := net.Pipe()
		l <- other
		go io.Copy(io.Discard, steady)
		io.WriteString(steady, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n")
		for range 20 { // 200 bytes a second
			steady.Write(make([]byte, 200))
			time.Sleep(time.Second)
		}
		if err := <-got; err != nil {
			t.Errorf("a body that comes fast enough: %v", err)
		}
		steady.Close()
		close(l)
	})
}

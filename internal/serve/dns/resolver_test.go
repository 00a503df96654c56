package dns

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// server is a name server: it answers a question with the question and "!", over UDP and TCP. It counts what it is asked.
type server struct {
	port  string
	asked chan []byte
	mute  bool
}

func newServer(t *testing.T, mute bool) *server {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{asked: make(chan []byte, 4096), mute: mute}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	t.Cleanup(func() { l.Close(); conn.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			s.asked <- append([]byte(nil), buf[:n]...)
			if !s.mute {
				conn.WriteTo([]byte("xx, an answer to another question"), from)
				conn.WriteTo(append(append([]byte(nil), buf[:n]...), '!'), from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				data, _ := readMessage(c)
				writeMessage(c, append(data, '!'))
			}()
		}
	}()
	return s
}

// serve starts a Resolver for the machine that names these servers, and returns its address.
func serve(t *testing.T, port string, servers ...string) (*Resolver, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "search example.com\n"
	for _, s := range servers {
		text += "nameserver " + s + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := New(Config{ResolvConf: path, Port: port, Timeout: 300 * time.Millisecond})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- r.ServePackets(ctx, conn) }()
	go func() { ended <- r.ServeStreams(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return r, l.Addr().String()
}

func ask(t *testing.T, network, address, question string) string {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, ok := c.(*net.TCPConn); ok {
		if err := writeMessage(c, []byte(question)); err != nil {
			t.Fatal(err)
		}
		data, _ := readMessage(c)
		return string(data)
	}
	if _, err := c.Write([]byte(question)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestQuestionsAreCarried(t *testing.T) {
	up := newServer(t, false)
	for name, servers := range map[string][]string{"named": {"127.0.0.1"}, "none named": nil, "the second one": {"127.0.0.99", "127.0.0.1"}} {
		_, address := serve(t, up.port, servers...)
		for _, network := range []string{"udp4", "tcp4"} {
			if got := ask(t, network, address, "12 what is example.com"); got != "12 what is example.com!" {
				t.Errorf("%s over %s: %q", name, network, got)
			}
		}
	}
}

// A source that asks without pause takes its share, and the others are answered.
func TestAFloodIsBounded(t *testing.T) {
	up := newServer(t, true)
	r, address := serve(t, up.port, "127.0.0.1")
	flood, err := net.Dial("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	question := []byte(strings.Repeat("q", 40))
	for range 2000 {
		if _, err := flood.Write(question); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		total := r.total
		r.mu.Unlock()
		if total > maxPerSource {
			t.Fatalf("%d questions of one source are under way", total)
		}
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		total, sources := r.total, len(r.asked)
		r.mu.Unlock()
		if total == 0 && sources == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d questions are under way after a while", total)
		}
	}
}

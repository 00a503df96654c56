package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// locked is what several goroutines may log to.
type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *locked) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

// TestAnswersBeforeTheBodysEnd: on net/http's server, an answer that comes before the request's body was read, be it a target's or
// the proxy's own, gets through whole and is the connection's last: else the server reads what is left of the body beside its own next
// read, at which it panics.
func TestAnswersBeforeTheBodysEnd(t *testing.T) {
	for name, c := range map[string]struct {
		targets []Target
		status  int
	}{"a hasty target": {[]Target{targetAt(t, hastyTarget(t))}, 403}, "no target": {nil, 503}} {
		t.Run(name, func(t *testing.T) {
			var said locked
			r := newRig(t, model.PaceFast)
			r.proxy.slow = true // net/http's server
			r.proxy.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
			r.serve(unchecked("g", c.targets...))
			for _, first := range []int{0, 1000, 100 << 10} { // of the body's bytes, which come before the answer
				for range 5 {
					r.partly(first, 100<<10, c.status)
				}
			}
			if s := said.text(); strings.Contains(s, "panic") {
				t.Error(s)
			}
		})
	}
}

// partly sends a request whose body comes in two parts, the second after the answer, and another request behind it.
func (r *rig) partly(first, size, status int) {
	r.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	body := strings.Repeat("x", size)
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, body[:first])
	in := bufio.NewReader(c)
	answer := func() (last bool) {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			r.t.Fatalf("%d of %d bytes: %v", first, size, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != status {
			r.t.Errorf("%d of %d bytes: %d %v", first, size, res.StatusCode, err)
		}
		return res.Close
	}
	last := answer()
	if !last && first < size {
		r.t.Errorf("after %d of %d bytes the connection goes on", first, size)
	}
	io.WriteString(c, body[first:]+"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
	if !last {
		answer()
	} else if n, _ := io.Copy(io.Discard, in); n > 0 {
		r.t.Errorf("%d of %d bytes: %d bytes come after the last answer", first, size, n)
	}
}

// hastyTarget answers each connection's first request as soon as its head is there, and reads no more.
func hastyTarget(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
				}
			}()
		}
	}()
	return l.Addr().String()
}

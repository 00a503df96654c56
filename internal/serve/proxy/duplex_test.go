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

type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

// TestAnswersBeforeTheBodysEnd: a target that answers before the request's body was read gets its answer through, and the library's
// server does not fail when it and the request that is still on its way read the body at the same time.
func TestAnswersBeforeTheBodysEnd(t *testing.T) {
	var said locked
	r := newRig(t, model.PaceFast)
	r.proxy.slow = true // net/http's server
	r.proxy.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // answers as soon as the head is there, and reads no more
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
				time.Sleep(50 * time.Millisecond)
			}()
		}
	}()
	r.serve(unchecked("g", targetAt(t, l.Addr().String())))
	for i := range 100 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		size := 300 << 10
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", 1000))
		in := bufio.NewReader(c)
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode != 403 {
			t.Errorf("round %d: %v %v", i, res, err)
		} else if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Errorf("round %d: %v", i, err)
		}
		io.WriteString(c, strings.Repeat("x", size-1000)+"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		io.Copy(io.Discard, in)
		c.Close()
	}
	said.mu.Lock()
	defer said.mu.Unlock()
	if s := said.String(); strings.Contains(s, "panic") {
		t.Error(s)
	}
}

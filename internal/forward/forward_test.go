package forward

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// bench is two servers, the second of which leads when the test says so.
type bench struct {
	mu      sync.Mutex
	leads   bool
	known   bool // the first one knows a leader's address
	changed chan struct{}
	lost    bool // connections break after the request was read
}

func (b *bench) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// pipes is a listener that is dialled in memory.
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

func start(t *testing.T, b *bench, leader http.HandlerFunc) http.Handler {
	l := make(pipes)
	ctx, stop := context.WithCancel(t.Context())
	far := New(Config{Local: leader, Confirm: func(context.Context) error { return nil },
		Office: func() Office {
			b.mu.Lock()
			defer b.mu.Unlock()
			return Office{Here: b.leads, Changed: b.changed}
		}})
	done := make(chan error, 1)
	go func() { done <- far.Serve(ctx, l) }()
	near := New(Config{Local: http.NotFoundHandler(), Confirm: func(context.Context) error { return errors.New("no") },
		Dial: func(ctx context.Context, address, protocol string) (net.Conn, error) {
			if address != "10.0.0.2:4567" || protocol != Protocol {
				t.Errorf("dials %s for %s", address, protocol)
			}
			mine, theirs := net.Pipe()
			l <- theirs
			return mine, nil
		},
		Office: func() Office {
			b.mu.Lock()
			defer b.mu.Unlock()
			if !b.known {
				return Office{Changed: b.changed}
			}
			return Office{Address: "10.0.0.2:4567", Changed: b.changed}
		}})
	t.Cleanup(func() {
		near.transport.CloseIdleConnections()
		stop()
		close(l)
		<-done
	})
	return near
}

func ask(h http.Handler, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "http://ecs.us-east-1.amazonaws.com/a%2Fb?x=1&y", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", "Service.RunTask")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 …")
	r.RemoteAddr = "192.0.2.7:1234"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestARequestArrivesAsItWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{leads: true, known: true, changed: make(chan struct{})}
		h := start(t, b, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if r.Host != "ecs.us-east-1.amazonaws.com" || r.RequestURI != "/a%2Fb?x=1&y" || r.RemoteAddr != "192.0.2.7:1234" ||
				r.Header.Get("Authorization") != "AWS4-HMAC-SHA256 …" || r.Header.Get(headerClient) != "" || r.UserAgent() != "" || string(body) != "hello" {
				t.Errorf("the leader got %s %s of %s with %v: %q", r.Host, r.RequestURI, r.RemoteAddr, r.Header, body)
			}
			w.Header().Set("X-Answer", "yes")
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "short and stout")
		})
		if w := ask(h, "hello"); w.Code != http.StatusTeapot || w.Header().Get("X-Answer") != "yes" || w.Body.String() != "short and stout" {
			t.Errorf("the client got %d %v %q", w.Code, w.Header(), w.Body)
		}
	})
}

// TestALeaderIsWaitedFor has none at first, then one that does not know yet that it leads.
func TestALeaderIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{changed: make(chan struct{})}
		asked := 0
		h := start(t, b, func(w http.ResponseWriter, r *http.Request) {
			asked++
			if body, _ := io.ReadAll(r.Body); string(body) != "hello" {
				t.Errorf("the body is %q", body)
			}
		})
		got := make(chan int)
		go func() { got <- ask(h, "hello").Code }()
		synctest.Wait()
		b.set(func() { b.known = true })
		synctest.Wait()
		b.set(func() { b.leads = true })
		if code := <-got; code != 200 || asked != 1 {
			t.Errorf("%d, asked %d times", code, asked)
		}
	})
}

func TestNoLeaderIsAnswered503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &bench{changed: make(chan struct{})}, nil)
		if w := ask(h, ""); w.Code != 503 || !strings.Contains(w.Body.String(), "ServiceUnavailableException") ||
			!strings.Contains(w.Body.String(), "nothing happened") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// TestAnUnknownOutcomeIsNotRepeated: the leader breaks after it has read the request.
func TestAnUnknownOutcomeIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := start(t, &bench{leads: true, known: true, changed: make(chan struct{})}, func(w http.ResponseWriter, r *http.Request) {
			asked++
			panic(http.ErrAbortHandler)
		})
		if w := ask(h, "hello"); w.Code != 503 || asked != 1 || !strings.Contains(w.Body.String(), "nobody knows") {
			t.Errorf("%d %s, asked %d times", w.Code, w.Body, asked)
		}
	})
}

func TestLargeBodiesAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := int64(0)
		h := start(t, &bench{leads: true, known: true, changed: make(chan struct{})}, func(w http.ResponseWriter, r *http.Request) {
			n, _ = io.Copy(io.Discard, r.Body)
		})
		if w := ask(h, strings.Repeat("x", 3*maxReplay)); w.Code != 200 || n != 3*maxReplay {
			t.Errorf("%d, %d bytes", w.Code, n)
		}
	})
}

// TestUpgrade has a connection that changes its protocol reach the leader and go on both ways.
func TestUpgrade(t *testing.T) {
	b := &bench{leads: true, known: true, changed: make(chan struct{})}
	h := start(t, b, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" || r.Header.Get("Sec-Echo") != "x" {
			t.Errorf("header %v", r.Header)
		}
		c, in, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nSec-Echo: yes\r\n\r\n")
		_, _ = io.Copy(c, in)
	})
	server := httptest.NewServer(h)
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /v1/data-channel/x?a=b HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\nSec-Echo: x\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-Echo") != "yes" || res.Header.Get("Upgrade") != "echo" {
		t.Fatalf("%v %v", res, err)
	}
	for _, word := range []string{"hello\n", "again\n"} {
		_, _ = io.WriteString(c, word)
		if got, err := in.ReadString('\n'); got != word {
			t.Errorf("%q came back of %q: %v", got, word, err)
		}
	}
}

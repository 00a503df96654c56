package proxy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// atPort serves h as a port with an idle timeout of a minute does, and returns a client's connection to it.
func atPort(t *testing.T, h http.HandlerFunc) (net.Conn, *bufio.Reader) {
	p := New(Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	q := p.newPort(1)
	q.server.Handler = h
	q.idle.Store(int64(time.Minute))
	client, server := net.Pipe()
	q.library(server, nil, time.Now())
	t.Cleanup(func() {
		client.Close()
		q.server.Close()
		p.Close()
	})
	return client, bufio.NewReader(client)
}

const getRoot = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// answer reads one whole answer.
func answer(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// endsWithin checks that the server ends the connection no sooner than low, and no later than high, from now.
func endsWithin(t *testing.T, in io.Reader, low, high time.Duration) {
	t.Helper()
	began := time.Now()
	_, _ = io.Copy(io.Discard, in) // EOF or a closed pipe
	if took := time.Since(began); took < low || took > high {
		t.Errorf("it ended after %s, want %s to %s", took, low, high)
	}
}

func TestAClientsConnectionIsKeptForTheIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, in := atPort(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
		for range 5 {
			io.WriteString(c, getRoot)
			if got := answer(t, in); got != "x" {
				t.Fatal(got)
			}
			time.Sleep(55 * time.Second) // the bubble's time
		}
		endsWithin(t, in, 5*time.Second, 35*time.Second)
	})
}

func TestASlowClientHoldsNothingForEver(t *testing.T) {
	t.Run("its headers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, in := atPort(t, nil)
			var drip sync.WaitGroup
			drip.Go(func() {
				for {
					if _, err := io.WriteString(c, "G"); err != nil {
						return
					}
					time.Sleep(10 * time.Second)
				}
			})
			endsWithin(t, in, 0, time.Minute)
			drip.Wait()
		})
	})
	t.Run("its body", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began, ended := time.Now(), make(chan error, 1)
			c, in := atPort(t, func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				ended <- err
			})
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbegun")
			if err, took := <-ended, time.Since(began); err == nil || took > 2*time.Minute {
				t.Errorf("half a body gave %v after %s", err, took)
			}
			endsWithin(t, in, 0, 2*time.Minute) // the server waits once more for the rest
		})
	})
}

func TestAClientWaitsForASlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, in := atPort(t, func(w http.ResponseWriter, r *http.Request) {
			select { // a connection that took its time, and an answer that came at the last moment
			case <-time.After(timeouts.ProxyDial + time.Minute):
				io.WriteString(w, "late")
			case <-r.Context().Done():
			}
		})
		for range 2 {
			io.WriteString(c, getRoot)
			if got := answer(t, in); got != "late" {
				t.Fatal(got)
			}
		}
	})
}

func TestAnUpgradedConnectionThatSpeaksStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, in := atPort(t, func(w http.ResponseWriter, _ *http.Request) {
			up, both, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer up.Close()
			io.WriteString(up, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(up, both)
		})
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		if _, err := http.ReadResponse(in, nil); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(50 * time.Second)
			io.WriteString(c, "hello\n")
			if got, err := in.ReadString('\n'); got != "hello\n" {
				t.Fatal(got, err)
			}
		}
		endsWithin(t, in, time.Minute, 2*time.Minute)
	})
}

func TestSilentConnectionsEnd(t *testing.T) {
	r := newRig(t, model.PaceFast)
	table := r.table([]Group{unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		for i := range 8 { // a stream that speaks keeps its connection
			if req.URL.Path == "/silent" {
				<-req.Context().Done()
				return
			}
			select {
			case <-req.Context().Done():
			case <-time.After(100 * time.Millisecond):
			}
			fmt.Fprint(w, i)
			w.(http.Flusher).Flush()
		}
	}))}, Rule{Action: forwardTo("g")})
	table.Balancers[0].IdleTimeout = 400 * time.Millisecond
	r.proxy.Apply(table)
	r.expect("/", 200, "begun01234567")
	began := time.Now()
	res, err := r.client.Get(r.url("/silent"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if took := time.Since(began); string(b) != "begun" || err == nil || took < 400*time.Millisecond || took > 5*time.Second {
		t.Errorf("a silent stream gave %q, %v after %s", b, err, took)
	}
}

func TestAClientThatTakesNothingIsLeft(t *testing.T) {
	r := newRig(t, model.PaceFast)
	ended := make(chan struct{})
	table := r.table([]Group{unchecked("g", backend(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		for b := make([]byte, 64<<10); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}))}, Rule{Action: forwardTo("g")})
	table.Balancers[0].IdleTimeout = 300 * time.Millisecond
	r.proxy.Apply(table)
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	select { // nothing more is read
	case <-ended:
	case <-time.After(15 * time.Second):
		t.Error("the target writes still")
	}
}

func TestOldConnectionsAreAskedToComeAnew(t *testing.T) {
	r := newRig(t, model.PaceFast)
	table := r.serve(unchecked("g", named(t, "x")))
	if _, _, h := r.do(r.request("GET", "/", nil)); h.Get("Connection") != "" {
		t.Errorf("%v", h)
	}
	table.Balancers[0].ClientKeepAlive = time.Nanosecond
	r.proxy.Apply(table)
	res, err := r.client.Get(r.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if !res.Close {
		t.Error("the connection is kept")
	}
}

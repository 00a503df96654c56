package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/berthdev/berth/internal/model"
)

func (r *rig) awaitDrained(group string, t Target) {
	r.t.Helper()
	key := model.TargetKey(group, t.ID, t.Port)
	r.await(key+" is drained", func() bool { return r.health[key].Drained })
}

func TestDrainWaitsForRequestsInFlight(t *testing.T) {
	r := newRig(t, model.PaceFast)
	arrived, release := make(chan struct{}), make(chan struct{})
	old := backend(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/long" {
			close(arrived)
			<-release
		}
		io.WriteString(w, "old")
	})
	idle, fresh := named(t, "idle"), named(t, "fresh")
	r.serve(unchecked("g", old))
	answer := make(chan string, 1)
	go func() {
		_, body := r.get("/long")
		answer <- body
	}()
	<-arrived
	leaving, idling := old, idle
	leaving.DrainingSince, idling.DrainingSince = time.Now(), time.Now()
	r.serve(unchecked("g", leaving, idling, fresh))
	for range 6 {
		r.expect("/", 200, "fresh")
	}
	r.awaitDrained("g", idle) // it had nothing to do
	r.awaitState("g", old, draining)
	r.mu.Lock()
	if h := r.health[model.TargetKey("g", old.ID, old.Port)]; h.Drained || h.Reason != "Target.DeregistrationInProgress" {
		t.Errorf("while a request is in flight: %+v", h)
	}
	r.mu.Unlock()
	close(release)
	if body := <-answer; body != "old" {
		t.Errorf("the request in flight got %q", body)
	}
	r.awaitDrained("g", old)

	r.serve(unchecked("g", old)) // registered again
	r.awaitState("g", old, well)
	r.expect("/", 200, "old")
	if r.health[model.TargetKey("g", old.ID, old.Port)].Drained {
		t.Error("registered again, it is still called drained")
	}
}

func TestDrainAtAWSPaceTakesTheWholeDelay(t *testing.T) {
	r := newRig(t, model.PaceAWS)
	target := named(t, "x")
	g := unchecked("g", target)
	g.DeregistrationDelay = 300 * time.Millisecond
	r.serve(g)
	r.expect("/", 200, "x")
	began := time.Now()
	g.Targets[0].DrainingSince = began
	r.serve(g)
	r.awaitDrained("g", target)
	if took := time.Since(began); took < g.DeregistrationDelay {
		t.Errorf("drained after %s", took)
	}
	// a delay that has passed long ago, as after a restart
	g.Targets[0].DrainingSince = began.Add(-time.Hour)
	again := newRig(t, model.PaceAWS)
	again.serve(g)
	again.awaitDrained("g", target)
}

var upgrader = websocket.Upgrader{}

// echoer echoes WebSocket messages.
func echoer(t testing.TB) Target {
	return backend(t, func(w http.ResponseWriter, req *http.Request) {
		c, err := upgrader.Upgrade(w, req, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			if err := c.WriteMessage(kind, b); err != nil {
				return
			}
		}
	})
}

func (r *rig) dial() *websocket.Conn {
	r.t.Helper()
	c, _, err := websocket.DefaultDialer.Dial(strings.Replace(r.url("/ws"), "http", "ws", 1), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(15 * time.Second))
	return c
}

func (r *rig) echo(c *websocket.Conn, text string) {
	r.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		r.t.Fatal(err)
	}
	if _, b, err := c.ReadMessage(); err != nil || string(b) != text {
		r.t.Fatalf("%q came back, %v", b, err)
	}
}

func TestWebSocketsStayUntilTheDelayHasPassed(t *testing.T) {
	r := newRig(t, model.PaceFast)
	target := echoer(t)
	g := unchecked("g", target)
	g.DeregistrationDelay = 400 * time.Millisecond
	r.serve(g)
	c := r.dial()
	r.echo(c, "hello")
	r.echo(c, strings.Repeat("x", 1<<20))
	began := time.Now()
	g.Targets[0].DrainingSince = began
	r.serve(g)
	r.awaitState("g", target, draining)
	r.echo(c, "still here")
	if _, _, err := c.ReadMessage(); err == nil || time.Since(began) < g.DeregistrationDelay {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	r.awaitDrained("g", target)
}

func TestAClosedWebSocketIsNotInFlight(t *testing.T) {
	r := newRig(t, model.PaceFast)
	target := echoer(t)
	g := unchecked("g", target)
	r.serve(g)
	c := r.dial()
	r.echo(c, "hello")
	g.Targets[0].DrainingSince = time.Now()
	r.serve(g)
	r.awaitState("g", target, draining)
	c.Close()
	r.awaitDrained("g", target) // long before the delay of 300 s
}

func TestWebSocketsEndWithTheirTargetAndTheProxy(t *testing.T) {
	r := newRig(t, model.PaceFast)
	g := unchecked("g", echoer(t))
	r.serve(g)
	c := r.dial()
	r.echo(c, "hello")
	r.serve(unchecked("g"))
	if _, _, err := c.ReadMessage(); err == nil {
		t.Error("its target is gone")
	}
	r.serve(g)
	c = r.dial()
	r.echo(c, "hello")
	if err := r.proxy.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); err == nil {
		t.Error("the proxy is closed")
	}
}

// A target that comes and goes, as those of a deployment do, fails no request.
func TestTargetsThatComeAndGoFailNoRequest(t *testing.T) {
	r := newRig(t, model.PaceFast)
	steady := named(t, "x")
	r.serve(checked("g", steady))
	r.awaitState("g", steady, well)
	stop := make(chan struct{})
	var failed, total atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				total.Add(1)
				method, body := "GET", io.Reader(nil)
				if i%2 == 0 {
					method, body = "POST", strings.NewReader("body")
				}
				req, _ := http.NewRequest(method, r.url("/"), body)
				res, err := r.client.Do(req)
				if err != nil {
					failed.Add(1)
					continue
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != 200 || string(b) != "x" {
					failed.Add(1)
				}
			}
		})
	}
	for range 40 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }))
		fresh := targetAt(t, s.Listener.Addr().String())
		r.serve(checked("g", steady, fresh))
		r.awaitState("g", fresh, well)
		leaving := steady
		leaving.DrainingSince = time.Now() // all but the one that has just come
		r.serve(checked("g", leaving, fresh))
		r.awaitDrained("g", steady)
		r.serve(checked("g", steady, fresh))
		r.awaitState("g", steady, well)
		fresh.DrainingSince = time.Now()
		r.serve(checked("g", steady, fresh))
		r.awaitDrained("g", fresh)
		r.serve(checked("g", steady))
		s.Close()
	}
	close(stop)
	wg.Wait()
	if failed.Load() > 0 || total.Load() < 100 {
		t.Errorf("%d of %d requests failed", failed.Load(), total.Load())
	}
}

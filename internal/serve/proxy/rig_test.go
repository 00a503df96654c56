package proxy

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// rig is a proxy with one load balancer "lb" and what the proxy said.
type rig struct {
	t      testing.TB
	proxy  *Proxy
	port   int
	client *http.Client

	mu       sync.Mutex
	health   map[string]model.TargetHealth
	history  map[string][]model.TargetHealth
	problems map[string]string
	told     int           // calls of OnProblem
	changed  chan struct{} // closed and renewed at every report
}

func newRig(t testing.TB, pace model.Pace) *rig {
	r := &rig{t: t, port: freePort(t), health: map[string]model.TargetHealth{}, history: map[string][]model.TargetHealth{},
		problems: map[string]string{}, changed: make(chan struct{})}
	r.proxy = New(Config{Addresses: []string{"127.0.0.1"}, Pace: pace, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		OnHealth: func(h model.TargetHealth) {
			r.note(func() { r.health[h.Key()] = h; r.history[h.Key()] = append(r.history[h.Key()], h) })
		},
		OnProblem: func(arn, problem string) { r.note(func() { r.problems[arn] = problem; r.told++ }) }})
	r.proxy.slow = os.Getenv(libraryVariable) != ""
	r.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.proxy.Close()
	})
	return r
}

func (r *rig) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits until a report makes ok true.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	late := time.After(15 * time.Second)
	for {
		r.mu.Lock()
		done, changed := ok(), r.changed
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-late:
			r.t.Fatalf("waited in vain: %s; health %+v, problems %v", what, r.health, r.problems)
		}
	}
}

func (r *rig) awaitState(group string, t Target, state elbtypes.TargetHealthStateEnum) {
	r.t.Helper()
	key := model.TargetKey(group, t.ID, t.Port)
	r.await(fmt.Sprintf("%s is %s", key, state), func() bool { return r.health[key].State == state })
	if state == elbtypes.TargetHealthStateEnumHealthy { // the report comes just before the route
		for !r.listed(group, t) {
			r.proxy.refresh(group)
		}
	}
}

func (r *rig) listed(group string, t Target) bool {
	r.proxy.mu.Lock()
	defer r.proxy.mu.Unlock()
	for _, o := range *r.proxy.groups[group].ready.Load() {
		if o.id == t.ID && o.port == t.Port {
			return true
		}
	}
	return false
}

func freePort(t testing.TB) int {
	t.Helper()
	for range 100 { // below those that the kernel gives to whoever asks for any, other tests among them
		port := 10_000 + rand.IntN(22_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// backend serves h as a target.
func backend(t testing.TB, h http.HandlerFunc) Target {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return targetAt(t, s.Listener.Addr().String())
}

// named answers with its name.
func named(t testing.TB, name string) Target {
	return backend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
}

func targetAt(t testing.TB, addr string) Target {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return Target{ID: host, Port: int32(n), Address: host}
}

// unchecked is a group whose targets count as healthy.
func unchecked(arn string, targets ...Target) Group {
	return Group{ARN: arn, DeregistrationDelay: 300 * time.Second, Check: HealthCheck{Disabled: true, Interval: time.Second}, Targets: targets}
}

// checked is a group with quick checks of /health.
func checked(arn string, targets ...Target) Group {
	g := unchecked(arn, targets...)
	g.Check = HealthCheck{Path: "/health", Interval: 100 * time.Millisecond, Timeout: time.Second, HealthyThreshold: 2, UnhealthyThreshold: 2,
		Codes: "200-299"}
	return g
}

func forwardTo(groups ...string) Action {
	var a Action
	for _, g := range groups {
		a.Forward = append(a.Forward, Weighted{Group: g, Weight: 1})
	}
	return a
}

func fixed(text string) Action {
	return Action{Fixed: &FixedResponse{Status: 200, ContentType: "text/plain", Body: text}}
}

// table has one load balancer with one listener; rules end with the default action.
func (r *rig) table(groups []Group, rules ...Rule) Table {
	t := Table{Groups: map[string]Group{}, Balancers: []Balancer{{ARN: "lb", DNSName: "lb-1.elb.us-east-1.localhost",
		IdleTimeout: 60 * time.Second, Listeners: []Listener{{ARN: "listener", Port: r.port, Rules: rules}}}}}
	for _, g := range groups {
		g.Targets = slices.Clone(g.Targets) // tests change theirs
		t.Groups[g.ARN] = g
	}
	return t
}

// serve applies a table whose default action goes to the first group.
func (r *rig) serve(groups ...Group) Table {
	t := r.table(groups, Rule{Action: forwardTo(groups[0].ARN)})
	r.proxy.Apply(t)
	return t
}

func (r *rig) url(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", r.port, path) }

func (r *rig) request(method, path string, body io.Reader, change ...func(*http.Request)) *http.Request {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url(path), body)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range change {
		c(req)
	}
	return req
}

// do sends a request and reads the answer.
func (r *rig) do(req *http.Request) (status int, body string, header http.Header) {
	r.t.Helper()
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func (r *rig) get(path string, change ...func(*http.Request)) (status int, body string) {
	r.t.Helper()
	status, body, _ = r.do(r.request("GET", path, nil, change...))
	return status, body
}

func header(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Add(k, v) } }

func host(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }

func (r *rig) expect(path string, status int, body string, change ...func(*http.Request)) {
	r.t.Helper()
	if s, b := r.get(path, change...); s != status || !strings.Contains(b, body) {
		r.t.Errorf("GET %s: %d %q, want %d %q", path, s, b, status, body)
	}
}

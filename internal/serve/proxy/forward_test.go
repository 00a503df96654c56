package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// mirror answers with the request that it got.
func mirror(t testing.TB) Target {
	return backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "mirror")
		w.Header()["Connection"] = []string{"X-Hop"}
		w.Header().Set("X-Hop", "1")
		json.NewEncoder(w).Encode(map[string]any{"Host": r.Host, "URI": r.RequestURI, "Header": r.Header, "Method": r.Method})
	})
}

type seen struct {
	Host, URI, Method string
	Header            http.Header
}

func (r *rig) seen(req *http.Request) (s seen, answer http.Header) {
	r.t.Helper()
	status, body, answer := r.do(req)
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		r.t.Fatalf("%d %q: %v", status, body, err)
	}
	return s, answer
}

func TestHeadersThatTargetsGet(t *testing.T) {
	r := newRig(t, model.PaceFast)
	table := r.serve(unchecked("g", mirror(t)))
	s, answer := r.seen(r.request("GET", "/a%2Fb/../c?x=1;y=%zz&z", nil, host("shop.example:81"), header("Connection", "X-Mine, close"),
		header("X-Mine", "1"), header("X-Forwarded-For", "10.0.0.1"), header("X-Forwarded-Proto", "https"), header("X-Kept", "1")))
	if s.Host != "shop.example:81" || s.URI != "/a%2Fb/../c?x=1;y=%zz&z" {
		t.Errorf("the target sees %s%s", s.Host, s.URI)
	}
	want := http.Header{"X-Forwarded-For": {"10.0.0.1, 127.0.0.1"}, "X-Forwarded-Proto": {"http"},
		"X-Forwarded-Port": {strconv.Itoa(r.port)}, "X-Kept": {"1"}, "X-Mine": nil, "Connection": nil}
	for k, v := range want {
		if fmt.Sprint(s.Header[k]) != fmt.Sprint(v) {
			t.Errorf("%s is %q, want %q", k, s.Header[k], v)
		}
	}
	if id := s.Header.Get("X-Amzn-Trace-Id"); !regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24}$`).MatchString(id) {
		t.Errorf("trace id %q", id)
	}
	if answer.Get("X-Hop") != "" || answer.Get("Server") != "mirror" {
		t.Errorf("the client sees %v", answer)
	}
	s, _ = r.seen(r.request("GET", "/", nil, header("X-Amzn-Trace-Id", "Root=1-1-2;CalledFrom=app")))
	if id := s.Header.Get("X-Amzn-Trace-Id"); !regexp.MustCompile(`^Self=1-[0-9a-f]{8}-[0-9a-f]{24};Root=1-1-2;CalledFrom=app$`).MatchString(id) {
		t.Errorf("the client's trace id became %q", id)
	}
	for name, c := range map[string]struct {
		how  ForwardedFor
		want string
	}{"preserve": {ForwardedFor{Preserve: true}, `\[10.0.0.1\]`}, "remove": {ForwardedFor{Remove: true}, `\[\]`},
		"port": {ForwardedFor{ClientPort: true}, `\[10.0.0.1, 127.0.0.1:\d+\]`}} {
		next := table
		next.Balancers = []Balancer{table.Balancers[0]}
		next.Balancers[0].ForwardedFor, next.Balancers[0].DropInvalidHeaders = c.how, true
		r.proxy.Apply(next)
		s, _ := r.seen(r.request("GET", "/", nil, header("X-Forwarded-For", "10.0.0.1"), header("Bad_name", "1"), header("Good-name", "1")))
		if got := fmt.Sprint(s.Header["X-Forwarded-For"]); !regexp.MustCompile("^" + c.want + "$").MatchString(got) {
			t.Errorf("%s: X-Forwarded-For is %s", name, got)
		}
		if s.Header.Get("Bad_name") != "" || s.Header.Get("Good-Name") != "1" {
			t.Errorf("%s: headers %v", name, s.Header)
		}
	}
}

func TestTraced(t *testing.T) {
	for said, want := range map[string]string{"": "Root=new", "Root=a": "Self=new;Root=a", "Self=a": "Self=new", "x=y": "Root=new;x=y",
		"Self=a; Root=b;;x=y": "Self=new;Root=b;x=y", strings.Repeat("x", maxTrace+1): "Root=new"} {
		if got := traced([]string{said}, "new"); got != want {
			t.Errorf("%.40q becomes %q, want %q", said, got, want)
		}
	}
	if got := traced([]string{"Root=a", "x=y"}, "new"); got != "Self=new;Root=a;x=y" {
		t.Errorf("two headers become %q", got)
	}
}

func TestHeadersThatClientsGet(t *testing.T) {
	r := newRig(t, model.PaceFast)
	table := r.serve(unchecked("g", mirror(t)))
	l := &table.Balancers[0].Listeners[0]
	l.HideServer, l.Headers = true, map[string]string{"X-Frame-Options": "DENY"}
	l.Rules = append([]Rule{{Conditions: []Condition{{Field: "path-pattern", Values: []string{"/f"}}}, Action: fixed("f")}}, l.Rules...)
	r.proxy.Apply(table)
	for _, path := range []string{"/", "/f"} {
		if _, _, h := r.do(r.request("GET", path, nil)); h.Get("Server") != "" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestAnswersOfTheLoadBalancerItself(t *testing.T) {
	r := newRig(t, model.PaceFast)
	dead := Target{ID: "dead", Address: "127.0.0.1", Port: int32(freePort(t))}
	hang := make(chan struct{})
	slow := backend(t, func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-hang:
		case <-req.Context().Done():
		}
	})
	t.Cleanup(func() { close(hang) })
	on := func(path string, a Action) Rule {
		return Rule{Conditions: []Condition{{Field: "path-pattern", Values: []string{path}}}, Action: a}
	}
	table := r.table([]Group{unchecked("empty"), unchecked("dead", dead), unchecked("slow", slow)},
		on("/empty", forwardTo("empty")), on("/dead", forwardTo("dead")), on("/slow", forwardTo("slow")), on("/unknown", forwardTo("unknown")),
		on("/weightless", Action{Forward: []Weighted{{Group: "dead", Weight: 0}}}), on("/nothing", Action{}),
		on("/moved", Action{Redirect: &Redirect{Status: 302, Path: "/elsewhere"}}),
		Rule{Action: Action{Fixed: &FixedResponse{Status: 418, ContentType: "application/json", Body: `{}`}}})
	table.Balancers[0].IdleTimeout = 200 * time.Millisecond
	r.proxy.Apply(table)
	for path, want := range map[string]int{"/empty": 503, "/dead": 502, "/slow": 504, "/unknown": 503, "/weightless": 503, "/nothing": 503,
		"/moved": 302, "/": 418} {
		status, body, h := r.do(r.request("GET", path, nil))
		if status != want || h.Get("Server") != "awselb/2.0" {
			t.Errorf("%s: %d %v, want %d", path, status, h, want)
		}
		if want >= 500 && !strings.Contains(body, "<center><h1>"+strconv.Itoa(want)+" ") {
			t.Errorf("%s: %q", path, body)
		}
	}
	if _, _, h := r.do(r.request("GET", "/", nil)); h.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("content type %s", h.Get("Content-Type"))
	}
	if status, _, h := r.do(r.request("GET", "/moved", nil)); h.Get("Location") != fmt.Sprintf("http://127.0.0.1:%d/elsewhere", r.port) {
		t.Errorf("%d to %s", status, h.Get("Location"))
	}
	if status, _, _ := r.do(r.request("TRACE", "/", nil)); status != 405 {
		t.Errorf("TRACE: %d", status)
	}
	counts := r.proxy.Snapshot()
	if c := counts.Balancers["lb"]; c.Requests != 11 || c.Failed != 6 {
		t.Errorf("counted %+v", c)
	} else if own := c.Own; own[2]+own[3]+own[4] != 6 || own[0] == 0 {
		t.Errorf("own answers %v", own)
	}
	if a := counts.Groups["dead"]; a.Failed != 1 || a.Classes != [5]int64{} {
		t.Errorf("answers of the dead target %+v", a)
	}
	for arn, a := range counts.Groups {
		var waits, answers int64
		for _, n := range a.Waits {
			waits += n
		}
		for _, n := range a.Classes {
			answers += n
		}
		if waits != answers || answers > 0 && a.Waited <= 0 {
			t.Errorf("answers of %s %+v", arn, a)
		}
	}
	if c := counts.Targets[model.TargetKey("dead", "dead", dead.Port)]; c.Requests != 1 || c.Failed != 1 || c.InFlight != 0 {
		t.Errorf("counted %+v of the dead target", c)
	}
	r.proxy.Apply(Table{})
	if r.proxy.Stats("lb") != nil {
		t.Error("a load balancer that is gone has counters")
	}
}

func TestWeights(t *testing.T) {
	r := newRig(t, model.PaceFast)
	action := Action{Forward: []Weighted{{"a", 30}, {"b", 10}, {"never", 0}}}
	r.proxy.Apply(r.table([]Group{unchecked("a", named(t, "a")), unchecked("b", named(t, "b")), unchecked("never", named(t, "never"))},
		Rule{Action: action}))
	n := map[string]int{}
	for range 400 {
		_, body := r.get("/")
		n[body]++
	}
	if n["never"] != 0 || n["a"] < 250 || n["b"] < 50 || n["a"]+n["b"] != 400 { // 300 and 100, five sigma away
		t.Errorf("answers %v", n)
	}
}

func TestRoundRobinAndLeastOutstanding(t *testing.T) {
	r := newRig(t, model.PaceFast)
	var busy atomic.Int64
	release := make(chan struct{})
	a := backend(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/hold" {
			busy.Add(1)
			<-release
		}
		io.WriteString(w, "a")
	})
	b := named(t, "b")
	g := unchecked("g", a, b)
	r.serve(g)
	n := map[string]int{}
	for range 20 {
		_, body := r.get("/")
		n[body]++
	}
	if n["a"] != 10 || n["b"] != 10 {
		t.Errorf("round robin: %v", n)
	}
	g.LeastOutstanding = true
	r.serve(g)
	var wg sync.WaitGroup
	for busy.Load() == 0 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r.client.Get(r.url("/hold"))
		}()
		for range 100 {
			if busy.Load() > 0 {
				break
			}
			r.get("/")
		}
	}
	for range 10 {
		r.expect("/", 200, "b")
	}
	close(release)
	wg.Wait()
}

func TestStickiness(t *testing.T) {
	r := newRig(t, model.PaceFast)
	g := unchecked("g", named(t, "a"), named(t, "b"))
	g.Stickiness = time.Hour
	r.serve(g)
	_, first, h := r.do(r.request("GET", "/", nil))
	pair := strings.Split(h.Get("Set-Cookie"), ";")[0]
	if !strings.HasPrefix(pair, "AWSALB=") || strings.Contains(pair, "127.0.0.1") {
		t.Fatalf("cookie %q", h.Get("Set-Cookie"))
	}
	for range 6 {
		r.expect("/", 200, first, header("Cookie", pair))
	}
	gone := g
	for i, x := range g.Targets { // the target drains: the client gets another
		if (i == 0) == (first == "a") {
			x.DrainingSince = time.Now()
			gone.Targets = []Target{x, g.Targets[1-i]}
		}
	}
	r.serve(gone)
	if status, body := r.get("/", header("Cookie", pair)); status != 200 || body == first {
		t.Errorf("%d %s from a target that drains", status, body)
	}
	r.expect("/", 200, "", header("Cookie", "AWSALB=nonsense"))

	// a client stays with its group
	action := forwardTo("g", "h")
	action.Sticky = time.Hour
	g.Stickiness = 0
	r.proxy.Apply(r.table([]Group{g, unchecked("h", named(t, "h"))}, Rule{Action: action}))
	_, first, h = r.do(r.request("GET", "/", nil))
	pair = strings.Split(h.Get("Set-Cookie"), ";")[0]
	for range 10 {
		if _, body := r.get("/", header("Cookie", pair)); (body == "h") != (first == "h") {
			t.Errorf("%s after %s", body, first)
		}
	}
}

// raw is a target whose connections the test handles itself.
func raw(t testing.TB, serve func(c net.Conn, n int64)) Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, n.Add(1))
		}
	}()
	return targetAt(t, l.Addr().String())
}

func TestRetries(t *testing.T) {
	r := newRig(t, model.PaceFast)
	breaks := raw(t, func(c net.Conn, _ int64) { // reads a request and hangs up
		http.ReadRequest(bufio.NewReader(c))
		c.Close()
	})
	echo := backend(t, func(w http.ResponseWriter, req *http.Request) { io.Copy(w, req.Body) })
	refuses := Target{ID: "refuses", Address: "127.0.0.1", Port: int32(freePort(t))}
	r.serve(unchecked("g", breaks, echo))
	for range 4 {
		r.expect("/", 200, "")
	}
	failed := 0
	for range 4 {
		if status, _, _ := r.do(r.request("POST", "/", strings.NewReader("once"))); status == 502 {
			failed++
		}
	}
	if failed != 2 {
		t.Errorf("%d of 4 POSTs failed; one that a target has read must not be sent to another", failed)
	}
	r.serve(unchecked("g", refuses, echo))
	for range 4 {
		if status, body, _ := r.do(r.request("POST", "/", strings.NewReader("whole"))); status != 200 || body != "whole" {
			t.Errorf("POST that never reached the first target: %d %q", status, body)
		}
	}
}

func TestAKeptConnectionThatDiesIsNotTheClientsProblem(t *testing.T) {
	r := newRig(t, model.PaceFast)
	target := raw(t, func(c net.Conn, _ int64) { // answers one request a connection, and says that it would take more
		defer c.Close()
		in := bufio.NewReader(c)
		if _, err := http.ReadRequest(in); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			http.ReadRequest(in)
		}
	})
	r.serve(unchecked("g", target))
	for range 20 {
		r.expect("/", 200, "ok")
	}
}

func TestServeHost(t *testing.T) {
	r := newRig(t, model.PaceFast)
	table := r.serve(unchecked("g", mirror(t)))
	table.Balancers = append(table.Balancers, Balancer{ARN: "bare", DNSName: "bare.elb.us-east-1.localhost"})
	r.proxy.Apply(table)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.proxy.ServeHost(w, req) {
			io.WriteString(w, "the API")
		}
	}))
	t.Cleanup(api.Close)
	for name, want := range map[string]string{"LB-1.elb.us-east-1.localhost:4566": `"X-Forwarded-Port":["` + api.URL[len("http://127.0.0.1:"):] + `"]`,
		"localhost": "the API", "bare.elb.us-east-1.localhost": "503"} {
		req, err := http.NewRequest("GET", api.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = name
		if _, body, _ := r.do(req); !strings.Contains(body, want) {
			t.Errorf("%s: %s, want %s", name, body, want)
		}
	}
}

func TestAClientThatLeavesIsNoFailure(t *testing.T) {
	r := newRig(t, model.PaceFast)
	arrived, left := make(chan struct{}), make(chan struct{})
	target := backend(t, func(_ http.ResponseWriter, req *http.Request) {
		close(arrived)
		<-req.Context().Done()
		close(left)
	})
	r.serve(unchecked("g", target))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	if _, err := r.client.Do(r.request("GET", "/", nil).WithContext(ctx)); err == nil {
		t.Fatal("it was answered")
	}
	<-left // the target learns of it
	if n := r.proxy.Stats("lb").Failed.Load(); n != 0 {
		t.Errorf("%d failures", n)
	}
}

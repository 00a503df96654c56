package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

const root = "arn:aws:iam::000000000000:root"

// api is an API that knows one operation, and that says whether it was only rehearsed.
type api struct{ called atomic.Int32 }

func (a *api) Invoke(ctx context.Context, c wire.Caller, service, op string, in []byte) ([]byte, error) {
	a.called.Add(1)
	if op == "Denied" {
		return nil, model.Errorf("AccessDeniedException", "no")
	}
	return fmt.Appendf(nil, `{"who":%q,"op":%q,"dry":%v,"in":%s}`, c.ARN, service+":"+op, store.IsDry(ctx), in), nil
}

func (a *api) Identify(r *http.Request) (wire.Caller, error) {
	if r.Header.Get("Authorization") == "" {
		return wire.Caller{}, model.Errorf("MissingAuthenticationToken", "Missing Authentication Token")
	}
	return wire.Caller{Account: "000000000000", ARN: root}, nil
}

type keys struct{}

func (keys) Secret(id, _ string) (string, wire.Caller, error) {
	if id != "AKIA" {
		return "", wire.Caller{}, model.Errorf("UnrecognizedClientException", "no")
	}
	return "secret", wire.Caller{Account: "000000000000", ARN: root, AccessKeyID: id}, nil
}

type rig struct {
	t     *testing.T
	c     *Console
	api   *api
	store store.Store
	srv   *httptest.Server
	now   atomic.Int64
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, api: &api{}, store: mem.New(store.Schema())}
	r.now.Store(time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC).UnixNano())
	ctx, cancel := context.WithCancel(t.Context())
	r.c = New(ctx, Config{Store: r.store, API: r.api, Keys: keys{}, Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, Hosts: []string{"box"},
		Now: func() time.Time { return time.Unix(0, r.now.Load()) }})
	r.srv = httptest.NewServer(r.c)
	t.Cleanup(func() { cancel(); r.srv.Close(); r.store.Close() })
	return r
}

func (r *rig) later(d time.Duration) { r.now.Add(int64(d)) }

// do sends a request and returns the status, the answer and the cookie.
func (r *rig) do(method, path, body string, change ...func(*http.Request)) (int, map[string]any, *http.Cookie) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.srv.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	res, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var out map[string]any
	_ = json.NewDecoder(res.Body).Decode(&out)
	var cookie *http.Cookie
	for _, c := range res.Cookies() {
		cookie = c
	}
	return res.StatusCode, out, cookie
}

// halves logs in.
func (r *rig) halves() (cookie *http.Cookie, key string) {
	r.t.Helper()
	token := strings.TrimPrefix(r.c.Link(wire.Caller{Account: "000000000000", ARN: root}), "/console/#login=")
	status, out, cookie := r.do("POST", "/console/api/login", fmt.Sprintf(`{"Token":%q}`, token))
	if status != 200 || cookie == nil {
		r.t.Fatalf("login: %d %v", status, out)
	}
	return cookie, out["key"].(string)
}

func with(c *http.Cookie, key string) func(*http.Request) {
	return func(r *http.Request) {
		if c != nil {
			r.AddCookie(c)
		}
		if key != "" {
			r.Header.Set(keyHeader, key)
		}
	}
}

func TestASessionNeedsBothHalves(t *testing.T) {
	r := newRig(t)
	cookie, key := r.halves()
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/console" {
		t.Errorf("the cookie is %v", cookie)
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"both":            {with(cookie, key), 200},
		"cookie only":     {with(cookie, ""), 401},
		"key only":        {with(nil, key), 401},
		"another's key":   {with(cookie, secret()), 401},
		"invented cookie": {with(&http.Cookie{Name: cookieName, Value: secret()}, key), 401},
	} {
		if status, out, _ := r.do("POST", "/console/api/aws/ecs/ListClusters", `{}`, c.change); status != c.status {
			t.Errorf("%s: %d %v, want %d", name, status, out, c.status)
		}
	}
	if n := r.api.called.Load(); n != 1 {
		t.Errorf("the API was called %d times", n)
	}
	r.store.View(func(v store.Reader) {
		for row := range store.ConsoleSessions.Scan(v, "") {
			if text, _ := json.Marshal(row); strings.Contains(string(text), key) || strings.Contains(string(text), cookie.Value) {
				t.Errorf("a half is stored: %s", text)
			}
		}
	})
	r.later(sessionIdle + time.Minute)
	if status, _, _ := r.do("POST", "/console/api/aws/ecs/ListClusters", `{}`, with(cookie, key)); status != 401 {
		t.Errorf("an idle session: %d", status)
	}
}

func TestALinkIsGoodOnceForAMinute(t *testing.T) {
	r := newRig(t)
	token := func() string { return strings.TrimPrefix(r.c.Link(wire.Caller{ARN: root}), "/console/#login=") }
	login := func(token string) int {
		status, _, _ := r.do("POST", "/console/api/login", fmt.Sprintf(`{"Token":%q}`, token))
		return status
	}
	a := token()
	if login(a) != 200 || login(a) != 403 {
		t.Error("a link is good more than once, or never")
	}
	b := token()
	r.later(linkLife + time.Second)
	if login(b) != 403 {
		t.Error("an old link is good")
	}
	r.later(time.Hour)
	if login("nonsense") != 403 {
		t.Error("any token is good")
	}
	if status, out, _ := r.do("POST", "/console/api/link", ``); status != 403 {
		t.Errorf("an unsigned request got a link: %d %v", status, out)
	}
	if _, out, _ := r.do("POST", "/console/api/link", ``, func(r *http.Request) { r.Header.Set("Authorization", "signed") }); out["path"] == nil {
		t.Errorf("a signed request got no link: %v", out)
	}
}

func TestLoginsAreBounded(t *testing.T) {
	r := newRig(t)
	body := `{"AccessKeyID":"AKIA","SecretAccessKey":"wrong"}`
	for i := range loginsAMinute {
		if status, out, _ := r.do("POST", "/console/api/login", body); status != 403 || out["code"] != "WrongKey" {
			t.Fatalf("try %d: %d %v", i, status, out)
		}
	}
	good := strings.Replace(body, "wrong", "secret", 1)
	if status, _, _ := r.do("POST", "/console/api/login", good); status != 429 {
		t.Errorf("the sixth try in a minute: %d", status)
	}
	r.later(time.Minute)
	if status, _, _ := r.do("POST", "/console/api/login", good); status != 200 {
		t.Errorf("after a minute: %d", status)
	}
	for _, bad := range []string{``, `{`, `[]`, `{"Token":5}`, strings.Repeat("x", 1<<20)} {
		r.later(time.Minute)
		if status, _, _ := r.do("POST", "/console/api/login", bad); status != 400 {
			t.Errorf("%.20q: %d", bad, status)
		}
	}
}

// A secret is taken from this machine only, as long as there is no TLS.
func TestASecretIsNotTakenInClear(t *testing.T) {
	r := newRig(t)
	w, req := httptest.NewRecorder(), httptest.NewRequest("POST", "http://192.0.2.1/console/api/login", strings.NewReader(`{"AccessKeyID":"AKIA","SecretAccessKey":"secret"}`))
	req.RemoteAddr = "192.0.2.7:1234"
	r.c.ServeHTTP(w, req)
	if w.Code != 403 || !strings.Contains(w.Body.String(), "PlainHTTP") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	r := newRig(t)
	cookie, key := r.halves()
	set := func(name, value string) func(*http.Request) {
		return func(q *http.Request) {
			with(cookie, key)(q)
			if name == "Host" {
				q.Host = value
			} else {
				q.Header.Set(name, value)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"another port's page":   {set("Origin", "http://127.0.0.1:1"), 403},
		"another site's page":   {set("Sec-Fetch-Site", "cross-site"), 403},
		"a name that rebinds":   {set("Host", "evil.example"), 421},
		"a name that was told":  {set("Host", "box:4566"), 200},
		"localhost":             {set("Host", "localhost:4566"), 200},
		"a load balancer's own": {set("Host", "[::1]:4566"), 200},
	} {
		if status, out, _ := r.do("POST", "/console/api/aws/ecs/ListClusters", `{}`, c.change); status != c.status {
			t.Errorf("%s: %d %v, want %d", name, status, out, c.status)
		}
	}
	for path, status := range map[string]int{"/console/": 200, "/console/clusters/x": 200, "/console/assets/none.js": 404, "/console/assets/..%2f..%2fgo.mod": 404, "/console/api/none": 404, "/console": 303} {
		got, _, _ := r.do("GET", path, "")
		if got != status {
			t.Errorf("GET %s: %d, want %d", path, got, status)
		}
	}
}

func TestCallsOfTheAPI(t *testing.T) {
	r := newRig(t)
	cookie, key := r.halves()
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"aws/ecs/ListClusters", `{"a":1}`, 200, "map[a:1]"},
		{"aws/ecs/Denied", `{}`, 403, "AccessDeniedException"},
		{"check/ecs/RegisterTaskDefinition", `{}`, 200, "dry:true"},
		{"check/ecs/ExecuteCommand", `{}`, 400, "CannotBeChecked"},
		{"check/logs/CreateLogGroup", `{}`, 400, "CannotBeChecked"},
		{"aws/ecs/ListClusters", strings.Repeat("x", maxRequest+1), 413, "RequestEntityTooLarge"},
	} {
		status, out, _ := r.do("POST", "/console/api/"+c.path, c.body, with(cookie, key))
		if status != c.status || !strings.Contains(fmt.Sprint(out), c.want) {
			t.Errorf("%s: %d %v", c.path, status, out)
		}
	}
}

// dial opens the WebSocket; the key is sent unless it is "".
func (r *rig) dial(cookie *http.Cookie, key, origin string) (*websocket.Conn, error) {
	h := http.Header{"Origin": {origin}}
	if cookie != nil {
		h.Set("Cookie", cookie.String())
	}
	c, _, err := websocket.DefaultDialer.Dial(strings.Replace(r.srv.URL, "http", "ws", 1)+"/console/api/live", h)
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { c.Close() })
	return c, c.WriteJSON(map[string]string{"key": key})
}

// next is the next message of a subscription.
func next(t *testing.T, c *websocket.Conn, sub int) message {
	t.Helper()
	for {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		var m message
		if err := c.ReadJSON(&m); err != nil {
			t.Fatal(err)
		}
		if m.Sub == sub {
			return m
		}
	}
}

func (r *rig) update(f func(tx store.Tx)) {
	r.t.Helper()
	if err := r.store.Update(r.t.Context(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		r.t.Fatal(err)
	}
}

func task(id string, s model.TaskStatus) *model.Task {
	return &model.Task{ID: id, Cluster: "shop", Service: "web", Family: "web", Revision: 1, NodeID: "n", Desired: model.Running, Observed: model.Observed{Status: s}}
}

func TestLive(t *testing.T) {
	r := newRig(t)
	cookie, key := r.halves()
	if _, err := r.dial(cookie, key, "http://127.0.0.1:1"); err == nil {
		t.Error("another port's page was let in")
	}
	for name, c := range map[string]struct {
		cookie *http.Cookie
		key    string
	}{"no cookie": {nil, key}, "no key": {cookie, ""}, "wrong key": {cookie, secret()}} {
		conn, err := r.dial(c.cookie, c.key, r.srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, closeNotLoggedIn) {
			t.Errorf("%s: %v", name, err)
		}
	}
	conn, err := r.dial(cookie, key, r.srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.update(func(tx store.Tx) {
		store.Tasks.Put(tx, task("a", model.Pending))
		store.Tasks.Put(tx, task("b", model.Running))
	})
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(conn.WriteJSON(map[string]any{"sub": 1, "topic": "tasks", "cluster": "shop"}))
	if m := next(t, conn, 1); !m.Snap || len(m.Set) != 2 {
		t.Errorf("the snapshot: %+v", m)
	}
	r.update(func(tx store.Tx) { store.Tasks.Put(tx, task("b", model.Stopping)) })
	if m := next(t, conn, 1); m.Snap || len(m.Set) != 1 || !strings.Contains(string(m.Set[0]), `"k":"b"`) || len(m.Del) != 0 {
		t.Errorf("one change: %+v", m)
	}
	r.update(func(tx store.Tx) { store.Tasks.Delete(tx, "a") })
	if m := next(t, conn, 1); len(m.Del) != 1 || m.Del[0] != "a" {
		t.Errorf("a deletion: %+v", m)
	}
	must(conn.WriteJSON(map[string]any{"sub": 2, "topic": "nonsense"}))
	if m := next(t, conn, 2); m.Error == nil || m.Error.Code != "NoSuchTopic" {
		t.Errorf("a topic that there is not: %+v", m)
	}
	must(conn.WriteMessage(websocket.TextMessage, []byte("{broken")))
	for _, topic := range []string{"clusters", "services", "service", "task", "nodes", "balancers", "images", "events", "taskdefs", "trouble", "sessions"} {
		must(conn.WriteJSON(map[string]any{"sub": 9, "topic": topic}))
		if m := next(t, conn, 9); m.Error != nil || !m.Snap {
			t.Errorf("%s: %+v", topic, m)
		}
	}
	// The hub sleeps when nobody looks.
	conn.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		r.c.hub.mu.Lock()
		asleep := r.c.hub.asleep
		r.c.hub.mu.Unlock()
		if asleep {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the hub does not sleep")
		}
	}
}

// A session that is ended ends its tabs.
func TestRevokedSessionsAreCut(t *testing.T) {
	r := newRig(t)
	cookie, key := r.halves()
	conn, err := r.dial(cookie, key, r.srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	var hello map[string]any
	if err := conn.ReadJSON(&hello); err != nil || hello["hello"] == nil {
		t.Fatalf("%v %v", hello, err)
	}
	if status, _, _ := r.do("POST", "/console/api/logout", `{}`, with(cookie, key)); status != 200 {
		t.Fatal(status)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			if !websocket.IsCloseError(err, closeNotLoggedIn) {
				t.Errorf("%v", err)
			}
			return
		}
	}
}

// A viewer that reads nothing holds keys that changed, never a queue, and gets the newest state.
func TestASlowViewerTakesBoundedMemory(t *testing.T) {
	r := newRig(t)
	v := &viewer{s: r.c, notice: make(chan struct{}, 1)}
	src, err := r.c.source(want{Topic: "tasks"}, &model.ConsoleSession{ARN: root})
	if err != nil {
		t.Fatal(err)
	}
	one := r.c.hub.add(v, 1, "tasks", src)
	defer r.c.hub.drop(one)
	r.update(func(tx store.Tx) { store.Tasks.Put(tx, task("a", model.Pending)) })
	r.c.hub.look(nil, true)
	if m, ok := r.c.hub.take(one); !ok || !m.Snap {
		t.Fatalf("%+v %v", m, ok)
	}
	for range 100 {
		for _, s := range []model.TaskStatus{model.Running, model.Pending, model.Activating} {
			r.update(func(tx store.Tx) { store.Tasks.Put(tx, task("a", s)) })
			r.c.hub.look(nil, true)
		}
	}
	r.c.hub.mu.Lock()
	dirty := len(one.dirty)
	r.c.hub.mu.Unlock()
	if dirty != 1 {
		t.Errorf("%d keys are kept for one row", dirty)
	}
	if m, ok := r.c.hub.take(one); !ok || len(m.Set) != 1 || !strings.Contains(string(m.Set[0]), "ACTIVATING") {
		t.Errorf("%+v %v", m, ok)
	}
}

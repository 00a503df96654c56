package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/serve/proxy/link"
)

// TestMain is also the process: a Keeper in a test starts this program again.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "proxy" {
		c, err := ReadConfig(os.Args[3])
		switch {
		case c.Version == "ends at once":
			os.Exit(1)
		case c.Version == "ends soon":
			time.AfterFunc(20*time.Millisecond, func() { os.Exit(1) })
		}
		if err == nil {
			err = Run(context.Background(), c, os.NewFile(3, "keeper"), slog.New(slog.NewTextHandler(os.Stderr, nil)))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rig is a Keeper with its process, which serves one load balancer "lb.test" with a fixed answer.
type rig struct {
	t      *testing.T
	conf   Config
	port   int
	keeper *Keeper
	stop   func()
	// of the Keeper:
	silence time.Duration
	log     slog.Handler
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

func newRig(t *testing.T) *rig {
	dir := t.TempDir()
	r := &rig{t: t, port: freePort(t), conf: Config{Dir: filepath.Join(dir, "run"), Listen: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		Pace: model.PaceFast, LogFile: filepath.Join(dir, "proxy.log"), Version: "one"}, log: slog.DiscardHandler}
	t.Cleanup(func() {
		if r.stop != nil {
			r.stop()
		}
		if err := Stop(context.Background(), r.conf); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(r.conf.LogFile)
			t.Logf("the process's log:\n%s", log)
		}
	})
	return r
}

// keep opens a Keeper as `berth up` does, and feeds.
func (r *rig) keep(version string) {
	r.t.Helper()
	r.conf.Version = version
	k, err := OpenKeeper(KeeperConfig{Config: r.conf, Log: slog.New(r.log), OnHealth: func(model.TargetHealth) {},
		OnProblem: func(string, string) {}, Silence: r.silence})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := k.Start(context.Background(), []string{"127.0.0.1"}); err != nil {
		r.t.Fatal(err)
	}
	k.Change(r.table("hello").Whole())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := k.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.keeper = k
	r.stop = func() {
		cancel()
		<-done
		k.Close()
		r.stop = nil
	}
}

func (r *rig) table(answer string) proxy.Table {
	return proxy.Table{Balancers: []proxy.Balancer{{ARN: "lb", DNSName: "lb.test", IdleTimeout: time.Minute, Listeners: []proxy.Listener{
		{ARN: "l", Port: r.port, Rules: []proxy.Rule{{Action: proxy.Action{Fixed: &proxy.FixedResponse{Status: 200, Body: answer}}}}}}}}}
}

// kill ends the process with SIGKILL and returns what it was.
func (r *rig) kill() int {
	r.t.Helper()
	pid := r.pid()
	if pid <= 1 {
		r.t.Fatal("no process runs")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// pid is the process that listens, 0 when none does.
func (r *rig) pid() int {
	conn, err := link.Dial(r.conf.Socket())
	if err != nil {
		return 0
	}
	defer conn.Close()
	hello, open, err := link.Greet(conn, link.Look)
	for _, fd := range open {
		unix.Close(fd)
	}
	if err != nil {
		return 0
	}
	return hello.PID
}

func (r *rig) get(port int) (string, error) {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: lb.test\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// answers waits until the load balancer does, and the keeper has its socket.
func (r *rig) answers(want string) {
	r.t.Helper()
	held := func() bool {
		r.keeper.mu.Lock()
		defer r.keeper.mu.Unlock()
		_, ok := r.keeper.sockets[fmt.Sprintf("127.0.0.1:%d", r.port)]
		return ok
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		got, err := r.get(r.port)
		if err == nil && got == want && held() {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the answer is %q, %v; want %q", got, err, want)
		}
	}
}

// asking sends one request after another until stop, which returns what failed.
func (r *rig) asking() (stop func() (n int, failed []error)) {
	var n int
	var failed []error
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				if n >= 50 {
					return
				}
			default:
			}
			n++
			if _, err := r.get(r.port); err != nil {
				failed = append(failed, err)
			}
		}
	}()
	return func() (int, []error) {
		close(end)
		<-done
		return n, failed
	}
}

func TestTheProcessOutlivesItsKeeperAndIsUpgraded(t *testing.T) {
	r := newRig(t)
	r.keep("one")
	r.answers("hello")
	first := r.pid()
	stop := r.asking()
	r.stop()
	if got, err := r.get(r.port); err != nil || got != "hello" {
		t.Errorf("without a keeper: %q %v", got, err)
	}
	r.keep("one")
	if pid := r.pid(); pid != first {
		t.Errorf("process %d was replaced by %d", first, pid)
	}
	r.stop()
	r.keep("two")
	if pid := r.pid(); pid == first || pid == 0 {
		t.Errorf("the process of the new version is %d, the old one's %d", pid, first)
	}
	r.keeper.Change(proxy.Delta{Balancers: r.table("changed").Balancers})
	r.answers("changed")
	if n, failed := stop(); len(failed) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failed), n, failed)
	}
	s, err := r.keeper.Stats(context.Background())
	if err != nil || s.Balancers["lb"].Requests == 0 {
		t.Errorf("counters %+v %v", s, err)
	}
}

// One that is killed is back, with what it served, and a connection that came meanwhile is served.
func TestAKilledProcessIsBack(t *testing.T) {
	r := newRig(t)
	r.keep("one")
	r.answers("hello")
	for range 3 {
		pid := r.kill()
		began := time.Now()
		if got, err := r.get(r.port); err != nil || got != "hello" { // it may be the dying one's; that is over at the second
			t.Logf("at the moment of the kill: %q %v", got, err)
		}
		if got, err := r.get(r.port); err != nil || got != "hello" {
			t.Fatalf("after the kill: %q %v", got, err)
		}
		t.Logf("back after %s", time.Since(began))
		for r.pid() == pid || r.pid() == 0 {
			time.Sleep(time.Millisecond)
		}
		r.answers("hello")
	}
	// Killed while nobody keeps it: the next keeper brings it back before it knows a table.
	r.stop()
	r.kill()
	for r.pid() != 0 {
		time.Sleep(time.Millisecond)
	}
	k, err := OpenKeeper(KeeperConfig{Config: r.conf, Log: slog.New(slog.DiscardHandler), OnHealth: func(model.TargetHealth) {},
		OnProblem: func(string, string) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if got, err := r.get(r.port); err != nil || got != "hello" {
		t.Errorf("from the table on disk: %q %v", got, err)
	}
}

// A process that was being started when its keeper was killed has the port before it can be heard: the next keeper finds it then.
func TestAProcessThatIsStillStartingIsFound(t *testing.T) {
	r := newRig(t)
	r.keep("one")
	r.answers("hello")
	r.stop()
	first, socket := r.pid(), r.conf.Socket()
	hidden := socket + ".hidden"
	if err := os.Rename(socket, hidden); err != nil {
		t.Fatal(err)
	}
	back := make(chan error, 1)
	time.AfterFunc(200*time.Millisecond, func() { back <- os.Rename(hidden, socket) })
	r.keep("one")
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	r.answers("hello")
	if pid := r.pid(); pid != first {
		t.Errorf("process %d was replaced by %d", first, pid)
	}
}

// A port that is given back can be taken at once, though the keeper holds a duplicate of its socket.
func TestAPortThatIsGivenBackIsFree(t *testing.T) {
	r := newRig(t)
	r.keep("one")
	for range 10 {
		r.keeper.Change(r.table("hello").Whole())
		r.answers("hello")
		r.keeper.Change(proxy.Delta{GoneBalancers: []string{"lb"}})
		var err error
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			var l net.Listener
			if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.port)); err == nil {
				l.Close()
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPortOfAnotherProgramIsSaidAtOnce(t *testing.T) {
	r := newRig(t)
	other, err := net.Listen("tcp", r.conf.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, err = OpenKeeper(KeeperConfig{Config: r.conf, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
}

// What was served and seen is read back, also when the process was interrupted in the middle of a write, and the file does not grow
// without bound.
func TestTheJournalIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table")
	p := proxy.New(proxy.Config{OnHealth: func(model.TargetHealth) {}, OnProblem: func(string, string) {}, Now: time.Now,
		Log: slog.New(slog.DiscardHandler)})
	defer p.Close()
	j := newJournal(path, func() (proxy.Table, []model.TargetHealth) { return p.Table(), nil }, slog.New(slog.DiscardHandler))
	if err := j.begin(); err != nil {
		t.Fatal(err)
	}
	group := proxy.Group{ARN: "g", Targets: make([]proxy.Target, 100)}
	for i := range group.Targets {
		group.Targets[i] = proxy.Target{ID: fmt.Sprint("10.0.0.", i), Port: 80, Address: fmt.Sprint("10.0.0.", i)}
	}
	group.Check.Disabled = true
	var largest int64
	for i := range 600 {
		group.MinHealthy = i
		d := proxy.Delta{Groups: []proxy.Group{group, {ARN: fmt.Sprint("g", i)}}, Balancers: []proxy.Balancer{{ARN: "lb"}}}
		if i > 0 {
			d.GoneGroups = []string{fmt.Sprint("g", i-1)}
		}
		p.Change(d)
		j.change(d)
		if st, err := os.Stat(path); err == nil {
			largest = max(largest, st.Size())
		}
	}
	if largest > 2*minRewrite {
		t.Errorf("it grew to %d bytes", largest)
	}
	h := model.TargetHealth{TargetGroupARN: "g", ID: "10.0.0.1", Port: 80, State: "unhealthy"}
	done := make(chan struct{})
	go func() { j.run(done) }()
	j.health(h)
	for {
		if _, known, err := readJournal(path); err != nil {
			t.Fatal(err)
		} else if known[h.Key()].State == "unhealthy" {
			break
		}
	}
	close(done)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte{0, 0, 1, 0, '{', '"'})
	f.Close()
	table, _, err := readJournal(path)
	if err != nil || table.Groups["g"].MinHealthy != 599 || len(table.Groups) != 2 || len(table.Balancers) != 1 {
		t.Errorf("%d groups, %d balancers, %v", len(table.Groups), len(table.Balancers), err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}

// server is what stands behind the API's port.
func (r *rig) server(h http.HandlerFunc) (stop func()) {
	r.t.Helper()
	l, err := r.conf.ListenAPI()
	if err != nil {
		r.t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(Behind(l))
	return func() { s.Close() }
}

// What a signature covers reaches the server byte for byte, with the client's own address.
func TestTheAPIGetsWhatTheClientSent(t *testing.T) {
	r := newRig(t)
	r.keep("one")
	r.answers("hello")
	seen := make(chan string, 1)
	defer r.server(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		seen <- fmt.Sprintf("%s %s %s %q %q %s len %d from %s", req.Method, req.RequestURI, req.Host, req.Header["X-Forwarded-For"],
			req.Header.Values("X-Amz-Meta"), body, req.ContentLength, req.RemoteAddr)
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(418)
	})()
	for _, c := range []struct{ request, want string }{
		{"GET /a%2fb//c/%7Ex?b=2&a=%20;x HTTP/1.1\r\nHost: Some.Host:4566\r\nX-Forwarded-For: 1.2.3.4\r\nX-Amz-Meta:  a  b \r\nX-Amz-Meta: c\r\n\r\n",
			`GET /a%2fb//c/%7Ex?b=2&a=%20;x Some.Host:4566 ["1.2.3.4"] ["a  b" "c"]  len 0`},
		{"POST /? HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", `POST /? h [] [] abc len 3`},
		{"POST //x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `POST //x h [] [] abc len -1`},
		{"PUT /\"<> HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", `PUT /"<> h [] []  len 0`},
	} {
		conn, err := net.Dial("tcp", r.conf.Listen)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, c.request)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != 418 || res.Header.Get("X-Answer") != "yes" {
			t.Fatalf("%q: %+v %v", c.request, res, err)
		}
		if got, want := <-seen, c.want+" from "+conn.LocalAddr().String(); got != want {
			t.Errorf("the server got\n%s, want\n%s", got, want)
		}
		conn.Close()
	}
	if got, err := r.get(portOf(r.conf.Listen)); err != nil || got == "" {
		t.Errorf("a load balancer's name at the API's port: %q %v", got, err)
	}
}

func portOf(address string) (n int) {
	_, port, _ := net.SplitHostPort(address)
	fmt.Sscan(port, &n)
	return n
}

// Bodies are not asked for before the server wants them, connections that switch protocols are carried, HTTP/2 is spoken.
func TestTheAPICarriesEverything(t *testing.T) {
	r := newRig(t)
	r.keep("one")
	r.answers("hello")
	defer r.server(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/refuse":
			w.WriteHeader(403)
		case "/switch":
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, rw)
			c.Close()
		default:
			io.Copy(w, req.Body)
		}
	})()
	conn, err := net.Dial("tcp", r.conf.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := bufio.NewReader(conn)
	fmt.Fprint(conn, "PUT /refuse HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
	if res, err := http.ReadResponse(read, nil); err != nil || res.StatusCode != 403 {
		t.Errorf("the body was asked for: %+v %v", res, err)
	}
	ws, err := net.Dial("tcp", r.conf.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	read = bufio.NewReader(ws)
	fmt.Fprint(ws, "GET /switch HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if res, err := http.ReadResponse(read, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("%+v %v", res, err)
	}
	fmt.Fprintln(ws, "ping")
	if line, err := read.ReadString('\n'); line != "ping\n" {
		t.Errorf("%q %v", line, err)
	}
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	res, err := (&http.Client{Transport: h2}).Post("http://"+r.conf.Listen+"/echo", "text/plain", bytes.NewReader(big))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	sum := sha256.New()
	if n, err := io.Copy(sum, res.Body); err != nil || n != int64(len(big)) || res.ProtoMajor != 2 {
		t.Errorf("%d bytes over %s: %v", n, res.Proto, err)
	}
}

// While no server runs, requests wait for it; when it does not come they get a 503 that SDKs understand, and nothing is sent twice.
func TestTheAPIWaitsForTheServer(t *testing.T) {
	dir := t.TempDir()
	conf := Config{Dir: dir}
	a := newAPI(proxy.New(proxy.Config{Log: slog.New(slog.DiscardHandler)}), conf.APISocket(), slog.New(slog.DiscardHandler))
	front := httptest.NewUnstartedServer(a)
	front.Config.ConnContext = a.newServer().ConnContext
	front.Start()
	defer front.Close()
	answers := make(chan string, 4)
	for range 4 {
		go func() {
			res, err := http.Post(front.URL, "application/x-amz-json-1.1", strings.NewReader("{}"))
			if err != nil {
				answers <- err.Error()
				return
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			answers <- string(b)
		}()
	}
	for {
		a.server.mu.Lock()
		waiting := a.server.wait != nil && a.server.wait.count == 4
		a.server.mu.Unlock()
		if waiting {
			break
		}
		time.Sleep(time.Millisecond)
	}
	r := &rig{t: t, conf: conf}
	stop := r.server(func(w http.ResponseWriter, req *http.Request) { io.Copy(w, req.Body) })
	for range 4 {
		if got := <-answers; got != "{}" {
			t.Errorf("a request that waited got %q", got)
		}
	}
	stop()
	a.server.hold = 20 * time.Millisecond
	for contentType, want := range map[string]string{"application/x-amz-json-1.1": `"__type":"ServiceUnavailableException"`,
		"application/x-www-form-urlencoded": "<Code>ServiceUnavailable</Code>"} {
		res, err := http.Post(front.URL, contentType, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 503 || !strings.Contains(string(b), want) || !strings.Contains(string(b), "try again") {
			t.Errorf("%s: %d %s", contentType, res.StatusCode, b)
		}
	}
	var calls atomic.Int64
	defer r.server(func(w http.ResponseWriter, req *http.Request) {
		calls.Add(1)
		c, _, _ := http.NewResponseController(w).Hijack()
		c.Close()
	})()
	res, err := http.Post(front.URL, "text/plain", strings.NewReader("x"))
	if err != nil || res.StatusCode != 503 || calls.Load() != 1 {
		t.Errorf("a server that died over a request: %+v %v, %d calls", res, err, calls.Load())
	}
}

// Nobody can say who a client is but the proxy.
func TestTheLineBeforeARequestIsStrict(t *testing.T) {
	for _, line := range []string{"", "\n", "GET / HTTP/1.1\r\n", "berth1 1.2.3.4:5\n", "berth1 x y\n", strings.Repeat("a", 1000)} {
		near, far := net.Pipe()
		go func() {
			io.WriteString(near, line)
			near.Close()
		}()
		f := &forwarded{Conn: far}
		if n, err := f.Read(make([]byte, 10)); n > 0 || err == nil {
			t.Errorf("%q: %d bytes were read, %v", line, n, err)
		}
		far.Close()
	}
}

func TestTheLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := OpenLog(Config{LogFile: path})
	if err != nil {
		t.Fatal(err)
	}
	l.max = 1000
	for i := range 300 {
		if _, err := fmt.Fprintf(l, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	var all string
	for _, name := range []string{path + ".1", path} {
		data, err := os.ReadFile(name)
		if err != nil || len(data) > 1000 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
		all += string(data)
	}
	if !strings.HasSuffix(all, "line 298\nline 299\n") || strings.Contains(all, "line 10\n") {
		t.Errorf("the log holds %q", all)
	}
}

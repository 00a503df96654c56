package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// libraryVariable makes net/http read everything, as it does what the fast path does not serve.
const libraryVariable = "BERTH_PROXY_LIBRARY"

// TestTheSuiteOverNetHTTP runs every test of this package again, over net/http instead of the fast path.
func TestTheSuiteOverNetHTTP(t *testing.T) {
	if os.Getenv(libraryVariable) != "" {
		t.Skip("it runs")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.timeout=3m", "-test.run=^Test")
	cmd.Env = append(os.Environ(), libraryVariable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// onlyFast skips a test of what the library does otherwise.
func onlyFast(t *testing.T) {
	if os.Getenv(libraryVariable) != "" {
		t.Skip("the fast path's own")
	}
}

// connect opens a connection to the proxy.
func (r *rig) connect() (net.Conn, *bufio.Reader) {
	r.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(15 * time.Second))
	return c, bufio.NewReader(c)
}

// reading reads an answer to a request of that method.
func reading(t testing.TB, in *bufio.Reader, method string) (*http.Response, string, error) {
	t.Helper()
	res, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

// says is a target that answers every request with the same bytes, and ends the connection when last.
func says(t testing.TB, answer string, last bool) Target {
	return raw(t, func(c net.Conn, _ int64) {
		defer c.Close()
		for in := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, answer)
			if last {
				return
			}
		}
	})
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	r := newRig(t, model.PaceFast)
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%s %s %s", req.Method, req.URL.Path, b)
	})))
	conn, in := r.connect()
	var all bytes.Buffer
	for i := range 40 {
		fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", i)
		fmt.Fprintf(&all, "PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", i)
	}
	go conn.Write(all.Bytes())
	for i := range 40 {
		for _, want := range []string{fmt.Sprintf("GET /%d ", i), fmt.Sprintf("POST /%d hello", i), fmt.Sprintf("PUT /%d abcde", i)} {
			if _, body, err := reading(t, in, "GET"); err != nil || body != want {
				t.Fatalf("%q, want %q: %v", body, want, err)
			}
		}
	}
}

func TestWhatTheFastPathRefuses(t *testing.T) {
	onlyFast(t)
	r := newRig(t, model.PaceFast)
	var reached atomic.Int64
	r.serve(unchecked("g", backend(t, func(_ http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/ok" {
			reached.Add(1)
		}
	})))
	const ok = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"
	for text, want := range map[string]int{
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello":              400,
		"GET /x HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n":                                                     400,
		"GET /x HTTP/1.1\r\nHost: a\r\n\tX: y\r\n\r\n":                                                    400,
		"GET /x HTTP/1.1\nHost: a\n\n":                                                                    400,
		"GET /x HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n":                                                   400,
		"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n":                                                      400,
		"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03":                                                    400,
		"GET /x HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n":                       431,
		"GET /x HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 80<<10) + "\r\n\r\n":                    431,
		"GET /x HTTP/3.0\r\nHost: a\r\n\r\n":                                                              505,
	} {
		conn, in := r.connect()
		io.WriteString(conn, ok+text+ok)
		if res, _, err := reading(t, in, "GET"); err != nil || res.StatusCode != 200 {
			t.Fatal(err)
		}
		res, body, err := reading(t, in, "GET")
		if err != nil || res.StatusCode != want || !res.Close || !strings.Contains(body, fmt.Sprint("<h1>", want, " ")) {
			t.Errorf("%.60q: %v %q %v, want %d", text, res, body, err, want)
		}
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("%.60q: afterwards %v", text, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("a request reached the target")
	}
}

func TestABodyThatIsNoneEndsTheRequest(t *testing.T) {
	onlyFast(t)
	r := newRig(t, model.PaceFast)
	var whole atomic.Int64
	r.serve(unchecked("g", backend(t, func(_ http.ResponseWriter, req *http.Request) {
		if _, err := io.ReadAll(req.Body); err == nil {
			whole.Add(1)
		}
	})))
	for _, body := range []string{"5\r\nhello\r\nx\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhello!\r\n0\r\n\r\n", "ffffffffffffffffff\r\n", "0\r\nX : y\r\n\r\n"} {
		conn, in := r.connect()
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body+getRoot)
		if res, _, err := reading(t, in, "GET"); err != nil || res.StatusCode != 400 || !res.Close {
			t.Errorf("%q: %v %v", body, res, err)
		}
		if _, err := in.ReadByte(); err == nil {
			t.Errorf("%q: the connection goes on", body)
		}
	}
	if whole.Load() != 0 {
		t.Error("the target took a malformed body for a whole one")
	}
	if c := r.proxy.Snapshot().Balancers["lb"]; c.Failed != 0 {
		t.Errorf("the client's fault counts as ours: %+v", c)
	}
}

// What the fast path leaves to net/http works on the same connection, after requests that it served.
func TestConnectionsAreHandedOver(t *testing.T) {
	r := newRig(t, model.PaceFast)
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%s %s %s", req.Method, req.RequestURI, b)
	})))
	for name, c := range map[string]struct{ text, want string }{
		"expect":   {"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "POST /e hello"},
		"1.0":      {"POST /o HTTP/1.0\r\nContent-Length: 5\r\n\r\n", "POST /o hello"},
		"strange":  {"POST /a|b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "POST /a%7Cb hello"},
		"absolute": {"POST http://a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "POST /b hello"},
		"trailers": {"POST /t HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", "POST /t hello"},
	} {
		conn, in := r.connect()
		io.WriteString(conn, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, body, err := reading(t, in, "GET"); err != nil || body != "GET /1 " {
			t.Fatal(name, body, err)
		}
		io.WriteString(conn, c.text+"hello")
		if name == "trailers" {
			io.WriteString(conn, "\r\n0\r\n\r\n")
		}
		res, body, err := reading(t, in, "POST")
		for err == nil && res.StatusCode == 100 {
			res, body, err = reading(t, in, "POST")
		}
		if err != nil || body != c.want {
			t.Errorf("%s: %q %v", name, body, err)
		}
	}
}

func TestAnUploadThatBreaksOffEndsTheTargetsRequest(t *testing.T) {
	onlyFast(t) // net/http tells us too late whose fault it was
	r := newRig(t, model.PaceFast)
	ended := make(chan error, 1)
	r.serve(unchecked("g", backend(t, func(_ http.ResponseWriter, req *http.Request) {
		_, err := io.ReadAll(req.Body)
		ended <- err
	})))
	for _, kind := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		conn, _ := r.connect()
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n64\r\nbegun", kind)
		conn.Close()
		if err := <-ended; err == nil {
			t.Errorf("%s: the target took half a body for a whole one", kind)
		}
	}
	if n := r.proxy.Stats("lb").Failed.Load(); n != 0 {
		t.Errorf("%d failures", n)
	}
}

func TestAClientThatLeavesAStreamEndsIt(t *testing.T) {
	r := newRig(t, model.PaceFast)
	left := make(chan struct{})
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		<-req.Context().Done()
		close(left)
	})))
	conn, in := r.connect()
	io.WriteString(conn, getRoot)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != 200 {
		t.Fatal(err)
	}
	conn.Close()
	<-left
}

// A client that sends its next request early, while a long one is answered, loses nothing.
func TestTheNextRequestMayComeWhileOneIsAnswered(t *testing.T) {
	r := newRig(t, model.PaceFast)
	release := make(chan struct{})
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/slow" {
			<-release
		}
		io.WriteString(w, req.URL.Path)
	})))
	conn, in := r.connect()
	io.WriteString(conn, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	go func() {
		for _, b := range []byte("GET /next HTTP/1.1\r\nHost: a\r\n\r\n") { // more slowly than somebody begins to watch
			time.Sleep(timeouts.ProxyWatch / 8)
			conn.Write([]byte{b})
		}
		close(release)
	}()
	for _, want := range []string{"/slow", "/next"} {
		if _, body, err := reading(t, in, "GET"); err != nil || body != want {
			t.Fatal(body, err)
		}
	}
}

func TestRequestsInFlightEndWhenTheProxyCloses(t *testing.T) {
	onlyFast(t) // net/http waits for connections that are new
	r := newRig(t, model.PaceFast)
	arrived, release := make(chan struct{}), make(chan struct{})
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		close(arrived)
		<-release
		io.WriteString(w, "done")
	})))
	quiet, _ := r.connect()
	conn, in := r.connect()
	io.WriteString(conn, getRoot)
	<-arrived
	closed := make(chan struct{})
	go func() { r.proxy.Close(); close(closed) }()
	if _, err := quiet.Read(make([]byte, 1)); err != io.EOF { // while the other is in flight
		t.Error("a connection without a request:", err)
	}
	close(release)
	if _, body, err := reading(t, in, "GET"); err != nil || body != "done" {
		t.Error(body, err)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Error(err)
	}
	<-closed
}

func TestLeavingAsksClientsToGo(t *testing.T) {
	r := newRig(t, model.PaceFast)
	r.serve(unchecked("g", named(t, "x")))
	conn, in := r.connect()
	for _, leaving := range []bool{false, true} {
		r.proxy.leaving.Store(leaving)
		io.WriteString(conn, getRoot)
		if res, _, err := reading(t, in, "GET"); err != nil || res.Close != leaving {
			t.Errorf("%v %v", res, err)
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Error(err)
	}
}

func TestKeptConnectionsToTargetsAreSwept(t *testing.T) {
	onlyFast(t)
	r := newRig(t, model.PaceFast)
	target := named(t, "x")
	table := r.serve(unchecked("g", target))
	f := r.proxy.forward
	own := &r.proxy.targets[model.TargetKey("g", target.ID, target.Port)].kept
	// one asks, and tells how many connections are kept afterwards
	one := func() int64 {
		r.expect("/", 200, "x")
		r.awaitNothingInFlight("g", target)
		return f.kept.Load()
	}
	one()
	if n := one(); n != 1 {
		t.Errorf("%d are kept", n)
	}
	if f.sweep(); f.kept.Load() != 1 {
		t.Error("a good one is not kept")
	}
	own.mu.Lock()
	own.free[0].until = time.Now()
	own.mu.Unlock()
	if f.sweep(); f.kept.Load() != 0 {
		t.Error("one that is old is kept")
	}
	if n := one(); n != 1 {
		t.Errorf("%d are kept", n)
	}
	r.proxy.Apply(Table{Balancers: table.Balancers})
	own.mu.Lock()
	defer own.mu.Unlock()
	if f.kept.Load() != 0 || !own.closed {
		t.Error("a target that is gone has connections")
	}
}

// A fault of the proxy itself ends the connection that met it, and nothing else.
func TestAPanicEndsOneConnection(t *testing.T) {
	onlyFast(t)
	r := newRig(t, model.PaceFast)
	target := named(t, "x")
	r.serve(unchecked("g", target))
	var faulty atomic.Bool
	dial := r.proxy.forward.dial
	r.proxy.forward.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if faulty.Load() {
			panic("a fault")
		}
		return dial(ctx, network, address)
	}
	faulty.Store(true)
	conn, in := r.connect()
	io.WriteString(conn, getRoot)
	if _, err := in.ReadByte(); err == nil {
		t.Error("it is answered")
	}
	faulty.Store(false)
	r.expect("/", 200, "x")
	r.awaitNothingInFlight("g", target)
	if c := r.proxy.Snapshot().Targets[model.TargetKey("g", target.ID, target.Port)]; c.Requests != 2 {
		t.Errorf("%+v", c)
	}
}

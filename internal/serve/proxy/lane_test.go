package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
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

func TestAnswersOfAllShapes(t *testing.T) {
	for name, c := range map[string]struct {
		method, answer string
		last           bool // the target closes
		status         int
		body           string
		has            string // of the answer's head
	}{
		"length":            {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 200, "hello", "Content-Length:[5]"},
		"chunked":           {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", false, 200, "hello", ""},
		"until the end":     {"GET", "HTTP/1.1 200 OK\r\n\r\nhello", true, 200, "hello", ""},
		"HTTP/1.0":          {"GET", "HTTP/1.0 200 OK\r\nServer: Simple\r\n\r\nhello", true, 200, "hello", "Server:[Simple]"},
		"no reason":         {"GET", "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", false, 404, "", ""},
		"HEAD":              {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, 200, "", "Content-Length:[5]"},
		"204":               {"GET", "HTTP/1.1 204 No Content\r\n\r\n", false, 204, "", ""},
		"304":               {"GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n", false, 304, "", "Etag"},
		"closing":           {"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", true, 200, "hello", ""},
		"hop by hop":        {"GET", "HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nConnection: X-A\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: 0\r\n\r\n", false, 200, "", "X-B:[2]"},
		"interim":           {"GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 103, "", "Link"},
		"strange status":    {"GET", "HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", false, 599, "", ""},
		"two lengths":       {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", true, 502, "Bad Gateway", ""},
		"no HTTP":           {"GET", "SSH-2.0-OpenSSH_9.2\r\n\r\n", true, 502, "Bad Gateway", ""},
		"nothing":           {"GET", "", true, 502, "Bad Gateway", ""},
		"half a head":       {"GET", "HTTP/1.1 200 OK\r\nContent-", true, 502, "Bad Gateway", ""},
		"a large head":      {"GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 128<<10) + "\r\n\r\n", true, 502, "Bad Gateway", ""},
		"a rather long one": {"GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 40<<10) + "\r\nContent-Length: 0\r\n\r\n", false, 200, "", "X:"},
		"another protocol":  {"GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", true, 502, "Bad Gateway", ""},
	} {
		r := newRig(t, model.PaceFast)
		r.serve(unchecked("g", says(t, c.answer, c.last)))
		conn, in := r.connect()
		for i := range 3 { // the connection to the client stays
			fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: a\r\n\r\n", c.method)
			res, body, err := reading(t, in, c.method)
			if err == nil && res.StatusCode == 103 {
				if final, text, err := reading(t, in, c.method); err != nil || final.StatusCode != 200 || text != "hello" {
					t.Errorf("%s: after the interim answer %v %v", name, final, err)
				}
			}
			if err != nil || res.StatusCode != c.status || !strings.Contains(body, c.body) || c.status < 500 && body != c.body ||
				!strings.Contains(fmt.Sprint(res.Header), c.has) || res.Header.Get("X-A") != "" || res.Header.Get("Keep-Alive") != "" {
				t.Errorf("%s, time %d: %v %+v %q", name, i, err, res, body)
				break
			}
			if res.StatusCode != 103 && res.Header.Get("Date") == "" {
				t.Errorf("%s: no Date", name)
			}
		}
	}
}

func TestBodiesThatBreakOffAreNotCalledWhole(t *testing.T) {
	for name, answer := range map[string]string{
		"length":       "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"chunked":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"no last line": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
		"bad chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n\r\n",
	} {
		r := newRig(t, model.PaceFast)
		r.serve(unchecked("g", says(t, answer, true)))
		conn, in := r.connect()
		io.WriteString(conn, getRoot)
		if _, body, err := reading(t, in, "GET"); err == nil || body != "hello" {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
}

func TestTrailersComeThrough(t *testing.T) {
	r := newRig(t, model.PaceFast)
	r.serve(unchecked("g", says(t, "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n", false)))
	conn, in := r.connect()
	io.WriteString(conn, getRoot)
	if res, body, err := reading(t, in, "GET"); err != nil || body != "hello" || res.Trailer.Get("X-Sum") != "7" {
		t.Errorf("%q %v %v", body, res, err)
	}
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

func TestATargetAnswersBeforeItHasReadTheBody(t *testing.T) {
	onlyFast(t)
	r := newRig(t, model.PaceFast)
	r.serve(unchecked("g", raw(t, func(c net.Conn, _ int64) {
		defer c.Close()
		in := bufio.NewReader(c)
		if _, err := http.ReadRequest(in); err == nil {
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			io.Copy(io.Discard, in)
		}
	})))
	conn, in := r.connect()
	for range 3 { // what is left of a short body is read for the connection's sake
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nbegun")
		res, body, err := reading(t, in, "POST")
		if err != nil || res.StatusCode != 413 || body != "no" {
			t.Fatalf("%v %q %v", res, body, err)
		}
		io.WriteString(conn, strings.Repeat("x", 100000-len("begun")))
	}
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegun")
	if res, body, err := reading(t, in, "POST"); err != nil || res.StatusCode != 413 || body != "no" {
		t.Fatalf("%v %q %v", res, body, err)
	}
	go io.Copy(conn, io.LimitReader(zeros{}, 100000000))
	if _, err := in.ReadByte(); err == nil {
		t.Error("the connection of a long one stays")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// A target may close a connection that nobody uses at any time. A request that can't be sent twice must not be lost by it.
func TestAPOSTIsNotLostOnAConnectionThatTheTargetHasClosed(t *testing.T) {
	onlyFast(t) // net/http may not have seen yet that it is closed
	r := newRig(t, model.PaceFast)
	closed := make(chan struct{}, 100)
	r.serve(unchecked("g", raw(t, func(c net.Conn, _ int64) {
		in := bufio.NewReader(c)
		if req, err := http.ReadRequest(in); err == nil {
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		c.Close()
		closed <- struct{}{}
	})))
	for range 20 {
		status, body, _ := r.do(r.request("POST", "/", strings.NewReader("once")))
		if status != 200 || body != "ok" {
			t.Fatalf("%d %q", status, body)
		}
		<-closed
	}
}

func TestBytesThatNobodyAskedForEndATargetsConnection(t *testing.T) {
	r := newRig(t, model.PaceFast)
	var conns atomic.Int64
	r.serve(unchecked("g", raw(t, func(c net.Conn, n int64) {
		conns.Store(n)
		defer c.Close()
		for in := bufio.NewReader(c); ; {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		}
	})))
	for range 5 {
		r.expect("/", 200, "ok")
	}
	if conns.Load() != 5 {
		t.Errorf("%d connections for 5 requests", conns.Load())
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
			time.Sleep(watchAfter / 8)
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

// Nothing is left of requests: neither goroutines nor descriptors.
func TestNothingIsLeftOfRequests(t *testing.T) {
	before, files := runtime.NumGoroutine(), descriptors(t)
	r := newRig(t, model.PaceFast)
	target := backend(t, func(w http.ResponseWriter, req *http.Request) {
		io.Copy(w, req.Body)
		if req.URL.Path == "/break" {
			panic(http.ErrAbortHandler)
		}
	})
	g := unchecked("g", target)
	r.serve(g)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 10 {
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
				if err != nil {
					t.Error(err)
					return
				}
				path := []string{"/", "/break"}[j%2]
				switch i % 4 {
				case 0:
					fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
				case 1:
					fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n%s", path, strings.Repeat("x", 50000))
				case 2:
					fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n", path)
				case 3:
					fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", path)
				}
				conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				io.Copy(io.Discard, conn)
				conn.Close()
			}
		})
	}
	wg.Wait()
	r.await("nothing is in flight", func() bool {
		s := r.proxy.Snapshot()
		c := s.Targets[model.TargetKey("g", target.ID, target.Port)]
		if c.InFlight != 0 {
			go r.note(func() {}) // look again
		}
		return c.InFlight == 0
	})
	r.proxy.Close()
	r.client.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	for late := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		now, open := runtime.NumGoroutine(), descriptors(t)
		if now <= before+4 && open <= files+2 { // the backend's own
			return
		}
		if time.Now().After(late) {
			b := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d descriptors were, %d and %d are\n%s", before, files, now, open, b[:runtime.Stack(b, true)])
		}
	}
}

func descriptors(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}

func TestKeptConnectionsToTargetsAreSwept(t *testing.T) {
	onlyFast(t)
	r := newRig(t, model.PaceFast)
	target := named(t, "x")
	table := r.serve(unchecked("g", target))
	r.expect("/", 200, "x")
	r.expect("/", 200, "x")
	own := r.proxy.targets[model.TargetKey("g", target.ID, target.Port)]
	r.proxy.forward.sweep()
	own.kept.mu.Lock()
	if len(own.kept.free) != 1 {
		t.Fatalf("%d are kept", len(own.kept.free))
	}
	own.kept.free[0].until = time.Now()
	own.kept.mu.Unlock()
	r.proxy.forward.sweep()
	own.kept.mu.Lock()
	if len(own.kept.free) != 0 {
		t.Error("one that is old is kept")
	}
	own.kept.mu.Unlock()
	r.expect("/", 200, "x")
	r.proxy.Apply(Table{Balancers: table.Balancers})
	own.kept.mu.Lock()
	defer own.kept.mu.Unlock()
	if len(own.kept.free) != 0 || !own.kept.closed {
		t.Error("a target that is gone has connections")
	}
}

// onPipes serves a client and a target over net.Pipes, which follow the time of a synctest bubble. The load balancer's idle timeout
// is a minute.
func onPipes(t *testing.T, serve func(net.Conn)) (net.Conn, *bufio.Reader) {
	p := New(Config{Now: time.Now, Log: slog.New(slog.DiscardHandler), OnHealth: func(model.TargetHealth) {}, OnProblem: func(string, string) {}})
	p.forward.dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go serve(theirs)
		return ours, nil
	}
	r := &rig{port: 1}
	p.Apply(r.table([]Group{unchecked("g", Target{ID: "a", Address: "192.0.2.1", Port: 1})}, Rule{Action: forwardTo("g")}))
	q := p.ports[1]
	client, server := net.Pipe()
	l := newLane(q, server)
	q.lanes.add(l)
	go l.serve()
	t.Cleanup(func() {
		client.Close()
		p.Close()
	})
	return client, bufio.NewReader(client)
}

// answering answers each request after a pause.
func answering(pause time.Duration, text string) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		for in := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			c.SetReadDeadline(time.Now().Add(pause))
			if _, err := in.Peek(1); !timeout(err) {
				return
			}
			c.SetReadDeadline(time.Time{})
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	}
}

func TestPatienceOfTheFastPath(t *testing.T) {
	onlyFast(t)
	t.Run("between requests", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, in := onPipes(t, answering(0, "x"))
			for range 5 {
				io.WriteString(c, getRoot)
				if got := answer(t, in); got != "x" {
					t.Fatal(got)
				}
				time.Sleep(55 * time.Second)
			}
			endsWithin(t, in, 5*time.Second, 35*time.Second)
		})
	})
	t.Run("a head that drips", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, in := onPipes(t, answering(0, "x"))
			io.WriteString(c, getRoot)
			answer(t, in)
			var drip sync.WaitGroup
			drip.Go(func() {
				for _, err := io.WriteString(c, "G"); err == nil; _, err = io.WriteString(c, "G") {
					time.Sleep(10 * time.Second)
				}
			})
			endsWithin(t, in, 50*time.Second, time.Minute)
			drip.Wait()
		})
	})
	t.Run("a body that stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, in := onPipes(t, answering(0, "x"))
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbegun")
			endsWithin(t, in, time.Minute, 2*time.Minute)
		})
	})
	t.Run("a body that comes slowly", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, in := onPipes(t, answering(0, "x"))
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
			for range 9 {
				time.Sleep(50 * time.Second)
				io.WriteString(c, "b")
			}
			if got := answer(t, in); got != "x" {
				t.Fatal(got)
			}
		})
	})
	t.Run("an answer that comes late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, in := onPipes(t, answering(59*time.Second, "late"))
			for range 3 {
				io.WriteString(c, getRoot)
				if got := answer(t, in); got != "late" {
					t.Fatal(got)
				}
			}
		})
	})
	t.Run("an answer that comes too late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, in := onPipes(t, answering(2*time.Minute, "late"))
			io.WriteString(c, getRoot)
			began := time.Now()
			res, _, err := reading(t, in, "GET")
			if took := time.Since(began); err != nil || res.StatusCode != 504 || took < time.Minute || took > 75*time.Second {
				t.Errorf("%v %v after %s", res, err, took)
			}
		})
	})
}

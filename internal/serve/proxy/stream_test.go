package proxy

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

func TestConnectionsAreKept(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		r := newRig(t, model.PaceFast)
		var fromProxy, fromClient atomic.Int64
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			b, _ := io.ReadAll(req.Body) // a part of it fails the test
			w.Write(b)
		}))
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				fromProxy.Add(1)
			}
		}
		s.Start()
		t.Cleanup(s.Close)
		r.serve(unchecked("g", targetAt(t, s.Listener.Addr().String())))
		client := transportOf(proto)
		client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			fromClient.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		r.client = &http.Client{Timeout: 10 * time.Second, Transport: client}
		t.Cleanup(r.client.CloseIdleConnections)
		for i := range 30 {
			method, want := []string{"GET", "POST", "DELETE"}[i%3], ""
			if method == "POST" {
				want = strings.Repeat("x", i<<10)
			}
			if status, body, _ := r.do(r.request(method, "/", strings.NewReader(want))); status != 200 || body != want {
				t.Fatalf("%s: %d with %d bytes, want %d", method, status, len(body), len(want))
			}
		}
		// On a busy machine net/http's client of HTTP/2 opens a second one before it knows the first.
		if fromProxy.Load() != 1 || fromClient.Load() > 2 || proto == "HTTP/1.1" && fromClient.Load() != 1 {
			t.Errorf("%s: 30 requests took %d connections from the client and %d to the target", proto, fromClient.Load(), fromProxy.Load())
		}
	}
}

func TestHTTP2CanBeSwitchedOff(t *testing.T) {
	r := newRig(t, model.PaceFast)
	table := r.serve(unchecked("g", named(t, "x")))
	for _, only := range []bool{false, true, false} {
		next := table
		next.Balancers = []Balancer{table.Balancers[0]}
		next.Balancers[0].HTTP1Only = only
		r.proxy.Apply(next)
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			r.client.CloseIdleConnections()
			r.client = &http.Client{Timeout: 10 * time.Second, Transport: transportOf(proto)}
			want := 200
			if only && proto == "HTTP/2.0" {
				want = 505
			}
			r.expect("/", want, "")
		}
	}
}

func TestStreamsAreNotHeldBack(t *testing.T) {
	r := newRig(t, model.PaceFast)
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) { // answers each line as it comes
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for s := bufio.NewScanner(req.Body); s.Scan(); {
			fmt.Fprintf(w, "data: %s\n", s.Text())
			w.(http.Flusher).Flush()
		}
	})))
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := &http.Client{Timeout: 10 * time.Second, Transport: transportOf(proto)}
		in, out := io.Pipe()
		res, err := client.Do(r.request("POST", "/", in))
		if err != nil {
			t.Fatal(proto, err)
		}
		if res.Proto != proto {
			t.Errorf("spoke %s, want %s", res.Proto, proto)
		}
		lines := bufio.NewScanner(res.Body)
		for i := range 5 { // each line is sent only when the last one has come back
			fmt.Fprintln(out, i)
			if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
				t.Fatalf("%s: line %d is %q (%v)", proto, i, lines.Text(), lines.Err())
			}
		}
		out.Close()
		if lines.Scan() {
			t.Errorf("%s: and %q", proto, lines.Text())
		}
		res.Body.Close()
		client.CloseIdleConnections()
	}
}

func transportOf(proto string) *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(proto == "HTTP/1.1")
	tr.Protocols.SetUnencryptedHTTP2(proto == "HTTP/2.0")
	return tr
}

func TestLargeBodies(t *testing.T) {
	r := newRig(t, model.PaceFast)
	const size = 24 << 20
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, req.Body)
	})))
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		sent, got := sha256.New(), sha256.New()
		client := &http.Client{Timeout: 60 * time.Second, Transport: transportOf(proto)}
		source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
		res, err := client.Do(r.request("PUT", "/", source))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(got, res.Body)
		if err != nil || n != size || string(sent.Sum(nil)) != string(got.Sum(nil)) {
			t.Errorf("%s: %d of %d bytes came back, %v", proto, n, size, err)
		}
		res.Body.Close()
		client.CloseIdleConnections()
	}
}

// ask sends bytes as they are and returns the status lines that come back until the connection ends.
func (r *rig) ask(text string) (statuses []int) {
	r.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, text)
	c.(*net.TCPConn).CloseWrite()
	for in := bufio.NewReader(c); ; {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses
		}
		io.Copy(io.Discard, res.Body)
		statuses = append(statuses, res.StatusCode)
	}
}

func TestSmuggledRequestsDoNotReachTargets(t *testing.T) {
	r := newRig(t, model.PaceFast)
	var smuggled atomic.Int64
	r.serve(unchecked("g", backend(t, func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		if strings.Contains(req.URL.Path, "secret") {
			smuggled.Add(1)
		}
	})))
	const hidden = "GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, text := range map[string]string{
		"two lengths":         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 35\r\nConnection: close\r\n\r\n" + hidden,
		"length and chunked":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n" + hidden,
		"strange encoding":    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nConnection: close\r\n\r\n0\r\n\r\n" + hidden,
		"space before colon":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 35\r\nConnection: close\r\n\r\n" + hidden,
		"line in a header":    "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\nConnection: close\r\n\r\n",
		"two hosts":           "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
		"no host":             "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
		"headers without end": "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 200<<10) + "\r\nConnection: close\r\n\r\n",
	} {
		statuses := r.ask(text)
		if len(statuses) > 1 {
			t.Errorf("%s: one request got answers %v", name, statuses)
		}
		if name != "length and chunked" && (len(statuses) != 1 || statuses[0] < 400) {
			t.Errorf("%s: %v, want a refusal", name, statuses)
		}
	}
	if smuggled.Load() != 0 {
		t.Error("a request was smuggled to the target")
	}
}

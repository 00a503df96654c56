package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berthdev/berth/internal/model"
)

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

func TestClientsOfHTTP10(t *testing.T) {
	onlyFast(t) // net/http sends them interim answers
	for answer, length := range map[string]int64{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello":                                                                             5,
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n": -1,
	} {
		r := newRig(t, model.PaceFast)
		r.serve(unchecked("g", says(t, answer, false)))
		for _, keep := range []bool{false, true} {
			conn, in := r.connect()
			for range 2 {
				if keep {
					io.WriteString(conn, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
				} else {
					io.WriteString(conn, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")
				}
				res, body, err := reading(t, in, "GET")
				if err != nil || body != "hello" || res.ContentLength != length || res.TransferEncoding != nil || res.StatusCode != 200 {
					t.Fatalf("%q: %+v %q %v", answer, res, body, err)
				}
				if !keep || length < 0 {
					if _, err := in.ReadByte(); err != io.EOF {
						t.Errorf("%q, keep %v: afterwards %v", answer, keep, err)
					}
					break
				}
				if res.Header.Get("Connection") != "keep-alive" {
					t.Errorf("%q: the client is not told that it may go on: %v", answer, res.Header)
				}
			}
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

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
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// read is a request as net/http reads it.
type read struct{ method, target, host, body string }

// readAll reads requests until one is not whole.
func readAll(b []byte) (all []read) {
	for in := bufio.NewReader(bytes.NewReader(b)); ; {
		req, err := http.ReadRequest(in)
		if err != nil {
			return all
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return all
		}
		all = append(all, read{req.Method, req.RequestURI, req.Host, string(body)})
	}
}

// FuzzLane: what targets get through the fast path are, one after the other, the requests that net/http reads in what the client
// said: none is made up, none changed, none left out.
func FuzzLane(f *testing.F) {
	const get, post = "GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
	const chunked = "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x\r\nX: z\r\n\r\n3;e=f\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n"
	for _, s := range []string{get + post + chunked + get, chunked + chunked, post + "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
		get + "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n" + get, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get,
		"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close, Content-Length\r\nContent-Length: 1\r\n\r\nx" + get} {
		f.Add([]byte(s))
	}
	if os.Getenv(libraryVariable) != "" {
		f.Skip("the fast path's own")
	}
	p := New(Config{Now: time.Now, Log: slog.New(slog.DiscardHandler), OnHealth: func(model.TargetHealth) {}, OnProblem: func(string, string) {}})
	f.Cleanup(func() { p.Close() })
	var got chan read
	var targets sync.WaitGroup
	p.forward.dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		to := got
		targets.Go(func() {
			defer theirs.Close()
			for in := bufio.NewReader(theirs); ; {
				req, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				body, err := io.ReadAll(req.Body)
				if err != nil {
					return
				}
				to <- read{req.Method, req.RequestURI, req.Host, string(body)}
				fmt.Fprintf(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		return ours, nil
	}
	r := &rig{port: 1}
	p.Apply(r.table([]Group{unchecked("g", Target{ID: "a", Address: "192.0.2.1", Port: 1})}, Rule{Action: forwardTo("g")}))
	q := p.ports[1]
	q.handed.Close() // what is handed over ends
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 8<<10 {
			return
		}
		want := readAll(b)
		late := time.AfterFunc(20*time.Second, func() { panic(fmt.Sprintf("%q hangs", b)) })
		defer late.Stop()
		got = make(chan read, len(want)+100)
		client, server := net.Pipe()
		l := newLane(q, server)
		q.lanes.add(l)
		go func() {
			go io.Copy(io.Discard, client)
			client.Write(b)
			client.Close()
		}()
		l.serve()
		p.targets[model.TargetKey("g", "a", 1)].kept.sweep(time.Now().Add(time.Hour))
		targets.Wait()
		close(got)
		i := 0
		for one := range got {
			for i < len(want) && (want[i].method == "TRACE" || want[i].method == "CONNECT") { // answered by the load balancer
				i++
			}
			if i == len(want) || one != want[i] {
				t.Fatalf("%q: target got %q, which is not among the rest of %q", b, one, want)
			}
			i++
		}
	})
}

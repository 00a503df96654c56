package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
)

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

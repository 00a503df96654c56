package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// Everything at once, for a while: what clients get is what targets said, whoever leaves when.
func TestManyClientsAtOnce(t *testing.T) {
	r := newRig(t, model.PaceFast)
	echo := func(w http.ResponseWriter, req *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		if req.URL.Path == "/close" {
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("X-Path", req.URL.Path)
		io.Copy(w, req.Body)
	}
	a, b := backend(t, echo), backend(t, echo)
	r.serve(unchecked("g", a, b))
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for j := range 60 {
				want := strings.Repeat(fmt.Sprint(i, " ", j, ";"), []int{0, 1, 100, 2000, 12000}[j%5])
				var body io.Reader = strings.NewReader(want)
				if j%3 == 0 {
					body = io.MultiReader(body) // of unknown length
				}
				path := []string{"/", "/close", "/a"}[j%3]
				ctx, cancel := context.WithCancel(t.Context())
				if j%7 == 6 {
					time.AfterFunc(time.Duration(j)*20*time.Microsecond, cancel)
				}
				req, err := http.NewRequestWithContext(ctx, "PUT", r.url(path), body)
				if err != nil {
					t.Error(err)
				}
				res, err := client.Do(req)
				if err == nil {
					got, err := io.ReadAll(res.Body)
					res.Body.Close()
					if err == nil && (string(got) != want || res.StatusCode != 200 || res.Header.Get("X-Path") != path) {
						t.Errorf("%d.%d: %d, %d bytes of %d", i, j, res.StatusCode, len(got), len(want))
					}
					if err != nil && ctx.Err() == nil {
						t.Errorf("%d.%d: %v", i, j, err)
					}
				} else if ctx.Err() == nil {
					t.Errorf("%d.%d: %v", i, j, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	r.awaitNothingInFlight("g", a, b)
	if n := r.proxy.Stats("lb").Failed.Load(); n != 0 && !r.proxy.slow { // net/http learns too late that a client has left
		t.Errorf("%d failures", n)
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
	r.awaitNothingInFlight("g", target)
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

func (r *rig) awaitNothingInFlight(group string, targets ...Target) {
	r.t.Helper()
	r.await("nothing is in flight", func() bool {
		for _, t := range targets {
			if r.proxy.Snapshot().Targets[model.TargetKey(group, t.ID, t.Port)].InFlight != 0 {
				go r.note(func() {}) // look again
				return false
			}
		}
		return true
	})
}

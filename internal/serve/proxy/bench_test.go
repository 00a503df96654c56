package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// What BenchmarkProxy does, in turns, for the proxy and for its floor.
const (
	benchRounds  = 5
	benchSpan    = time.Second // of one turn
	benchCallers = 32          // connections that ask at once
	benchAnswer  = 1 << 10     // bytes
)

// BenchmarkProxy compares the proxy with a bare ReverseProxy of net/http/httputil: requests a second, and CPU time a request. The
// target and its callers are another process, so the CPU time measured is the proxies' own; both share the machine's cores with it.
func BenchmarkProxy(b *testing.B) {
	load := startLoad(b)
	r := newRig(b, model.PaceFast)
	r.serve(unchecked("g", targetAt(b, load.backend)))

	bare := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: load.backend})
			p.SetXForwarded()
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: benchCallers, DisableCompression: true}})
	b.Cleanup(bare.Close)

	variants := []struct {
		name, url string
		requests  int
		cpu       time.Duration
	}{{name: "ReverseProxy", url: bare.URL + "/x"}, {name: "Berth", url: r.url("/x")}}
	for b.Loop() {
		for i := range variants { // connections are opened
			load.run(variants[i].url)
		}
		for range benchRounds {
			for i := range variants {
				v, before := &variants[i], cpuTime(b)
				v.requests += load.run(v.url)
				v.cpu += cpuTime(b) - before
			}
		}
	}
	turns := float64(b.N*benchRounds) * benchSpan.Seconds()
	each := func(i int) float64 { return float64(variants[i].cpu.Microseconds()) / float64(variants[i].requests) }
	for i, v := range variants {
		b.ReportMetric(float64(v.requests)/turns, v.name+"-req/s")
		b.ReportMetric(each(i), v.name+"-µsCPU/req")
	}
	b.ReportMetric(each(1)/each(0), "CPU-ratio")
	b.ReportMetric(float64(variants[1].requests)/float64(variants[0].requests), "req/s-ratio")
	b.ReportMetric(0, "ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// loader is the other process: the backend, and what asks.
type loader struct {
	b       *testing.B
	backend string
	in      io.Writer
	out     *bufio.Reader
}

const loaderVariable = "BERTH_PROXY_BENCH_LOAD"

func startLoad(b *testing.B) *loader {
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestLoad$")
	cmd.Env = append(os.Environ(), loaderVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	l := &loader{b: b, in: in, out: bufio.NewReader(out)}
	if _, err := fmt.Fscanln(l.out, &l.backend); err != nil {
		b.Fatal(err)
	}
	return l
}

// run asks for one turn and returns how many answers came.
func (l *loader) run(target string) (n int) {
	if _, err := fmt.Fprintln(l.in, target); err != nil {
		l.b.Fatal(err)
	}
	var failed int
	if _, err := fmt.Fscanln(l.out, &n, &failed); err != nil || failed > 0 || n == 0 {
		l.b.Fatalf("%s: %d requests, %d failed: %v", target, n, failed, err)
	}
	return n
}

// TestLoad is the other process of BenchmarkProxy.
func TestLoad(t *testing.T) {
	if os.Getenv(loaderVariable) == "" {
		t.Skip("a part of BenchmarkProxy")
	}
	answer := make([]byte, benchAnswer)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(answer) }))
	defer s.Close()
	fmt.Println(s.Listener.Addr())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchCallers, DisableCompression: true}}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ok, failed := ask(client, lines.Text())
		fmt.Println(ok, failed)
	}
}

func ask(client *http.Client, target string) (ok, failed int64) {
	var good, bad atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(benchSpan)
	for range benchCallers {
		wg.Go(func() {
			for time.Now().Before(end) {
				res, err := client.Get(target)
				if err != nil {
					bad.Add(1)
					return
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err != nil || n != benchAnswer || res.StatusCode != http.StatusOK {
					bad.Add(1)
					return
				}
				good.Add(1)
			}
		})
	}
	wg.Wait()
	return good.Load(), bad.Load()
}

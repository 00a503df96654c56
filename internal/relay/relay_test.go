package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
)

// api is what a server's API answers in these tests.
func api(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/upload":
			sum := sha256.New()
			n, _ := io.Copy(sum, r.Body)
			fmt.Fprintf(w, "%d %x", n, sum.Sum(nil))
		case "/hold":
			_, _ = io.WriteString(w, "held\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			fmt.Fprintf(w, "%s %s %s %s", name, r.Host, r.URL, r.Header.Get("Authorization"))
		}
	})
}

// cluster has servers whose cluster ports are on loopback, over real TLS.
type cluster struct {
	t         *testing.T
	ca        *pki.CA
	mu        sync.Mutex
	addresses []string
}

func newCluster(t *testing.T) *cluster {
	ca, err := pki.NewCA("c7f2", (&pki.Clock{}).Now())
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, ca: ca}
}

func (c *cluster) issue(role pki.Role, id string) *pki.Identity {
	identity, err := c.ca.Issue(pki.Peer{Role: role, ID: id}, (&pki.Clock{}).Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return identity
}

// server starts one; stop ends it as a process that is killed.
func (c *cluster) server(name string) (stop func()) {
	web := httptest.NewServer(api(name))
	me := c.issue(pki.RoleServer, name)
	s := peer.NewServer(peer.Config{Identity: func() *pki.Identity { return me }})
	lane := s.Listen(Protocol, peer.Machines|peer.Clients)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = s.Serve(ctx, l) })
	all.Go(func() {
		_ = ToAPI(ctx, lane, strings.TrimPrefix(web.URL, "http://"), slog.New(slog.DiscardHandler))
	})
	c.mu.Lock()
	c.addresses = append(c.addresses, l.Addr().String())
	c.mu.Unlock()
	stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		web.CloseClientConnections()
		web.Close()
	})
	c.t.Cleanup(stop)
	return stop
}

// relay starts one and returns its URL.
func (c *cluster) relay() string {
	me := c.issue(pki.RoleClient, "laptop")
	d := peer.NewDialer(peer.Config{Identity: func() *pki.Identity { return me }})
	return serve(c.t, Config{Dial: d.Dial, Servers: func() []string {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Clone(c.addresses)
	}})
}

func serve(t *testing.T, c Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- New(c).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "localhost:4566"
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", res.Status, body)
	}
	return string(body), err
}

func TestRequestsGoThroughAsTheyAre(t *testing.T) {
	c := newCluster(t)
	c.server("s1")
	url := c.relay()
	if got, err := get(t, url+"/v2/app/manifests/1?x=%2F"); err != nil || got != "s1 localhost:4566 /v2/app/manifests/1?x=%2F AWS4-HMAC-SHA256 Credential=x" {
		t.Errorf("%q, %v", got, err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB
	res, err := http.Post(url+"/upload", "", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); string(got) != fmt.Sprintf("%d %x", len(data), sha256.Sum256(data)) {
		t.Errorf("an upload: %s", got)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestALongPollEndsWithItsClient(t *testing.T) {
	c := newCluster(t)
	c.server("s1")
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, c.relay()+"/hold", nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(io.LimitReader(res.Body, 5)); string(got) != "held\n" {
		t.Errorf("%q, %v", got, err)
	}
	cancel() // the servers' Close waits until their handlers have seen it
}

func TestAnotherServerTakesOver(t *testing.T) {
	c := newCluster(t)
	stops := map[string]func(){"s1": c.server("s1"), "s2": c.server("s2")}
	url := c.relay()
	first, err := get(t, url)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, err := get(t, url); err != nil || again != first {
			t.Errorf("%q, then %q, %v", first, again, err)
		}
	}
	stops[first[:2]]()
	if second, err := get(t, url); err != nil || second[:2] == first[:2] {
		t.Errorf("%q after %q was stopped: %v", second, first, err)
	}
}

func TestASilentMachineIsLeft(t *testing.T) {
	// The machine takes connections and then nothing more, as one whose power was cut.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var mu sync.Mutex
	gone := false
	url := serve(t, Config{Every: 20 * time.Millisecond, Servers: func() []string { return []string{"dead"} },
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
		Probe: func(context.Context, string) error {
			mu.Lock()
			defer mu.Unlock()
			gone = true
			return errors.New("no route to host")
		}})
	if _, err := get(t, url); err == nil {
		t.Error("a machine without power answered")
	}
	mu.Lock()
	defer mu.Unlock()
	if !gone {
		t.Error("nobody looked whether it lives")
	}
}

func TestNoServer(t *testing.T) {
	url := serve(t, Config{Hold: 600 * time.Millisecond, Servers: func() []string { return []string{"s1"} },
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return nil, errors.New("connection refused")
		}})
	_, err := get(t, url)
	if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "no server of the cluster answers: connection refused") {
		t.Errorf("%v", err)
	}
}

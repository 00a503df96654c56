package wire_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/sts"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/gate"
)

// head is a request's head, as it is sent before a body of length bytes.
func head(r *http.Request, length int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", r.Method, r.Host, length)
	r.Header.Write(&b)
	return b.String() + "\r\n"
}

// talk sends text from an address of this machine and reads what is answered.
func talk(t *testing.T, to, from, text string) (net.Conn, func() (status string)) {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", strings.TrimPrefix(to, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	return c, func() string {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		line, err := r.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(line)
	}
}

const large = 8 << 20

// TestTheHeadDecidesBeforeTheBody sends heads of requests whose bodies never come: what they spoil is answered at once, and nobody is
// told to go on.
func TestTheHeadDecidesBeforeTheBody(t *testing.T) {
	f := setup(t)
	for name, c := range map[string]struct {
		r      func() *http.Request
		length int64
		want   string
	}{
		"no signature": {func() *http.Request { return f.request("") }, large, "403"},
		"half a signature": {func() *http.Request {
			r := f.request("")
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x")
			return r
		}, large, "403"},
		"an old signature":   {func() *http.Request { return f.sign(f.request(""), hashOf("x"), "sts", f.now.Add(-time.Hour)) }, large, "403"},
		"an unknown service": {func() *http.Request { return f.sign(f.request(""), hashOf("x"), "route53", f.now) }, large, "501"},
		"too large":          {func() *http.Request { return f.sign(f.request(""), hashOf("x"), "sts", f.now) }, large, "413"},
		"another's key": {func() *http.Request {
			r := f.sign(f.request(""), hashOf("x"), "sts", f.now)
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Credential=AKIA", "Credential=AKIX", 1))
			return r
		}, large, "403"},
		"a signature that is wrong whatever the body": {func() *http.Request {
			r := f.request("")
			r.Header.Set("X-Amz-Content-Sha256", hashOf("x"))
			r.Header.Set("X-Signed", "a")
			f.sign(r, hashOf("x"), "sts", f.now)
			r.Header.Set("X-Signed", "b")
			return r
		}, 1000, "403"},
	} {
		r := c.r()
		r.Header.Set("Expect", "100-continue")
		_, answer := talk(t, f.srv.URL, "127.0.0.1", head(r, c.length))
		if got := answer(); !strings.HasPrefix(got, "HTTP/1.1 "+c.want) {
			t.Errorf("%s: %s, want %s before the body", name, got, c.want)
		}
	}
	r := f.sign(f.request(""), hashOf(whoAmI), "sts", f.now)
	r.Header.Set("Expect", "100-continue")
	c, answer := talk(t, f.srv.URL, "127.0.0.1", head(r, int64(len(whoAmI))))
	if got := answer(); got != "HTTP/1.1 100 Continue" {
		t.Fatalf("a good head: %s", got)
	}
	answer() // the empty line
	io.WriteString(c, whoAmI)
	if got := answer(); got != "HTTP/1.1 200 OK" {
		t.Errorf("its body: %s", got)
	}
}

// TestBodiesInMemoryAreBounded: callers who know a key's name, and not its secret, begin 300 bodies of 10 MiB and do not end them.
func TestBodiesInMemoryAreBounded(t *testing.T) {
	f := setup(t)
	bodies := gate.NewBudget(64<<20, 32<<20, 100*time.Millisecond)
	srv := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: f.keys, Bodies: bodies, Services: []*wire.Service{sts.New(sts.Config{})}}))
	defer srv.Close()
	defer srv.CloseClientConnections()
	f.srv.URL = srv.URL
	r := f.sign(f.request(""), hashOf("x"), "sts", f.now)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	refused := make(chan bool, 300)
	const body = 10 << 20
	part := make([]byte, 1<<20)
	for i := range 300 {
		c, answer := talk(t, srv.URL, fmt.Sprintf("127.0.0.%d", 2+i%3), head(r, body))
		go func() {
			for range 9 {
				if _, err := c.Write(part); err != nil {
					break
				}
			}
		}()
		go func() { refused <- strings.HasPrefix(answer(), "HTTP/1.1 400") }()
	}
	for range 300 - 6 { // three of each source, but six in all
		if !<-refused {
			t.Fatal("a request beyond the bounds was not refused as throttled")
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := bodies.Used(); used != 6*body {
		t.Errorf("%d bytes are in use, want those of six bodies", used)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 96<<20 {
		t.Errorf("300 bodies took %d MiB", grown>>20)
	}
}

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

// TestDrippingIsTimedOut: a byte a second holds a connection no longer than the pace's grace, whether its signature is in order or
// not; the answer's name is one that clients try again for.
func TestDrippingIsTimedOut(t *testing.T) {
	keys, err := iam.Open(t.TempDir()+"/key", scope, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for name, signed := range map[string]bool{"408 Request Timeout": true, "403 Forbidden": false} {
		synctest.Test(t, func(t *testing.T) {
			l := pipes(make(chan net.Conn))
			srv := &http.Server{Handler: wire.NewEndpoint(wire.Config{Keys: keys, Services: []*wire.Service{sts.New(sts.Config{})}})}
			go srv.Serve(l)
			near, far := net.Pipe()
			l <- far
			r, _ := http.NewRequest("POST", "http://x/", nil)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if signed {
				id, secret := keys.Root()
				c := aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}
				if err := v4.NewSigner().SignHTTP(ctx, c, r, hashOf("x"), "sts", "us-east-1", time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			answer := make(chan string)
			go func() {
				all, _ := io.ReadAll(near)
				answer <- string(all)
			}()
			start := time.Now()
			io.WriteString(near, head(r, 100_000))
			for {
				if _, err := near.Write([]byte{'x'}); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			if got := <-answer; !strings.HasPrefix(got, "HTTP/1.1 "+name) || signed && !strings.Contains(got, "<Code>RequestTimeout</Code>") {
				t.Errorf("%s: %s", name, got)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("%s: the connection was held for %s", name, took)
			}
			close(l)
			srv.Close()
		})
	}
}

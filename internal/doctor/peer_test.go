package doctor

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
)

// TestClusterPort: a server is known by its certificate, and its clock is compared; another program is told from one.
func TestClusterPort(t *testing.T) {
	ca, err := pki.NewCA("c7f2", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Issue(pki.Peer{Role: pki.RoleServer, ID: strings.Repeat("ab", 16)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = peer.NewServer(peer.Config{Identity: func() *pki.Identity { return id }}).Serve(ctx, l)
	}()
	defer func() { cancel(); <-done }()
	dial := func(l net.Listener) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial(l)
	defer c.Close()
	if f := clusterPort(t.Context(), c, "4567/tcp", time.Millisecond); len(f) != 1 || f[0].Grade != OK || !strings.Contains(f[0].Sentence, "server abababab of cluster c7f2") {
		t.Errorf("%+v", f)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		if c, err := other.Accept(); err == nil {
			_, _ = c.Write([]byte("220 hello\r\n"))
			c.Close()
		}
	}()
	c = dial(other)
	defer c.Close()
	if f := clusterPort(t.Context(), c, "4567/tcp", time.Millisecond); len(f) != 1 || f[0].Grade != Warn || !strings.Contains(f[0].Sentence, "no cluster port") {
		t.Errorf("%+v", f)
	}
}

// TestPeer looks at this machine itself.
func TestPeer(t *testing.T) {
	if f := Peer(t.Context(), "nowhere"); len(f) != 1 || f[0].Grade != Fail {
		t.Errorf("%+v", f)
	}
	at := netip.MustParseAddr("127.0.0.1")
	if f := route(at); len(f) != 1 || f[0].Grade != OK || !strings.Contains(f[0].Sentence, "from 127.0.0.1") {
		t.Errorf("%+v", f)
	}
	listens, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listens.LocalAddr().(*net.UDPAddr).Port
	if f := udp(at, port, "beats"); f[0].Grade != OK {
		t.Errorf("%+v", f)
	}
	listens.Close()
	if f := udp(at, port, "beats"); f[0].Grade != Warn || !strings.Contains(f[0].Sentence, "nobody listens") {
		t.Errorf("%+v", f)
	}
	if f := tcp(t.Context(), at, port, "etcd's"); f[0].Grade != OK || !strings.Contains(f[0].Sentence, "nobody listens") {
		t.Errorf("%+v", f)
	}
}

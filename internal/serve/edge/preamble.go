package edge

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// A connection to the server carries one request, after a line that says between which addresses the client's own connection is:
//
//	berth1 203.0.113.7:41000 127.0.0.1:4566
//
// Headers could be forged by clients; the socket, which only the user of both processes may open, can't.
const (
	preamble    = "berth1"
	maxPreamble = 256
)

func writePreamble(c net.Conn, remote, local string) error {
	_, err := fmt.Fprintf(c, "%s %s %s\n", preamble, remote, local)
	return err
}

// ListenAPI listens where the proxy forwards the API's requests to. Its connections have the clients' addresses.
func (c Config) ListenAPI() (net.Listener, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	return listenPrivate(c.APISocket())
}

// listenPrivate listens on a socket in the run directory, in the place of one that was left there.
func listenPrivate(path string) (*net.UnixListener, error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the path may be a successor's by then
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Behind gives connections that the proxy forwards the addresses of its clients.
func Behind(l net.Listener) net.Listener { return behind{l} }

type behind struct{ net.Listener }

// Accept implements net.Listener.
func (l behind) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &forwarded{Conn: c}, nil
}

// forwarded is a connection from the proxy. The first who asks anything of it reads its line.
type forwarded struct {
	net.Conn
	once          sync.Once
	r             *bufio.Reader // holds what came with the line
	err           error
	remote, local net.Addr
}

func (f *forwarded) begin() {
	f.once.Do(func() {
		f.remote, f.local = f.Conn.RemoteAddr(), f.Conn.LocalAddr()
		f.err = f.read()
	})
}

func (f *forwarded) read() error {
	if err := f.Conn.SetReadDeadline(time.Now().Add(timeouts.APILine)); err != nil {
		return err
	}
	f.r = bufio.NewReaderSize(f.Conn, maxPreamble)
	line, err := f.r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("the line before a forwarded request: %w", err)
	}
	words := strings.Fields(string(line))
	if len(words) != 3 || words[0] != preamble {
		return errors.New("what came to the API's socket is not from the proxy")
	}
	remote, err := netip.ParseAddrPort(words[1])
	if err != nil {
		return err
	}
	local, err := netip.ParseAddrPort(words[2])
	if err != nil {
		return err
	}
	f.remote, f.local = net.TCPAddrFromAddrPort(remote), net.TCPAddrFromAddrPort(local)
	return f.Conn.SetReadDeadline(time.Time{})
}

// RemoteAddr implements net.Conn.
func (f *forwarded) RemoteAddr() net.Addr {
	f.begin()
	return f.remote
}

// LocalAddr implements net.Conn.
func (f *forwarded) LocalAddr() net.Addr {
	f.begin()
	return f.local
}

// Read implements net.Conn.
func (f *forwarded) Read(b []byte) (int, error) {
	f.begin()
	if f.err != nil {
		return 0, f.err
	}
	if f.r.Buffered() > 0 {
		return f.r.Read(b)
	}
	return f.Conn.Read(b)
}

// CloseWrite lets one side of a hijacked connection end before the other.
func (f *forwarded) CloseWrite() error {
	if h, ok := f.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

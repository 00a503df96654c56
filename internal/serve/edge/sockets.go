package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/serve/proxy/link"
)

// sockets are the listening sockets of the process. Others may hold duplicates: the node, so that connections wait for a successor
// when the process is killed, and the successor itself.
type sockets struct {
	changed func() // may be nil

	mu      sync.Mutex
	spare   map[string]*net.TCPListener // handed over, and not asked for yet
	open    map[string]*socket
	packets map[string]*net.UDPConn // by packetName: those of UDP, which stay for as long as the process
	handed  bool                    // somebody else serves them: closing ends this process's own part only
}

func newSockets() *sockets {
	return &sockets{spare: map[string]*net.TCPListener{}, open: map[string]*socket{}, packets: map[string]*net.UDPConn{}}
}

// packetName is what the socket of an address is called when it is one of UDP.
func packetName(address string) string { return "udp:" + address }

// adopt takes a descriptor that was handed over; one that is not usable is closed.
func (s *sockets) adopt(name string, fd int) error {
	f := os.NewFile(uintptr(fd), name)
	if strings.HasPrefix(name, packetName("")) {
		return s.adoptPackets(name, f)
	}
	l, err := net.FileListener(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("the socket of %s that was handed over: %w", name, err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return errors.Join(fmt.Errorf("the socket of %s that was handed over is none of TCP", name), l.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spare[name] != nil || s.open[name] != nil {
		return tcp.Close() // a duplicate of what is here
	}
	s.spare[name] = tcp
	return nil
}

func (s *sockets) adoptPackets(name string, f *os.File) error {
	c, err := net.FilePacketConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("the socket of %s that was handed over: %w", name, err)
	}
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return errors.Join(fmt.Errorf("the socket of %s that was handed over is none of UDP", name), c.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packets[name] != nil {
		return udp.Close() // a duplicate of what is here
	}
	s.packets[name] = udp
	return nil
}

// ListenPackets opens an address for UDP, or takes the socket of that name that was handed over. Questions that come while a killed process
// is started anew wait in the duplicate of whoever keeps it.
func (s *sockets) ListenPackets(address string) (*net.UDPConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := packetName(address)
	if c := s.packets[name]; c != nil {
		return c, nil
	}
	at, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return nil, err
	}
	c, err := net.ListenUDP("udp4", at)
	if err != nil {
		return nil, err
	}
	s.packets[name] = c
	s.tell()
	return c, nil
}

// Listen opens an address, or takes the socket of that name that was handed over.
func (s *sockets) Listen(address string) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.spare[address]
	delete(s.spare, address)
	if l == nil {
		var err error
		if l, err = listen(address); err != nil {
			return nil, err
		}
	}
	out := &socket{TCPListener: l, name: address, set: s}
	s.open[address] = out
	s.tell()
	return out, nil
}

// listen makes plain TCP sockets: what can be shut down while others hold duplicates.
func listen(address string) (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// seal closes what was handed over and nobody asked for: listeners that are no more.
func (s *sockets) seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, l := range s.spare {
		shut(l)
		_ = l.Close() // its end is all that matters
		delete(s.spare, name)
	}
	s.tell()
}

// hand makes closing a socket from now on end this process's part only.
func (s *sockets) hand() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handed = true
}

// close closes the socket of an address.
func (s *sockets) close(name string) {
	s.mu.Lock()
	l := s.open[name]
	s.mu.Unlock()
	if l != nil {
		_ = l.Close() // what matters is that it accepts no more
	}
}

// list is what a peer is told of: what is open, and what waits to be asked for.
func (s *sockets) list() (all []link.Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add := func(name string, l syscall.Conn) {
		all = append(all, link.Socket{Name: name, Identity: l, Descriptor: func() (int, func(), error) {
			fd, err := duplicate(l)
			return fd, func() { _ = unix.Close(fd) }, err
		}})
	}
	for name, l := range s.open {
		add(name, l.TCPListener)
	}
	for name, l := range s.spare {
		add(name, l)
	}
	for name, c := range s.packets {
		add(name, c)
	}
	return all
}

// tell needs the lock; changed may not call the sockets.
func (s *sockets) tell() {
	if s.changed != nil {
		s.changed()
	}
}

// socket is a listening socket.
type socket struct {
	*net.TCPListener
	name  string
	set   *sockets
	ended atomic.Bool
}

// Accept implements net.Listener.
func (s *socket) Accept() (net.Conn, error) {
	c, err := s.TCPListener.Accept()
	if err != nil && s.ended.Load() {
		return nil, net.ErrClosed // the first thing that a socket says that was shut down is another error
	}
	return c, err
}

// Close gives the port back, whoever else has a duplicate of the socket; when it was handed over, only this process's part ends.
func (s *socket) Close() error {
	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	s.ended.Store(true)
	if s.set.open[s.name] == s {
		delete(s.set.open, s.name)
		s.set.tell()
	}
	if !s.set.handed {
		shut(s.TCPListener)
	}
	return s.TCPListener.Close()
}

// shut stops a socket from listening, for all who hold it.
func shut(l *net.TCPListener) {
	if raw, err := l.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) }) // one that is closed listens no more
	}
}

// duplicate makes a descriptor of a socket, which the caller closes. It leaves the socket as it is; File would make it blocking.
func duplicate(l syscall.Conn) (fd int, err error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return -1, cerr
	}
	return fd, err
}

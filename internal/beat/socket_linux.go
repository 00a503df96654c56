package beat

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batched reads and writes many datagrams with one system call (recvmmsg, sendmmsg). One goroutine reads; any may write.
type batched struct {
	*net.UDPConn
	raw syscall.RawConn
	v6  bool
	in  vector
	mu  sync.Mutex // of out
	out vector

	// The calls as RawConn takes them, made once so that a batch allocates nothing.
	recv, send call
}

// call is one of the two system calls upon a vector's heads: from at to n.
type call struct {
	do     func(fd uintptr) bool
	at, n  int
	got    int
	failed syscall.Errno
}

func (c *call) over(v *vector, number uintptr) {
	c.do = func(fd uintptr) bool {
		r, _, errno := unix.Syscall6(number, fd, uintptr(unsafe.Pointer(&v.heads[c.at])), uintptr(c.n-c.at), unix.MSG_DONTWAIT, 0, 0)
		c.got, c.failed = int(r), errno
		return number == unix.SYS_SENDMMSG || errno != unix.EAGAIN
	}
}

// vector is what the kernel is given of a batch.
type vector struct {
	heads [batchSize]header
	iov   [batchSize]unix.Iovec
	names [batchSize]unix.RawSockaddrInet6 // large enough for IPv4's too
}

// header is struct mmsghdr.
type header struct {
	unix.Msghdr
	n uint32
	_ [unsafe.Sizeof(uintptr(0)) - 4]byte
}

func newSocket(conn *net.UDPConn) (Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &batched{UDPConn: conn, raw: raw}
	err = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil { // not root: what the machine allows
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		s.v6 = err != nil || domain == unix.AF_INET6
	})
	if err != nil {
		return nil, err
	}
	s.recv.over(&s.in, unix.SYS_RECVMMSG)
	s.send.over(&s.out, unix.SYS_SENDMMSG)
	return s, nil
}

// aim points the i-th head at the datagram's bytes.
func (v *vector) aim(i int, d *Datagram, n int) {
	v.iov[i].Base = &d.Data[0]
	v.iov[i].SetLen(n)
	h := &v.heads[i]
	h.Msghdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&v.names[i])), Namelen: unix.SizeofSockaddrInet6, Iov: &v.iov[i]}
	h.SetIovlen(1)
}

// Read implements Socket.
func (s *batched) Read(into []Datagram) (int, error) {
	n := min(len(into), batchSize)
	for i := range n {
		s.in.aim(i, &into[i], len(into[i].Data))
	}
	s.recv.at, s.recv.n = 0, n
	if err := s.raw.Read(s.recv.do); err != nil {
		return 0, err
	}
	if failed := s.recv.failed; failed != 0 {
		if failed == unix.ECONNREFUSED || failed == unix.EINTR { // of an earlier packet: nothing was read
			return 0, nil
		}
		return 0, failed
	}
	got := s.recv.got
	for i := range got {
		h := &s.in.heads[i]
		into[i].N, into[i].Addr = int(h.n), s.in.address(i)
		if h.Flags&unix.MSG_TRUNC != 0 {
			into[i].N = len(into[i].Data) + 1
		}
	}
	return got, nil
}

func (v *vector) address(i int) netip.AddrPort {
	switch name := &v.names[i]; name.Family {
	case unix.AF_INET:
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), port(&four.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), port(&name.Port))
	}
	return netip.AddrPort{}
}

// port is a port as it lies in memory, in the network's order.
func port(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }

// Write implements Socket.
func (s *batched) Write(out []Datagram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(out) > 0 {
		n := min(len(out), batchSize)
		for i := range n {
			s.out.aim(i, &out[i], out[i].N)
			s.out.heads[i].Namelen = s.out.setAddress(i, out[i].Addr, s.v6)
		}
		s.flush(n)
		out = out[n:]
	}
}

// flush sends n datagrams. One that cannot be sent is passed over: it got lost on the way.
func (s *batched) flush(n int) {
	for s.send.at, s.send.n = 0, n; s.send.at < n; {
		if err := s.raw.Write(s.send.do); err != nil {
			return
		}
		if s.send.failed != 0 || s.send.got == 0 {
			s.send.got = 1
		}
		s.send.at += s.send.got
	}
}

// setAddress writes the i-th name and returns its length.
func (v *vector) setAddress(i int, a netip.AddrPort, v6 bool) uint32 {
	name := &v.names[i]
	if !v6 {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		*four = unix.RawSockaddrInet4{Family: unix.AF_INET}
		if a.Addr().Is4() {
			four.Addr = a.Addr().As4()
		}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&four.Port))[:], a.Port())
		return unix.SizeofSockaddrInet4
	}
	*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.Addr().As16()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], a.Port())
	return unix.SizeofSockaddrInet6
}

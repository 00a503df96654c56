package beat

import (
	"fmt"
	"net"
	"net/netip"
)

// receiveBuffer is what the kernel keeps of beats that were not read yet: those of 10,000 nodes take 8 MiB, as it counts.
const receiveBuffer = 8 << 20

// Listen opens a UDP socket at that address, such as ":4567".
func Listen(address string) (Socket, error) {
	at, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for beats on %q: %w", address, err)
	}
	conn, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, fmt.Errorf("listen for beats: %w", err)
	}
	return newSocket(conn)
}

// plain reads and writes one datagram at a time.
type plain struct{ *net.UDPConn }

// Read implements Socket.
func (s plain) Read(into []Datagram) (int, error) {
	d := &into[0]
	n, from, err := s.ReadFromUDPAddrPort(d.Data[:])
	d.N, d.Addr = n, unmap(from)
	return 1, err
}

// Write implements Socket.
func (s plain) Write(out []Datagram) {
	for i := range out {
		_, _ = s.WriteToUDPAddrPort(out[i].Data[:out[i].N], out[i].Addr)
	}
}

// Local is the address that a socket of Listen has.
func Local(s Socket) netip.AddrPort {
	if s, ok := s.(interface{ LocalAddr() net.Addr }); ok {
		if a, ok := s.LocalAddr().(*net.UDPAddr); ok {
			return unmap(a.AddrPort())
		}
	}
	return netip.AddrPort{}
}

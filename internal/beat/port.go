package beat

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Datagram is one packet of a socket.
type Datagram struct {
	Addr netip.AddrPort
	N    int // bytes of Data
	Data [askSize]byte
}

// Socket carries datagrams. Listen makes a real one.
type Socket interface {
	// Read waits for datagrams and fills in at least one; what is longer than Data is cut, with N beyond it.
	Read(into []Datagram) (int, error)
	// Write sends what it can; what gets lost, got lost on the way.
	Write(out []Datagram)
	Close() error
}

// Port is a socket with who listens at it.
type Port struct {
	Socket
	server *Server
	node   *Node
}

// NewPort makes a port of a server, a node, or both; either may be nil. Both send through it from then on, until the next port.
func NewPort(s Socket, server *Server, node *Node) *Port {
	p := &Port{Socket: s, server: server, node: node}
	if server != nil {
		server.use(s)
	}
	if node != nil {
		node.use(s)
	}
	return p
}

// batchSize is how many datagrams one system call reads or writes.
const batchSize = 64

// Run takes in what comes until ctx is done or the socket is closed; it closes the socket.
func (p *Port) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.Close() })()
	defer func() { _ = p.Close() }()
	in, out := make([]Datagram, batchSize), make([]Datagram, 0, batchSize)
	for {
		n, err := p.Read(in)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if out = p.take(in[:n], out[:0]); len(out) > 0 {
			p.Write(out)
		}
	}
}

// take handles what came and appends what is to be sent.
func (p *Port) take(in, out []Datagram) []Datagram {
	if p.server != nil {
		out = p.server.take(in, out)
	}
	if p.node != nil {
		out = p.node.take(in, out)
	}
	return out
}

// body is the packet's bytes; nil when it was cut.
func (d *Datagram) body() []byte {
	if d.N > len(d.Data) {
		return nil
	}
	return d.Data[:d.N]
}

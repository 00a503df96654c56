package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
)

type portKey struct {
	protocol byte
	port     uint16
}

// held is a published port. The socket is bound and never listens: it keeps other programs from taking a port whose traffic goes
// to a container.
type held struct {
	id     string // the network
	socket int    // -1 when another program has the port already
}

func (h held) close() {
	if h.socket >= 0 {
		unix.Close(h.socket)
	}
}

func protocolNumber(name string) (byte, bool) {
	switch strings.ToLower(name) {
	case "", "tcp":
		return unix.IPPROTO_TCP, true
	case "udp":
		return unix.IPPROTO_UDP, true
	}
	return 0, false
}

const portAttempts = 256 // to find a free port before the node is called full

// holdPort takes the host port that p asks for, or chooses one. n.mu is held.
func (n *Network) holdPort(p agent.PortMapping, id string) (agent.PortMapping, error) {
	protocol, _ := protocolNumber(p.Protocol)
	p.Protocol = "tcp"
	if protocol == unix.IPPROTO_UDP {
		p.Protocol = "udp"
	}
	if p.HostPort != 0 {
		key := portKey{protocol, uint16(p.HostPort)}
		if other, taken := n.held[key]; taken && other.id != id {
			return p, &agent.Error{Name: "CannotStartContainerError", Message: fmt.Sprintf(
				"the host port %d/%s is in use by another container (%s); use another hostPort, or 0 to have one chosen",
				p.HostPort, p.Protocol, other.id)}
		} else if taken {
			return p, &agent.Error{Name: "CannotStartContainerError", Message: fmt.Sprintf(
				"the host port %d/%s is published twice by one container", p.HostPort, p.Protocol)}
		}
		socket, err := bind(key)
		if err != nil {
			return p, portError(p, err)
		}
		n.held[key] = held{id, socket}
		return p, nil
	}
	size := int(n.c.LastPort) - int(n.c.FirstPort) + 1
	start := rand.IntN(size)
	for i := range min(size, portAttempts) {
		key := portKey{protocol, uint16(int(n.c.FirstPort) + (start+i)%size)}
		if _, taken := n.held[key]; taken {
			continue
		}
		if socket, err := bind(key); err == nil {
			n.held[key] = held{id, socket}
			p.HostPort = int32(key.port)
			return p, nil
		}
	}
	return p, &agent.Error{Name: "CannotStartContainerError", Message: fmt.Sprintf(
		"no host port of %d–%d is free on this node; stop tasks, or add a node", n.c.FirstPort, n.c.LastPort)}
}

func portError(p agent.PortMapping, err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return &agent.Error{Name: "CannotStartContainerError", Message: fmt.Sprintf(
			"the host port %d/%s is in use by another program of this machine; stop it, or use another hostPort, or 0 to have one chosen",
			p.HostPort, p.Protocol)}
	}
	return &agent.Error{Name: "CannotStartContainerError", Message: fmt.Sprintf("the host port %d/%s cannot be used: %v",
		p.HostPort, p.Protocol, err)}
}

// bind takes a port of all addresses without serving it.
func bind(key portKey) (socket int, err error) {
	kind := unix.SOCK_STREAM
	if key.protocol == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	socket, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(socket, &unix.SockaddrInet4{Port: int(key.port)}); err != nil {
		unix.Close(socket)
		return -1, err
	}
	return socket, nil
}

// holdRecorded takes the ports that earlier processes published. n.mu is held.
func (n *Network) holdRecorded() {
	for _, r := range n.records {
		for _, p := range r.Ports {
			protocol, _ := protocolNumber(p.Protocol)
			key := portKey{protocol, uint16(p.HostPort)}
			socket, err := bind(key)
			if err != nil {
				socket = -1
				n.log.Warn("another program uses a port that a container publishes; it is not reachable from this machine's network",
					"port", p.HostPort, "container", r.ID, "error", err)
			}
			n.held[key] = held{r.ID, socket}
		}
	}
}

// release gives r's ports back. n.mu is held.
func (n *Network) release(r *record) {
	for key, h := range n.held {
		if h.id == r.ID {
			h.close()
			delete(n.held, key)
		}
	}
}

// publish puts r's ports into the table. It may be repeated.
func (n *Network) publish(r *record) error {
	if len(r.Ports) == 0 {
		return nil
	}
	if err := n.nft.add(elementsOf(r)); err != nil {
		return fmt.Errorf("publish the ports of %s: %w", r.ID, err)
	}
	return nil
}

func (n *Network) unpublish(r *record) error {
	if len(r.Ports) > 0 {
		if err := n.nft.delete(elementsOf(r)); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.release(r)
	return nil
}

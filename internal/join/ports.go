package join

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// Port is one that other machines must reach.
type Port struct {
	Network string // tcp or udp
	Number  uint16
	Open    bool `json:",omitempty"` // the server reached it
}

func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Network) }

// Cure is what opens the port in the two commonest firewalls.
func (p Port) Cure() string {
	return fmt.Sprintf("sudo ufw allow %s   or: sudo firewall-cmd --permanent --add-port=%s && sudo firewall-cmd --reload", p, p)
}

const (
	nonceSize = 16
	maxPorts  = 8
)

// echo is the answer to a nonce.
func echo(nonce []byte) []byte {
	sum := sha256.Sum256(append([]byte("berth dial-back "), nonce...))
	return sum[:]
}

// listenEchoes answers the nonce on the ports, which nobody listens on while a machine joins. It returns those that could be had: on the
// others somebody listens already, whom the server's question would not reach.
func listenEchoes(ports []Port, nonce []byte) (had []Port, closeAll func()) {
	var closers []io.Closer
	for _, p := range ports {
		at := net.JoinHostPort("", strconv.Itoa(int(p.Number)))
		if p.Network == "udp" {
			if c, err := net.ListenPacket("udp", at); err == nil {
				closers, had = append(closers, c), append(had, p)
				go echoPackets(c, nonce)
			}
			continue
		}
		if l, err := net.Listen("tcp", at); err == nil {
			closers, had = append(closers, l), append(had, p)
			go echoStreams(l, nonce)
		}
	}
	return had, func() {
		for _, c := range closers {
			_ = c.Close()
		}
	}
}

func echoPackets(c net.PacketConn, nonce []byte) {
	buf := make([]byte, nonceSize+1)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && string(buf[:n]) == string(nonce) {
			_, _ = c.WriteTo(echo(nonce), from)
		}
	}
}

func echoStreams(l net.Listener, nonce []byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(timeouts.DialBack))
			got := make([]byte, nonceSize)
			if _, err := io.ReadFull(c, got); err == nil && string(got) == string(nonce) {
				_, _ = c.Write(echo(nonce))
			}
		}()
	}
}

// DialBack tries the ports of a machine that joins, at once, and notes which answer.
func DialBack(ctx context.Context, host string, ports []Port, nonce []byte) []Port {
	ctx, cancel := context.WithTimeout(ctx, timeouts.DialBack)
	defer cancel()
	tried := append([]Port(nil), ports...)
	var all sync.WaitGroup
	for i := range tried {
		all.Go(func() { tried[i].Open = tried[i].answers(ctx, host, nonce) })
	}
	all.Wait()
	return tried
}

// tries is how often a packet is sent: one may be lost.
const tries = 4

func (p Port) answers(ctx context.Context, host string, nonce []byte) bool {
	c, err := new(net.Dialer).DialContext(ctx, p.Network, net.JoinHostPort(host, strconv.Itoa(int(p.Number))))
	if err != nil {
		return false
	}
	defer c.Close()
	want, got := string(echo(nonce)), make([]byte, sha256.Size)
	if p.Network == "tcp" {
		end, _ := ctx.Deadline()
		_ = c.SetDeadline(end)
		if _, err := c.Write(nonce); err != nil {
			return false
		}
		_, err := io.ReadFull(c, got)
		return err == nil && string(got) == want
	}
	for range tries {
		_ = c.SetDeadline(time.Now().Add(timeouts.DialBack / (tries + 1)))
		if _, err := c.Write(nonce); err != nil {
			continue // ICMP's answer to the one before
		}
		if n, err := c.Read(got); err == nil && string(got[:n]) == want {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return false
}

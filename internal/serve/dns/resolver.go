// Package dns answers the DNS questions of tasks: those about names of namespaces (Cloud Map) by itself, all others by asking the machine's
// name servers, whose questions and answers it carries unread. It answers at the tasks' gateway, in the process that outlives the server.
package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what a Resolver works with. ResolvConf is required.
type Config struct {
	ResolvConf string        // the machine's; it is read again for each question, as it changes with the machine's network
	Port       string        // of the machine's name servers; "" means 53
	Timeout    time.Duration // for one of them to answer; 0 means 2 s
	Log        *slog.Logger  // nil discards
}

// The bounds of questions that wait for an answer: in total, and of one source. What exceeds them is not answered, and asked again by
// whoever wants to know.
const (
	maxAsked     = 4096
	maxPerSource = 256
)

const (
	maxMessage = 64 << 10
	pause      = 100 * time.Millisecond // after an error of a socket
)

// Resolver carries questions. Its methods may be called from many goroutines.
type Resolver struct {
	c     Config
	names names

	mu    sync.Mutex
	asked map[netip.Addr]int // questions that wait, by source
	total int
}

// New makes a Resolver.
func New(c Config) *Resolver {
	if c.Port == "" {
		c.Port = "53"
	}
	if c.Timeout == 0 {
		c.Timeout = timeouts.Resolve
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Resolver{c: c, asked: map[netip.Addr]int{}}
}

// Change takes a change of the table: its names.
func (r *Resolver) Change(d proxy.Delta) { r.names.change(d) }

// Names are those that it answers.
func (r *Resolver) Names() []proxy.Name { return r.names.all() }

// packet is what an answer over UDP may have without EDNS, bytes.
const packet = 512

// servers are the machine's name servers; a machine that names none has one on its loopback.
func (r *Resolver) servers() []string {
	data, _ := os.ReadFile(r.c.ResolvConf)
	var all []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" && len(all) < 3 { // as many as the C library asks
			all = append(all, net.JoinHostPort(f[1], r.c.Port))
		}
	}
	if len(all) == 0 {
		all = append(all, net.JoinHostPort("127.0.0.1", r.c.Port))
	}
	return all
}

// enter counts a question of a source; false when it has too many.
func (r *Resolver) enter(source netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total >= maxAsked || r.asked[source] >= maxPerSource {
		return false
	}
	r.total++
	r.asked[source]++
	return true
}

func (r *Resolver) leave(source netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total--
	if r.asked[source]--; r.asked[source] == 0 {
		delete(r.asked, source)
	}
}

// ServePackets answers the questions that come to conn until ctx ends; then conn is closed.
func (r *Resolver) ServePackets(ctx context.Context, conn *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var work sync.WaitGroup
	defer work.Wait()
	buf := make([]byte, maxMessage)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			time.Sleep(pause)
			continue
		}
		source := from.Addr().Unmap()
		if n < 12 { // 12 bytes are the header of DNS
			continue
		}
		if answer := r.names.answer(buf[:n], source, packet); answer != nil {
			_, _ = conn.WriteToUDPAddrPort(answer, from)
			continue
		}
		if !r.enter(source) {
			continue
		}
		question := append([]byte(nil), buf[:n]...)
		work.Go(func() {
			defer r.leave(source)
			if answer := r.ask(ctx, question); answer != nil {
				_, _ = conn.WriteToUDPAddrPort(answer, from) // who does not get it asks again
			}
		})
	}
}

// ask asks one server after the other; nil when none answers.
func (r *Resolver) ask(ctx context.Context, question []byte) []byte {
	for _, server := range r.servers() {
		answer, err := r.askOne(ctx, server, question)
		if err == nil {
			return answer
		}
		r.c.Log.Debug("a name server does not answer", "server", server, "error", err)
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

func (r *Resolver) askOne(ctx context.Context, server string, question []byte) ([]byte, error) {
	dialer := net.Dialer{Timeout: r.c.Timeout}
	conn, err := dialer.DialContext(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(r.c.Timeout))
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	answer := make([]byte, maxMessage)
	for {
		n, err := conn.Read(answer)
		if err != nil {
			return nil, err
		}
		if n >= 12 && answer[0] == question[0] && answer[1] == question[1] { // the answer to another question is none
			return append([]byte(nil), answer[:n]...), nil
		}
	}
}

// ServeStreams answers what comes to l over TCP until ctx ends; then l is closed. l bounds its connections.
func (r *Resolver) ServeStreams(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var work sync.WaitGroup
	defer work.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			time.Sleep(pause) // no descriptor is left, perhaps; nothing that tasks do ends this
			continue
		}
		work.Go(func() { r.stream(ctx, conn) })
	}
}

// stream answers the questions of one connection, one after another.
func (r *Resolver) stream(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var source netip.Addr
	if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		source = at.AddrPort().Addr().Unmap()
	}
	for {
		_ = conn.SetDeadline(time.Now().Add(timeouts.ResolveIdle))
		question, err := readMessage(conn)
		if err != nil {
			return
		}
		answer := r.names.answer(question, source, 0)
		if answer == nil {
			answer = r.carry(ctx, question)
		}
		if answer == nil || writeMessage(conn, answer) != nil {
			return
		}
	}
}

// carry asks the machine's name servers over TCP; nil when none answers.
func (r *Resolver) carry(ctx context.Context, question []byte) []byte {
	for _, server := range r.servers() {
		dialer := net.Dialer{Timeout: r.c.Timeout}
		up, err := dialer.DialContext(ctx, "tcp", server)
		if err != nil {
			continue
		}
		_ = up.SetDeadline(time.Now().Add(5 * r.c.Timeout))
		var answer []byte
		if err = writeMessage(up, question); err == nil {
			answer, err = readMessage(up)
		}
		up.Close()
		if err == nil {
			return answer
		}
	}
	return nil
}

// readMessage reads a message as TCP carries it: after its length.
func readMessage(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(head[:]))
	if len(m) < 12 {
		return nil, errors.New("too short for DNS")
	}
	_, err := io.ReadFull(r, m)
	return m, err
}

func writeMessage(w io.Writer, m []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return err
}

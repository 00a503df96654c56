// Package relay makes the API of a cluster answer on every machine at 127.0.0.1:4566, by carrying connections to any live server over the
// cluster port. It changes no byte: signatures, Host, uploads of gigabytes and long polls go through as they are. It builds on every
// system, as laptops have one too.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// Protocol (ALPN) is how a server's cluster port carries connections to its API.
const Protocol = "berth-api"

// Config is what a Relay is told. Servers and Dial are required.
type Config struct {
	// Servers are the addresses of the servers' cluster ports; it is asked for each connection.
	Servers func() []string
	// Dial connects to one, for a protocol: peer.Dialer's Dial.
	Dial func(ctx context.Context, address, protocol string) (net.Conn, error)
	// Probe tells whether the machine at an address lives; nil: by TCP.
	Probe func(ctx context.Context, address string) error
	Log   *slog.Logger
	// Hold is how long a connection waits while no server answers, Every the pause between two probes; 0: those of the table of timeouts.
	Hold, Every time.Duration
}

// Relay carries connections.
type Relay struct {
	c Config

	mu    sync.Mutex
	good  string // the server that took the last connection
	pairs map[*pair]struct{}
}

// New makes a Relay.
func New(c Config) *Relay {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Probe == nil {
		c.Probe = probeTCP
	}
	if c.Hold == 0 {
		c.Hold = timeouts.APIHold
	}
	if c.Every == 0 {
		c.Every = timeouts.RelayProbe
	}
	return &Relay{c: c, pairs: map[*pair]struct{}{}}
}

func probeTCP(ctx context.Context, address string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// Serve carries the connections that l accepts until ctx is done, which ends them.
func (r *Relay) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel() // before it is waited for
	all.Go(func() { r.watch(ctx) })
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the relay: %w", err)
		}
		all.Go(func() { r.carry(ctx, c) })
	}
}

// carry carries one connection.
func (r *Relay) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, address, err := r.connect(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.c.Log.Warn("a request was not carried to a server", "error", err)
			unavailable(client, err)
		}
		return
	}
	p := &pair{client: client, server: server, address: address}
	r.mu.Lock()
	r.pairs[p] = struct{}{}
	r.good = address
	r.mu.Unlock()
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	p.copy()
	r.mu.Lock()
	delete(r.pairs, p)
	r.mu.Unlock()
}

// errNoServer is the sentence for callers.
var errNoServer = errors.New("no server of the cluster answers")

// connect connects to a server. While none answers it tries again, as long as a server has to come back from a restart.
func (r *Relay) connect(ctx context.Context) (c net.Conn, address string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.c.Hold)
	defer cancel()
	for {
		var last error
		if c, address, last = r.race(ctx); last == nil {
			return c, address, nil
		}
		if err == nil || ctx.Err() == nil { // the first round's reasons say more than that the time is over
			err = last
		}
		select {
		case <-ctx.Done():
			return nil, "", fmt.Errorf("%w: %w", errNoServer, err)
		case <-time.After(retryPause):
		}
	}
}

const (
	retryPause = 250 * time.Millisecond
	// stagger is how long a server may take before the next one is asked too.
	stagger = 250 * time.Millisecond
)

type dialed struct {
	conn    net.Conn
	address string
	err     error
}

// race asks the servers one after the other, the last good one first, and takes the first connection.
func (r *Relay) race(ctx context.Context) (net.Conn, string, error) {
	order := r.order()
	if len(order) == 0 {
		return nil, "", errors.New("nobody has said where the servers are")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialed)
	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for asked, waiting := 0, 0; ; {
		select {
		case <-next.C:
			if asked < len(order) {
				address := order[asked]
				asked, waiting = asked+1, waiting+1
				go func() {
					c, err := r.c.Dial(ctx, address, Protocol)
					select {
					case results <- dialed{c, address, err}:
					case <-ctx.Done():
						if err == nil {
							_ = c.Close() // another was faster
						}
					}
				}()
				next.Reset(stagger)
			}
		case d := <-results:
			if d.err == nil {
				return d.conn, d.address, nil
			}
			waiting--
			errs = append(errs, d.err)
			if asked < len(order) {
				next.Reset(0)
			} else if waiting == 0 {
				return nil, "", errors.Join(errs...)
			}
		case <-ctx.Done():
			return nil, "", errors.Join(append(errs, ctx.Err())...)
		}
	}
}

func (r *Relay) order() []string {
	all := slices.Clone(r.c.Servers())
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(all, r.good); i > 0 {
		all[0], all[i] = all[i], all[0]
	}
	return all
}

// watch ends connections to servers whose machines are gone: the kernel would take minutes to notice, and clients could long have been
// served by another one.
func (r *Relay) watch(ctx context.Context) {
	tick := time.NewTicker(r.c.Every)
	defer tick.Stop()
	misses := map[string]int{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		silent := r.silent()
		for address := range misses {
			if !slices.Contains(silent, address) {
				delete(misses, address)
			}
		}
		for _, address := range silent {
			if r.lives(ctx, address) {
				delete(misses, address)
			} else if misses[address]++; misses[address] >= maxMisses {
				r.c.Log.Warn("a server is gone; requests that it had may be repeated elsewhere", "server", address)
				r.drop(address)
				delete(misses, address)
			}
		}
	}
}

// maxMisses is how many probes in a row a server may leave unanswered.
const maxMisses = 2

func (r *Relay) lives(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, r.c.Every)
	defer cancel()
	return r.c.Probe(ctx, address) == nil
}

// silent are the servers that owe an answer for as long as a pause between probes.
func (r *Relay) silent() (addresses []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		if p.owes() > r.c.Every && !slices.Contains(addresses, p.address) {
			addresses = append(addresses, p.address)
		}
	}
	return addresses
}

// drop ends the connections to a server.
func (r *Relay) drop(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.good == address {
		r.good = ""
	}
	for p := range r.pairs {
		if p.address == address {
			go p.close()
		}
	}
}

// unavailable tells an HTTP client that no server answers, so that it tries again.
func unavailable(c net.Conn, err error) {
	_ = c.SetDeadline(time.Now().Add(timeouts.RelayRefuse))
	head := make([]byte, 4096)
	if _, err := c.Read(head); err != nil { // it must have asked
		return
	}
	body := fmt.Sprintf(`{"__type":"ServiceUnavailableException","message":%q}`, err.Error())
	_, _ = fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		len(body), body)
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, c) // a reset would take the answer away
	}
}

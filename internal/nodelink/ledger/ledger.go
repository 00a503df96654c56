// Package ledger has the sessions that a follower holds written down by the leader: Relayed is the follower's side, a nodelink.Ledger, and
// Handler the leader's, on the cluster port. Whatever is asked may be asked again, as its outcome is the same: a session that is begun twice
// has the second epoch, and a report that is stored is not stored again. So a follower goes on asking, whoever the leader is, for as long as
// its session waits.
package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what a Relayed needs. All are required.
type Config struct {
	// Local is used while this server leads.
	Local nodelink.Ledger
	// Leader says whether this server leads and, if not, the address of the cluster port of the one that does; "" while there is none.
	Leader func() (here bool, address string)
	// Client makes a client of the server at an address.
	Client func(address string) *http.Client
}

// Relayed is a nodelink.Ledger that is written where the leader is.
type Relayed struct {
	c Config

	mu      sync.Mutex
	clients map[string]*http.Client
	queue   []*entry // reports that wait to be sent
	sending bool
}

var _ nodelink.Ledger = (*Relayed)(nil)

// New makes a Relayed.
func New(c Config) *Relayed { return &Relayed{c: c, clients: map[string]*http.Client{}} }

// errNoLeader says that nobody can write now.
var errNoLeader = errors.New("no server leads: too few of them reach each other, or they are electing one")

// Begin implements nodelink.Ledger. ctx bounds how long a leader is waited for.
func (r *Relayed) Begin(ctx context.Context, o nodelink.Opening) (now nodelink.Seen, err error) {
	err = r.until(ctx, func() error {
		if here, address := r.c.Leader(); !here {
			var a beginAnswer
			if err := r.post(ctx, address, pathBegin, o, &a); err != nil {
				return err
			}
			if a.Refused != nil {
				return a.Refused
			}
			now = a.Now
			return nil
		}
		now, err = r.c.Local.Begin(ctx, o)
		return err
	})
	return now, err
}

// End implements nodelink.Ledger. It goes on for as long as a lost session has.
func (r *Relayed) End(ctx context.Context, node string, epoch int64) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.LostGrace)
	defer cancel()
	return r.until(ctx, func() error {
		here, address := r.c.Leader()
		if here {
			return r.c.Local.End(ctx, node, epoch)
		}
		return r.post(ctx, address, pathEnd, ending{node, epoch}, nil)
	})
}

// until tries until it is done, refused or out of time.
func (r *Relayed) until(ctx context.Context, try func() error) error {
	for {
		err := try()
		if away, ok := errors.AsType[*awayError](err); !ok {
			return err
		} else if err = away.err; ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(timeouts.LedgerRetry):
		}
	}
}

// awayError is a leader's that was not reached, or is none; another one may do it.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }

// entry is what one session reports.
type entry struct {
	Node  string
	Epoch int64
	Items []model.Report

	done chan error
}

// Report implements nodelink.Ledger: what sessions report at the same time goes to the leader together.
func (r *Relayed) Report(ctx context.Context, node string, epoch int64, items []model.Report) error {
	e := &entry{Node: node, Epoch: epoch, Items: items, done: make(chan error, 1)}
	return r.until(ctx, func() error {
		if here, _ := r.c.Leader(); here {
			return r.c.Local.Report(ctx, node, epoch, items)
		}
		r.mu.Lock()
		r.queue = append(r.queue, e)
		send := !r.sending
		r.sending = true
		r.mu.Unlock()
		if send {
			go r.sendReports(context.WithoutCancel(ctx))
		}
		select {
		case err := <-e.done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// together is how many reports a message to the leader carries, about.
const together = 1024

// sendReports sends what waits until nothing does.
func (r *Relayed) sendReports(ctx context.Context) {
	for {
		r.mu.Lock()
		n, batch := 0, 0
		for n < len(r.queue) && batch < together {
			batch += len(r.queue[n].Items)
			n++
		}
		if n == 0 {
			r.sending = false
			r.mu.Unlock()
			return
		}
		now := r.queue[:n:n]
		r.queue = r.queue[n:]
		r.mu.Unlock()
		r.sendBatch(ctx, now)
	}
}

func (r *Relayed) sendBatch(ctx context.Context, batch []*entry) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.LedgerAnswer)
	defer cancel()
	var answers []string
	_, address := r.c.Leader()
	err := r.post(ctx, address, pathReport, batch, &answers)
	if err == nil && len(answers) != len(batch) {
		err = errors.New("the leader did not answer every report")
	}
	for i, e := range batch {
		switch {
		case err != nil:
			e.done <- err
		case answers[i] != "":
			e.done <- errors.New(answers[i])
		default:
			e.done <- nil
		}
	}
}

// post asks the leader.
func (r *Relayed) post(ctx context.Context, address, path string, in, out any) error {
	if address == "" {
		return &awayError{errNoLeader}
	}
	body, err := model.EncodeRow(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://server"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := r.client(address).Do(req)
	if err != nil {
		return &awayError{fmt.Errorf("the leader at %s is not reached: %w", address, err)}
	}
	defer res.Body.Close()
	if err := peer.ReadError(res); err != nil {
		if res.StatusCode == http.StatusServiceUnavailable {
			return &awayError{err}
		}
		return err
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxMessage))
	if err != nil {
		return &awayError{err}
	}
	if out == nil {
		return nil
	}
	return model.DecodeJSON(data, out)
}

func (r *Relayed) client(address string) *http.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.clients[address]
	if c == nil {
		c = r.c.Client(address)
		r.clients[address] = c
	}
	return c
}

// Package etcd is the durable store: JSON values in an embedded etcd, mirrored in memory for reads.
//
// An Update runs on its caller's goroutine, on a state in memory that is ahead of the disk: it already holds the updates that
// wait to be committed. One goroutine commits: all updates that came while the last commit was being synced become one etcd
// transaction (group commit). Only when that is durable the state that they lead to is published, watchers are told and the
// callers return.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mirror"
)

// ErrTooLarge is returned by an Update that writes more than fits into one transaction. Nothing changed.
var ErrTooLarge = errors.New("the update writes too much at once")

// Config is what Open needs.
type Config struct {
	// Dir holds etcd's data; it is made with mode 0700. One process at a time may open it.
	Dir   string
	Kinds []store.Kind
	Log   *slog.Logger
	// Peers are how the others are met; nil: there are none.
	Peers *Peers
}

// Store implements store.Store.
type Store struct {
	kinds  []store.Kind
	byName map[string]store.Kind
	pieces pieces
	log    *slog.Logger
	conf   atomic.Pointer[Config] // as etcd runs
	member atomic.Pointer[member]
	room   *room
	hub    *store.Hub
	close  func() error // once

	published atomic.Pointer[mirror.State]

	// mu is held by the running Update and guards what follows.
	mu     sync.Mutex
	closed bool
	// ahead is published with the batches in flight and queued.
	ahead     *mirror.State
	followers store.Followers // they know ahead
	flying    *batch
	queue     []*batch
	whole     map[place]bool // rows of tables with parts that are stored in one piece

	wake    chan struct{} // holds one notice: the queue may have a batch
	full    chan struct{} // holds one notice: an Update was refused for want of disk
	changes chan wish     // Reconfigure's
	stop    chan struct{}
	stopped chan struct{}          // closed by serve at its end
	office  atomic.Pointer[office] // changes with mu held

	patience time.Duration // how long one request to etcd may take

	// serve's own.
	fence      string
	at         int64 // etcd's revision that published shows
	compacted  int64 // etcd's revision that the last compaction kept
	weights    []weight
	handed     time.Time // when another was asked to lead
	handing    sync.WaitGroup
	compacting sync.WaitGroup
	pinned     atomic.Int32 // readers of old revisions: none is forgotten meanwhile
}

var _ store.Store = (*Store)(nil)

// kv is the part of etcd's client that the store uses.
type kv interface {
	Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error)
	Txn(ctx context.Context) clientv3.Txn
	Compact(ctx context.Context, rev int64, opts ...clientv3.CompactOption) (*clientv3.CompactResponse, error)
	Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan
}

// Open starts etcd on c.Dir and loads everything into memory. ctx bounds the start only. A server without others leads when Open returns;
// one of several leads, or follows, as its Role says, which may be nobody's for as long as too few servers are up.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	room := roomIn(c.Dir, c.Log)
	if err := room.start(); err != nil {
		return nil, err
	}
	m, err := run(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Store{kinds: c.Kinds, byName: named(c.Kinds), pieces: piecesOf(c.Kinds), patience: patience, log: c.Log, room: room,
		hub: store.NewHub(c.Kinds), wake: make(chan struct{}, 1), changes: make(chan wish), full: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{})}
	s.conf.Store(&c)
	s.member.Store(m)
	s.turn(office{coming: m.alone})
	s.close = sync.OnceValue(s.shut)
	if err := s.load(ctx); err != nil {
		err = explain(c.Dir, fmt.Errorf("load the state in %s: %w", c.Dir, err))
		return nil, errors.Join(err, m.stop())
	}
	go s.serve()
	if m.alone {
		if err := s.awaitLead(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("take over the state in %s: %w", c.Dir, err), s.Close())
		}
	}
	return s, nil
}

// awaitLead waits until the store leads.
func (s *Store) awaitLead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		role, changed := s.Role()
		if role.Leading {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// config is how etcd runs.
func (s *Store) config() Config { return *s.conf.Load() }

// View implements store.Store. A closed store still shows its last state.
func (s *Store) View(f func(store.Reader)) { f(s.published.Load().Reader()) }

// Update implements store.Store. ctx counts until f runs; from then on Update waits for the outcome, so that its error, or nil,
// says what is on the disk. A server that is about to lead is waited for. Errors besides f's: ErrClosed, ErrTooLarge, ctx's, etcd's, that
// the disk is full, store.ErrNotLeader, and store.ErrUnknown.
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	for late := time.After(s.patience); ; {
		b, err := s.run(ctx, f)
		var early *earlyError
		if errors.As(err, &early) {
			select {
			case <-early.changed:
			case <-ctx.Done():
				return ctx.Err()
			case <-late:
				return &store.NotLeaderError{}
			}
			continue
		}
		if err != nil || b == nil {
			return err
		}
		<-b.done
		return b.err
	}
}

// earlyError says that the store is about to lead.
type earlyError struct{ changed <-chan struct{} }

// Error implements error.
func (*earlyError) Error() string { return "the store is about to lead" }

// run calls f and returns the batch to wait for: the one that its writes joined or, when it wrote nothing, the one with the last
// of what it may have read; nil when all of that is durable.
func (s *Store) run(ctx context.Context, f func(store.Tx) error) (*batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch o := s.office.Load(); {
	case o.coming:
		return nil, &earlyError{o.changed}
	case !o.Leading:
		return nil, &store.NotLeaderError{Leader: o.Leader}
	}
	tx := s.ahead.Begin()
	if err := f(tx); err != nil {
		return nil, err
	}
	if store.IsDry(ctx) {
		return nil, nil
	}
	changes := tx.Changes()
	if len(changes) == 0 {
		if n := len(s.queue); n > 0 {
			return s.queue[n-1], nil
		}
		return s.flying, nil
	}
	if err := s.room.ask(store.IsFreeing(ctx)); err != nil {
		select {
		case s.full <- struct{}{}:
		default:
		}
		return nil, err
	}
	ops, size, err := s.pieces.encode(changes, s.whole)
	if err != nil {
		return nil, err
	}
	if size > maxUpdateBytes || len(ops) > maxUpdateOps {
		return nil, fmt.Errorf("%w: %d bytes in %d rows, the most is %d bytes and %d rows",
			ErrTooLarge, size, len(ops), maxUpdateBytes, maxUpdateOps)
	}
	s.ahead = tx.Commit()
	s.followers.Apply(changes)
	return s.enqueue(changes, ops, size), nil
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, interests ...store.Interest) *store.Watcher {
	return s.hub.Watch(ctx, interests...)
}

// Follow implements store.Store.
func (s *Store) Follow(f store.Follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers.Add(f, s.ahead.Reader())
}

// Close implements store.Store. The commit in progress is finished first; a second call does nothing.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	<-s.stopped
	s.compacting.Wait()
	s.handing.Wait()
	s.hub.Close()
	if err := s.room.end(); err != nil {
		s.log.Error("cannot tell how full the disk is", "error", err)
	}
	return s.member.Load().stop()
}

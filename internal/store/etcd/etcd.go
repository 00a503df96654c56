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
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

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
}

// Store implements store.Store.
type Store struct {
	kinds  []store.Kind
	pieces pieces
	log    *slog.Logger
	server *embed.Etcd
	client *clientv3.Client
	kv     kv
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
	stop    chan struct{}
	stopped chan struct{} // closed by the committer at its end

	patience time.Duration // how long one request to etcd may take

	// The committer's own; see commit.go.
	fence      string
	lost       bool
	anew       bool  // the state was loaded anew, and followers do not know it yet
	compacted  int64 // etcd's revision that the last compaction kept
	compacting sync.WaitGroup
	pinned     atomic.Int32 // readers of old revisions: none is forgotten meanwhile
}

var _ store.Store = (*Store)(nil)

// kv is the part of etcd's client that the store uses.
type kv interface {
	Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error)
	Txn(ctx context.Context) clientv3.Txn
	Compact(ctx context.Context, rev int64, opts ...clientv3.CompactOption) (*clientv3.CompactResponse, error)
}

// Open starts etcd on c.Dir and loads everything into memory. ctx bounds the start only.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	room := roomIn(c.Dir, c.Log)
	if err := room.start(); err != nil {
		return nil, err
	}
	server, err := start(ctx, c)
	if err != nil {
		return nil, explain(c.Dir, fmt.Errorf("start etcd in %s: %w", c.Dir, err))
	}
	client := v3client.New(server.Server)
	s := &Store{kinds: c.Kinds, pieces: piecesOf(c.Kinds), patience: patience, log: c.Log, server: server, client: client, kv: client, room: room,
		hub: store.NewHub(c.Kinds), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{})}
	s.close = sync.OnceValue(s.shut)
	state, err := s.load(ctx)
	if err != nil {
		err = explain(c.Dir, fmt.Errorf("load the state in %s: %w", c.Dir, err))
		return nil, errors.Join(err, s.stopServer())
	}
	s.published.Store(state)
	s.ahead = state
	go s.commitBatches()
	return s, nil
}

// View implements store.Store. A closed store still shows its last state.
func (s *Store) View(f func(store.Reader)) { f(s.published.Load().Reader()) }

// Update implements store.Store. ctx counts until f runs; from then on Update waits for the outcome, so that its error, or nil,
// says what is on the disk. Errors besides f's: ErrClosed, ErrTooLarge, ctx's, etcd's, and that the disk is full.
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	b, err := s.run(ctx, f)
	if err != nil || b == nil {
		return err
	}
	<-b.done
	return b.err
}

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
	tx := s.ahead.Begin()
	if err := f(tx); err != nil {
		return nil, err
	}
	changes := tx.Changes()
	if len(changes) == 0 {
		if n := len(s.queue); n > 0 {
			return s.queue[n-1], nil
		}
		return s.flying, nil
	}
	if err := s.room.ask(store.IsFreeing(ctx)); err != nil {
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
	s.hub.Close()
	if err := s.room.end(); err != nil {
		s.log.Error("cannot tell how full the disk is", "error", err)
	}
	return s.stopServer()
}

func (s *Store) stopServer() error {
	err := s.client.Close()
	s.server.Close()
	<-s.server.Server.StopNotify()
	if errors.Is(err, context.Canceled) { // how the in-process client says that it was closed
		return nil
	}
	return err
}

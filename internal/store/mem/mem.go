// Package mem is a store that forgets everything when it is closed: for tests, simulations and demos.
package mem

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mirror"
)

// Store implements store.Store in memory.
type Store struct {
	mu     sync.Mutex // held by the running Update
	closed bool
	state  atomic.Pointer[mirror.State]
	hub    *store.Hub

	followers store.Followers
}

var _ store.Store = (*Store)(nil)

// New makes an empty store of the kinds, usually store.Schema(). It panics when they contradict themselves: they are a part of
// the program, not input.
func New(kinds []store.Kind) *Store {
	state, err := mirror.New(kinds, 0)
	if err != nil {
		panic(err)
	}
	s := &Store{hub: store.NewHub(kinds)}
	s.state.Store(state)
	return s
}

// View implements store.Store. A closed store still shows its last state.
func (s *Store) View(f func(store.Reader)) { f(s.state.Load().Reader()) }

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	tx := s.state.Load().Begin()
	if err := f(tx); err != nil {
		return err
	}
	if store.IsDry(ctx) {
		return nil
	}
	changes := tx.Changes()
	s.state.Store(tx.Commit())
	s.followers.Apply(changes)
	s.hub.Notify(changes)
	return nil
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, interests ...store.Interest) *store.Watcher {
	return s.hub.Watch(ctx, interests...)
}

// Follow implements store.Store.
func (s *Store) Follow(f store.Follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers.Add(f, s.state.Load().Reader())
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.hub.Close()
	return nil
}

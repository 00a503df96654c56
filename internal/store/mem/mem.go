// Package mem is a store that forgets everything when it is closed: for tests and simulations.
package mem

import (
	"context"
	"sync"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mirror"
)

// Store implements store.Store in memory.
type Store struct {
	mirror *mirror.Mirror
	mu     sync.Mutex
	closed bool
}

var _ store.Store = (*Store)(nil)

// New makes an empty store. It panics when kinds is no valid schema.
func New(kinds []store.Kind) *Store {
	m, err := mirror.New(kinds)
	if err != nil {
		panic(err)
	}
	return &Store{mirror: m}
}

// View implements store.Store.
func (s *Store) View(f func(store.Reader)) { f(s.mirror.Snapshot()) }

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
	b := s.mirror.Begin()
	if err := b.Update(f); err != nil {
		b.Abort()
		return err
	}
	b.Publish()
	return nil
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, tables ...string) <-chan struct{} {
	return s.mirror.Watch(ctx, tables...)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.mirror.Close()
	return nil
}

package etcd

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/storetest"
)

// behind is a store that is written on a leader and read on a follower, which an Update waits for.
type behind struct {
	f        *fleet
	follower *Store

	mu     sync.Mutex
	closed bool
	ctx    context.Context // of what watches
	end    func()
}

func (b *behind) View(f func(store.Reader)) { b.follower.View(f) }

func (b *behind) Update(ctx context.Context, f func(store.Tx) error) error {
	b.mu.Lock() // the suite's functions look at what the follower's followers know
	defer b.mu.Unlock()
	if b.closed {
		return store.ErrClosed
	}
	leader := b.f.leader()
	if err := leader.Update(ctx, f); err != nil {
		return err
	}
	want := leader.published.Load().Revision()
	for b.follower.published.Load().Revision() < want {
		time.Sleep(100 * time.Microsecond)
	}
	b.follower.mu.Lock() // its own followers and watchers have been told, too
	defer b.follower.mu.Unlock()
	return nil
}

func (b *behind) Watch(ctx context.Context, interests ...store.Interest) *store.Watcher {
	mine, cancel := context.WithCancel(ctx)
	context.AfterFunc(b.ctx, cancel)
	return b.follower.Watch(mine, interests...)
}

func (b *behind) Follow(f store.Follower) { b.follower.Follow(f) }

func (b *behind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.end()
	return nil
}

// TestSuiteOnAFollower runs the suite of all stores on a follower's mirror.
func TestSuiteOnAFollower(t *testing.T) {
	f := newFleet(t, 2)
	follower := f.up["s1"]
	if f.leader() == follower {
		follower = f.up["s2"]
	}
	storetest.Run(t, func(t testing.TB) store.Store {
		b := &behind{f: f, follower: follower}
		b.ctx, b.end = context.WithCancel(ctx)
		follower.mu.Lock()
		follower.followers = store.Followers{}
		follower.mu.Unlock()
		err := b.Update(ctx, func(tx store.Tx) error {
			for _, region := range append([]string{""}, regionsOf(tx)...) {
				for _, kind := range store.Schema() {
					name := kind.Name
					if region != "" {
						name = region + "@" + name
					}
					for row := range tx.ScanRows(name, "") {
						tx.DeleteRow(name, row.(store.Keyed).Key())
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func regionsOf(r store.Reader) (all []string) {
	for row := range store.Regions.Scan(r, "") {
		all = append(all, (*model.Region)(row).Name)
	}
	return all
}

// Package store keeps Berth's state: typed tables that are read from a consistent snapshot in memory (View), changed in
// transactions that are durable before they return (Update), and watched for changes (Watch).
//
// Values are shared: what View and a transaction return must not be changed in place. To change a value, copy it, change the
// copy (replacing, not appending to, its slices and maps) and Put it.
//
// Two implementations live below: store/mem (nothing durable; tests, sims) and store/etcd. store/storetest is the one suite
// that both pass.
package store

import (
	"context"
	"errors"
	"iter"
)

// ErrClosed is returned by calls on a closed store.
var ErrClosed = errors.New("store is closed")

// ErrFull is in the error of an Update that was refused because the disk is full; see Freeing.
var ErrFull = errors.New("the disk is full")

// Store is a set of tables.
type Store interface {
	// View calls f with a consistent snapshot. The snapshot stays valid after f returns.
	View(f func(Reader))
	// Update calls f with a transaction. When f returns nil its writes are made durable, all or none, and then become
	// visible; Update returns only after that. When f returns an error nothing changes and Update returns that error.
	// f may be called on a state that already holds writes of other Updates not durable yet; if those fail, this one
	// fails too. f must not call the store and must be quick: updates run one after another.
	Update(ctx context.Context, f func(Tx) error) error
	// Watch collects the later changes of what is named; of everything when nothing is. To miss nothing, Watch first and View
	// then. The watcher ends when ctx is done or the store closes.
	Watch(ctx context.Context, interests ...Interest) *Watcher
	// Follow has f told of each later change as soon as later Updates see it, which is before it is durable.
	Follow(f Follower)
	// Close releases the store. Pending updates end with ErrClosed.
	Close() error
}

// Reader reads one snapshot. Use a Table's methods rather than these.
type Reader interface {
	// GetRow returns the value at key, or nil.
	GetRow(table, key string) any
	// ScanRows yields the values whose key starts with prefix, in the order of their keys.
	ScanRows(table, prefix string) iter.Seq[any]
	// IndexRows yields the values that the table's index lists under value, in the order of their keys.
	IndexRows(table, index, value string) iter.Seq[any]
	// Revision rises with every change of the store.
	Revision() uint64
}

// Tx reads its own writes and writes. Use a Table's methods rather than these.
type Tx interface {
	Reader
	PutRow(table, key string, value any)
	DeleteRow(table, key string)
}

// Keyed is a value that knows its key. Keys are unique in their table.
type Keyed interface{ Key() string }

// Table is a typed table of *T. Tables are declared once, in tables.go, and listed in Schema.
type Table[T any, P interface {
	*T
	Keyed
}] struct {
	name    string
	indexes []Index
	part    *Part // nil: rows are stored in one piece
}

// Index lists the values of a table by a second key. Value returns "" for values that are not listed.
type Index struct {
	Name  string
	Value func(row any) string
}

// Name is the table's name, as in a Change.
func (t Table[T, P]) Name() string { return t.name }

// Get returns the value at key; ok is false when there is none.
func (t Table[T, P]) Get(r Reader, key string) (v P, ok bool) {
	v, ok = r.GetRow(t.name, key).(P)
	return v, ok
}

// Scan yields the values whose key starts with prefix ("" for all), in the order of their keys.
func (t Table[T, P]) Scan(r Reader, prefix string) iter.Seq[P] {
	return func(yield func(P) bool) {
		for row := range r.ScanRows(t.name, prefix) {
			if !yield(row.(P)) {
				return
			}
		}
	}
}

// By yields the values that the named index lists under value, in the order of their keys.
func (t Table[T, P]) By(r Reader, index, value string) iter.Seq[P] {
	return func(yield func(P) bool) {
		for row := range r.IndexRows(t.name, index, value) {
			if !yield(row.(P)) {
				return
			}
		}
	}
}

// Put stores v at its key.
func (t Table[T, P]) Put(tx Tx, v P) { tx.PutRow(t.name, v.Key(), v) }

// Delete removes the value at key; a missing key is no error.
func (t Table[T, P]) Delete(tx Tx, key string) { tx.DeleteRow(t.name, key) }

// Kind is what an implementation needs to know of a table.
type Kind struct {
	Name    string
	Indexes []Index
	// Decode makes a value from what model.EncodeRow made of it.
	Decode func([]byte) (any, error)
	// Part is what is stored apart; nil for tables whose rows are stored in one piece.
	Part *Part
}

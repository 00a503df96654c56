// Package mirror keeps a store's tables in memory: immutable snapshots for readers, one writer, and notices for watchers. It is what
// store/mem is and what store/etcd puts in front of etcd.
package mirror

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/hashicorp/go-memdb"

	"github.com/berthdev/berth/internal/store"
)

// row is what memdb stores: memdb's indexers see it rather than the value.
type row struct {
	key   string
	value any
}

// Mirror is the tables. One goroutine at a time may hold a Batch; readers need no lock.
type Mirror struct {
	db       *memdb.MemDB
	kinds    map[string]store.Kind
	mu       sync.Mutex
	watchers map[*watcher]struct{}
	revision uint64 // guarded by mu
	closed   bool
}

type watcher struct {
	tables map[string]bool // nil: all
	c      chan struct{}
	stop   func() bool
}

// New makes empty tables.
func New(kinds []store.Kind) (*Mirror, error) {
	schema := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	m := &Mirror{kinds: map[string]store.Kind{}, watchers: map[*watcher]struct{}{}}
	for _, k := range kinds {
		m.kinds[k.Name] = k
		t := &memdb.TableSchema{Name: k.Name, Indexes: map[string]*memdb.IndexSchema{
			"id": {Name: "id", Unique: true, Indexer: indexer{func(r *row) string { return r.key }}}}}
		for _, ix := range k.Indexes {
			t.Indexes["by-"+ix.Name] = &memdb.IndexSchema{Name: "by-" + ix.Name, AllowMissing: true,
				Indexer: indexer{func(r *row) string { return ix.Value(r.value) }}}
		}
		schema.Tables[k.Name] = t
	}
	db, err := memdb.NewMemDB(schema)
	if err != nil {
		return nil, fmt.Errorf("store schema: %w", err)
	}
	m.db = db
	return m, nil
}

// indexer indexes rows by one string. A value ends with a zero byte, so that no value is another's prefix; memdb appends the
// primary key to secondary indexes, which therefore yield rows in the order of their keys.
type indexer struct{ of func(*row) string }

// FromObject implements memdb.SingleIndexer.
func (x indexer) FromObject(o any) (bool, []byte, error) {
	s := x.of(o.(*row))
	return s != "", []byte(s + "\x00"), nil
}

// FromArgs implements memdb.Indexer.
func (x indexer) FromArgs(args ...any) ([]byte, error) { return []byte(args[0].(string) + "\x00"), nil }

// PrefixFromArgs implements memdb.PrefixIndexer.
func (x indexer) PrefixFromArgs(args ...any) ([]byte, error) { return []byte(args[0].(string)), nil }

// snapshot is a store.Reader over one memdb transaction.
type snapshot struct {
	txn      *memdb.Txn
	revision uint64
}

// Snapshot returns the newest published state.
func (m *Mirror) Snapshot() store.Reader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return snapshot{m.db.Txn(false), m.revision}
}

// Revision implements store.Reader.
func (s snapshot) Revision() uint64 { return s.revision }

// GetRow implements store.Reader.
func (s snapshot) GetRow(table, key string) any {
	o, err := s.txn.First(table, "id", key)
	if err != nil {
		panic(fmt.Sprintf("store: table %q: %v", table, err)) // not in the schema: a mistake in the program
	}
	if o == nil {
		return nil
	}
	return o.(*row).value
}

// ScanRows implements store.Reader.
func (s snapshot) ScanRows(table, prefix string) iter.Seq[any] {
	return s.rows(func() (memdb.ResultIterator, error) { return s.txn.Get(table, "id_prefix", prefix) })
}

// IndexRows implements store.Reader.
func (s snapshot) IndexRows(table, index, value string) iter.Seq[any] {
	return s.rows(func() (memdb.ResultIterator, error) { return s.txn.Get(table, "by-"+index, value) })
}

func (s snapshot) rows(get func() (memdb.ResultIterator, error)) iter.Seq[any] {
	return func(yield func(any) bool) {
		it, err := get()
		if err != nil {
			panic(fmt.Sprintf("store: %v", err)) // not in the schema: a mistake in the program
		}
		for o := it.Next(); o != nil; o = it.Next() {
			if !yield(o.(*row).value) {
				return
			}
		}
	}
}

// Write is one change of one row; a nil Value deletes it.
type Write struct {
	Table, Key string
	Value      any
}

// Batch collects the writes of one or more updates before they are published together.
type Batch struct {
	m      *Mirror
	txn    *memdb.Txn
	Writes []Write
	// Check, when not nil, sees the writes of each update before they join the batch; its error ends that update alone.
	Check func([]Write) error
}

// Begin starts a batch. End it with Publish or Abort before the next Begin.
func (m *Mirror) Begin() *Batch { return &Batch{m: m, txn: m.db.Txn(true)} }

// Update calls f on the batch's state. When f returns an error none of its writes stay.
func (b *Batch) Update(f func(store.Tx) error) error {
	// memdb has no savepoints: f writes to a transaction of a snapshot that holds the batch so far; its writes are replayed
	// on the batch when it succeeds.
	t := &tx{snapshot: snapshot{b.txn.Snapshot(), 0}, batch: b, local: map[string]map[string]any{}}
	if err := f(t); err != nil {
		return err
	}
	if b.Check != nil {
		if err := b.Check(t.writes); err != nil {
			return err
		}
	}
	for _, w := range t.writes {
		if err := b.apply(w); err != nil {
			return err
		}
	}
	b.Writes = append(b.Writes, t.writes...)
	return nil
}

func (b *Batch) apply(w Write) error {
	if w.Value != nil {
		return b.txn.Insert(w.Table, &row{w.Key, w.Value})
	}
	old, err := b.txn.First(w.Table, "id", w.Key)
	if err != nil || old == nil {
		return err
	}
	return b.txn.Delete(w.Table, old)
}

// Abort forgets the batch.
func (b *Batch) Abort() { b.txn.Abort() }

// Publish makes the batch visible and tells the watchers.
func (b *Batch) Publish() {
	changed := map[string]bool{}
	for _, w := range b.Writes {
		changed[w.Table] = true
	}
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.txn.Commit()
	if len(changed) == 0 {
		return
	}
	b.m.revision++
	for w := range b.m.watchers {
		if w.wants(changed) {
			select {
			case w.c <- struct{}{}:
			default: // a notice is waiting already
			}
		}
	}
}

func (w *watcher) wants(changed map[string]bool) bool {
	if w.tables == nil {
		return true
	}
	for t := range changed {
		if w.tables[t] {
			return true
		}
	}
	return false
}

// Watch is store.Store's.
func (m *Mirror) Watch(ctx context.Context, tables ...string) <-chan struct{} {
	w := &watcher{c: make(chan struct{}, 1)}
	if len(tables) > 0 {
		w.tables = map[string]bool{}
		for _, t := range tables {
			w.tables[t] = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		close(w.c)
		return w.c
	}
	m.watchers[w] = struct{}{}
	w.stop = context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.end(w)
	})
	return w.c
}

// end needs the lock.
func (m *Mirror) end(w *watcher) {
	if _, ok := m.watchers[w]; ok {
		delete(m.watchers, w)
		close(w.c)
	}
}

// Close ends every watch.
func (m *Mirror) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for w := range m.watchers {
		w.stop()
		m.end(w)
	}
}

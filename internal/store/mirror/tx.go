package mirror

import (
	"cmp"
	"iter"
	"slices"

	"github.com/berthdev/berth/internal/store"
)

// Tx leads from one state to the next. It reads its own writes. One goroutine uses it, and only until Commit.
type Tx struct {
	base   *State
	own    map[string]*table // those that it wrote to
	frozen map[string]*table // own tables as they are being scanned; gone with the next write
	writes map[rowID]store.Change
}

var _ store.Tx = (*Tx)(nil)

type rowID struct{ table, key string }

// Begin starts a transaction on s. s itself never changes, and a transaction that is not to happen is simply dropped.
func (s *State) Begin() *Tx {
	return &Tx{base: s, own: map[string]*table{}, frozen: map[string]*table{}, writes: map[rowID]store.Change{}}
}

// Revision implements store.Reader.
func (t *Tx) Revision() uint64 { return t.base.revision }

// GetRow implements store.Reader.
func (t *Tx) GetRow(table, key string) any {
	if own, ok := t.own[table]; ok {
		return own.get(key)
	}
	return t.base.GetRow(table, key)
}

// ScanRows implements store.Reader. It yields what was there when the reading began.
func (t *Tx) ScanRows(table, prefix string) iter.Seq[any] {
	return func(yield func(any) bool) { t.still(table).scan(prefix)(yield) }
}

// IndexRows implements store.Reader. It yields what was there when the reading began.
func (t *Tx) IndexRows(table, index, value string) iter.Seq[any] {
	return func(yield func(any) bool) { t.still(table).by(index, value)(yield) }
}

// still returns a table that no write of the transaction changes.
func (t *Tx) still(name string) *table {
	own, ok := t.own[name]
	if !ok {
		return t.base.table(name)
	}
	if t.frozen[name] == nil {
		t.frozen[name] = own.clone()
	}
	return t.frozen[name]
}

// mine returns the table to write to.
func (t *Tx) mine(name string) *table {
	delete(t.frozen, name)
	if t.own[name] == nil {
		t.own[name] = t.base.table(name).clone()
	}
	return t.own[name]
}

// PutRow implements store.Tx. Panics when the table does not exist or value is nil.
func (t *Tx) PutRow(table, key string, value any) {
	if value == nil {
		panic("store: nil put into table " + table)
	}
	t.note(table, key, t.mine(table).put(key, value), value)
}

// DeleteRow implements store.Tx; a missing row is no change. Panics when the table does not exist.
func (t *Tx) DeleteRow(table, key string) {
	if t.GetRow(table, key) != nil {
		t.note(table, key, t.mine(table).remove(key), nil)
	}
}

// note keeps what a row was before the transaction and what it is now.
func (t *Tx) note(table, key string, old, value any) {
	id := rowID{table, key}
	c, again := t.writes[id]
	if !again {
		c = store.Change{Table: table, Key: key, Old: old}
	}
	c.New = value
	t.writes[id] = c
}

// Changes lists what the transaction wrote, one entry a row, ordered by table and key. A row that it made and deleted is listed, with
// neither value.
func (t *Tx) Changes() []store.Change {
	changes := make([]store.Change, 0, len(t.writes))
	for _, c := range t.writes {
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b store.Change) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Key, b.Key))
	})
	return changes
}

// Commit ends the transaction and returns the state that it leads to, whose revision is one higher when it wrote anything.
func (t *Tx) Commit() *State {
	if len(t.writes) == 0 {
		return t.base
	}
	return t.base.with(t.own)
}

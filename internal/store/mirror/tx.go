package mirror

import (
	"cmp"
	"slices"

	memdb "github.com/hashicorp/go-memdb"

	"github.com/berthdev/berth/internal/store"
)

// Tx leads from one state to the next. It reads its own writes. One goroutine uses it, and only until Commit.
type Tx struct {
	reader
	db     *memdb.MemDB
	writes map[rowID]any
}

var _ store.Tx = (*Tx)(nil)

type rowID struct{ table, key string }

// Write is one row that a transaction changed.
type Write struct {
	Table, Key string
	Value      any // nil: deleted
}

// Begin starts a transaction on s. s itself never changes, any number of transactions may begin on one state, and one that is
// not to happen is simply dropped.
func (s *State) Begin() *Tx {
	db := s.db.Snapshot()
	return &Tx{reader: reader{txn: db.Txn(true), revision: s.revision}, db: db, writes: map[rowID]any{}}
}

// PutRow implements store.Tx. Panics when the table does not exist or value is nil.
func (t *Tx) PutRow(table, key string, value any) {
	if value == nil {
		panic("store: nil put into table " + table)
	}
	mustBeDeclared(t.txn.Insert(table, &row{key: key, value: value}))
	t.writes[rowID{table, key}] = value
}

// DeleteRow implements store.Tx; a missing row is no change. Panics when the table does not exist.
func (t *Tx) DeleteRow(table, key string) {
	found, err := t.txn.First(table, primary, key)
	mustBeDeclared(err)
	if found == nil {
		return
	}
	mustBeDeclared(t.txn.Delete(table, found))
	t.writes[rowID{table, key}] = nil
}

// Writes lists what the transaction changed, one entry a row with its last value, ordered by table and key.
func (t *Tx) Writes() []Write {
	writes := make([]Write, 0, len(t.writes))
	for id, value := range t.writes {
		writes = append(writes, Write{Table: id.table, Key: id.key, Value: value})
	}
	slices.SortFunc(writes, func(a, b Write) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Key, b.Key))
	})
	return writes
}

// Commit ends the transaction and returns the state that it leads to, whose revision is one higher when it wrote anything.
func (t *Tx) Commit() *State {
	t.txn.Commit()
	if len(t.writes) == 0 {
		return &State{db: t.db, revision: t.revision}
	}
	return &State{db: t.db, revision: t.revision + 1}
}

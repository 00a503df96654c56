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
	writes map[rowID]store.Change
}

var _ store.Tx = (*Tx)(nil)

type rowID struct{ table, key string }

// Begin starts a transaction on s. s itself never changes, any number of transactions may begin on one state, and one that is
// not to happen is simply dropped.
func (s *State) Begin() *Tx {
	db := s.db.Snapshot()
	return &Tx{reader: reader{txn: db.Txn(true), revision: s.revision}, db: db, writes: map[rowID]store.Change{}}
}

// PutRow implements store.Tx. Panics when the table does not exist or value is nil.
func (t *Tx) PutRow(table, key string, value any) {
	if value == nil {
		panic("store: nil put into table " + table)
	}
	old := t.GetRow(table, key)
	mustBeDeclared(t.txn.Insert(table, &row{key: key, value: value}))
	t.note(table, key, old, value)
}

// DeleteRow implements store.Tx; a missing row is no change. Panics when the table does not exist.
func (t *Tx) DeleteRow(table, key string) {
	found, err := t.txn.First(table, primary, key)
	mustBeDeclared(err)
	if found == nil {
		return
	}
	mustBeDeclared(t.txn.Delete(table, found))
	t.note(table, key, found.(*row).value, nil)
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
	t.txn.Commit()
	if len(t.writes) == 0 {
		return &State{db: t.db, revision: t.revision}
	}
	return &State{db: t.db, revision: t.revision + 1}
}

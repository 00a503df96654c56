package mirror

import (
	"fmt"
	"iter"

	"github.com/berthdev/berth/internal/store"
)

// tx is the overlay of one update: it reads the batch's snapshot with its own writes laid
// over it, and keeps them as a list.
type tx struct {
	snapshot
	batch  *Batch
	writes []Write
	local  map[string]map[string]any
}

var _ store.Tx = (*tx)(nil)

// PutRow implements store.Tx.
func (t *tx) PutRow(table, key string, value any) {
	if value == nil {
		panic(fmt.Sprintf("store: nil put into %s at %s", table, key))
	}
	t.write(Write{table, key, value})
}

// DeleteRow implements store.Tx.
func (t *tx) DeleteRow(table, key string) {
	if t.GetRow(table, key) != nil {
		t.write(Write{table, key, nil})
	}
}

func (t *tx) write(w Write) {
	t.writes = append(t.writes, w)
	if t.local[w.Table] == nil {
		t.local[w.Table] = map[string]any{}
	}
	t.local[w.Table][w.Key] = w.Value
}

// GetRow implements store.Reader with the update's own writes.
func (t *tx) GetRow(table, key string) any {
	if v, ok := t.local[table][key]; ok {
		return v
	}
	return t.snapshot.GetRow(table, key)
}

// ScanRows implements store.Reader with the update's own writes.
func (t *tx) ScanRows(table, prefix string) iter.Seq[any] {
	return t.merged(table, t.snapshot.ScanRows(table, prefix), func(key string, _ any) bool {
		return len(key) >= len(prefix) && key[:len(prefix)] == prefix
	})
}

// IndexRows implements store.Reader with the update's own writes.
func (t *tx) IndexRows(table, index, value string) iter.Seq[any] {
	var of func(any) string
	for _, ix := range t.batch.m.kinds[table].Indexes {
		if ix.Name == index {
			of = ix.Value
		}
	}
	if of == nil {
		panic(fmt.Sprintf("store: table %s has no index %s", table, index))
	}
	return t.merged(table, t.snapshot.IndexRows(table, index, value), func(_ string, v any) bool { return of(v) == value })
}

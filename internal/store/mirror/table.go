package mirror

import (
	"fmt"
	"iter"
	"strings"
	"unique"

	"github.com/google/btree"

	"github.com/berthdev/berth/internal/store"
)

// degree is how wide the trees are: an update copies one node a level of each, and each node is a piece for the garbage collector.
const degree = 32

// table is one table's rows in the order of their keys, and its indexes. Its trees share their nodes with those that they were cloned
// from until one of both is changed.
type table struct {
	rows    *btree.BTreeG[*row]
	indexes []index
}

// row is one value and its key.
type row struct {
	key   string
	value any
}

// index lists rows by a value and, within it, by key.
type index struct {
	name    string
	value   func(row any) string
	entries *btree.BTreeG[entry]
}

// entry is a row in an index. Entries with the same value share it.
type entry struct {
	value unique.Handle[string]
	row   *row
}

func newTable(indexes []store.Index) *table {
	t := &table{rows: btree.NewG(degree, func(a, b *row) bool { return a.key < b.key })}
	for _, i := range indexes {
		t.indexes = append(t.indexes, index{i.Name, i.Value, btree.NewG(degree, entry.less)})
	}
	return t
}

func (e entry) less(than entry) bool {
	if e.value == than.value {
		return e.row.key < than.row.key
	}
	return e.value.Value() < than.value.Value()
}

// clone returns a table of the same content; afterwards each may be changed alone. It writes to t, which others may go on reading.
func (t *table) clone() *table {
	c := &table{rows: t.rows.Clone(), indexes: make([]index, len(t.indexes))}
	for n, i := range t.indexes {
		c.indexes[n] = index{i.name, i.value, i.entries.Clone()}
	}
	return c
}

func (t *table) get(key string) any {
	if found, ok := t.rows.Get(&row{key: key}); ok {
		return found.value
	}
	return nil
}

func (t *table) scan(prefix string) iter.Seq[any] {
	return func(yield func(any) bool) {
		t.rows.AscendGreaterOrEqual(&row{key: prefix}, func(r *row) bool {
			return strings.HasPrefix(r.key, prefix) && yield(r.value)
		})
	}
}

func (t *table) by(name, value string) iter.Seq[any] {
	for _, i := range t.indexes {
		if i.name == name {
			return i.list(value)
		}
	}
	panic(fmt.Sprintf("store: index %q is not declared", name))
}

func (i index) list(value string) iter.Seq[any] {
	return func(yield func(any) bool) {
		if value == "" {
			return
		}
		from := entry{unique.Make(value), &row{}} // no key is smaller than ""
		i.entries.AscendGreaterOrEqual(from, func(e entry) bool { return e.value == from.value && yield(e.row.value) })
	}
}

// put stores value at key and returns what was there, or nil.
func (t *table) put(key string, value any) (old any) {
	r := &row{key, value}
	was, there := t.rows.ReplaceOrInsert(r)
	for _, i := range t.indexes {
		before, after := "", i.value(value)
		if there {
			before = i.value(was.value)
		}
		if before != "" && before != after {
			i.entries.Delete(entry{unique.Make(before), was})
		}
		if after != "" {
			i.entries.ReplaceOrInsert(entry{unique.Make(after), r})
		}
	}
	if there {
		return was.value
	}
	return nil
}

// remove deletes the row at key and returns what was there, or nil.
func (t *table) remove(key string) (old any) {
	was, there := t.rows.Delete(&row{key: key})
	if !there {
		return nil
	}
	for _, i := range t.indexes {
		if value := i.value(was.value); value != "" {
			i.entries.Delete(entry{unique.Make(value), was})
		}
	}
	return was.value
}

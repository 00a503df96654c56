package store

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Computed are rows that exist without having been stored: those of the default VPC. A stored row of the same key goes first.
type Computed struct {
	tables map[string]computedTable
}

type computedTable struct {
	rows    []computedRow // by key
	indexes []Index
}

type computedRow struct {
	key string
	row any
}

// ComputedRow is a row of a table; see Table.Computed.
type ComputedRow struct {
	table   string
	indexes []Index
	computedRow
}

// Computed makes v a row of the table that is not stored.
func (t Table[T, P]) Computed(v P) ComputedRow {
	return ComputedRow{t.name, t.indexes, computedRow{v.Key(), v}}
}

// Compute gathers rows.
func Compute(rows ...ComputedRow) *Computed {
	c := &Computed{tables: map[string]computedTable{}}
	for _, r := range rows {
		t := c.tables[r.table]
		t.indexes = r.indexes
		t.rows = append(t.rows, r.computedRow)
		slices.SortFunc(t.rows, func(a, b computedRow) int { return cmp.Compare(a.key, b.key) })
		c.tables[r.table] = t
	}
	return c
}

// Over shows r with the computed rows among those that are stored. A nil Computed has none.
func (c *Computed) Over(r Reader) Reader {
	if c == nil {
		return r
	}
	return computedReader{r, c}
}

// OverTx is Over for a transaction: a computed row that is put is stored from then on.
func (c *Computed) OverTx(tx Tx) Tx {
	if c == nil {
		return tx
	}
	return computedTx{computedReader{tx, c}, tx}
}

type computedReader struct {
	stored Reader
	c      *Computed
}

// GetRow implements Reader.
func (r computedReader) GetRow(table, key string) any {
	if row := r.stored.GetRow(table, key); row != nil {
		return row
	}
	rows := r.c.tables[table].rows
	if i, ok := slices.BinarySearchFunc(rows, key, func(a computedRow, key string) int { return cmp.Compare(a.key, key) }); ok {
		return rows[i].row
	}
	return nil
}

// ScanRows implements Reader.
func (r computedReader) ScanRows(table, prefix string) iter.Seq[any] {
	return r.merge(table, r.stored.ScanRows(table, prefix), func(c computedRow) bool { return strings.HasPrefix(c.key, prefix) })
}

// IndexRows implements Reader.
func (r computedReader) IndexRows(table, index, value string) iter.Seq[any] {
	t := r.c.tables[table]
	i := slices.IndexFunc(t.indexes, func(i Index) bool { return i.Name == index })
	return r.merge(table, r.stored.IndexRows(table, index, value), func(c computedRow) bool {
		return i >= 0 && value != "" && t.indexes[i].Value(c.row) == value
	})
}

// merge yields stored rows, and those that are computed and not stored, in the order of their keys.
func (r computedReader) merge(table string, stored iter.Seq[any], want func(computedRow) bool) iter.Seq[any] {
	var own []computedRow
	for _, c := range r.c.tables[table].rows {
		if want(c) && r.stored.GetRow(table, c.key) == nil {
			own = append(own, c)
		}
	}
	if len(own) == 0 {
		return stored
	}
	return func(yield func(any) bool) {
		rest := own
		for row := range stored {
			key := row.(Keyed).Key()
			for len(rest) > 0 && rest[0].key < key {
				if !yield(rest[0].row) {
					return
				}
				rest = rest[1:]
			}
			if !yield(row) {
				return
			}
		}
		for _, c := range rest {
			if !yield(c.row) {
				return
			}
		}
	}
}

// Revision implements Reader.
func (r computedReader) Revision() uint64 { return r.stored.Revision() }

type computedTx struct {
	computedReader
	tx Tx
}

// PutRow implements Tx.
func (t computedTx) PutRow(table, key string, value any) { t.tx.PutRow(table, key, value) }

// DeleteRow implements Tx.
func (t computedTx) DeleteRow(table, key string) { t.tx.DeleteRow(table, key) }

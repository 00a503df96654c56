// Package mirror holds the tables of a store in memory: immutable states, and transactions that lead from one state to the next.
// store/mem is a mirror alone; store/etcd is a mirror that runs ahead of a log on disk.
package mirror

import (
	"fmt"
	"iter"
	"maps"

	"github.com/berthdev/berth/internal/store"
)

// State is the content of a store at one revision. It never changes and may be read by any number of goroutines; transactions are begun
// and run on it one at a time.
type State struct {
	tables   map[string]*table
	empty    map[string]*table // of the home region, without rows: the tables of regions that have none of their own
	revision uint64
}

// New makes an empty state at the given revision. It fails when the kinds contradict themselves, such as two tables of one name.
func New(kinds []store.Kind, revision uint64) (*State, error) {
	s := &State{tables: map[string]*table{}, empty: map[string]*table{}, revision: revision}
	for _, kind := range kinds {
		if _, twice := s.tables[kind.Name]; twice {
			return nil, fmt.Errorf("store schema: table %q is declared twice", kind.Name)
		}
		seen := map[string]bool{store.ByKey: true}
		for _, index := range kind.Indexes {
			if seen[index.Name] {
				return nil, fmt.Errorf("store schema: index %q of table %q is declared twice or reserved", index.Name, kind.Name)
			}
			seen[index.Name] = true
		}
		s.tables[kind.Name], s.empty[kind.Name] = newTable(kind.Indexes), newTable(kind.Indexes)
	}
	return s, nil
}

// Revision is the number of the state; every transaction that writes raises it by one.
func (s *State) Revision() uint64 { return s.revision }

// Reader returns a reader of the state that stays valid for good.
func (s *State) Reader() store.Reader { return s }

// At returns the same content as another revision.
func (s *State) At(revision uint64) *State {
	return &State{tables: s.tables, empty: s.empty, revision: revision}
}

// GetRow implements store.Reader.
func (s *State) GetRow(table, key string) any { return s.table(table).get(key) }

// ScanRows implements store.Reader.
func (s *State) ScanRows(table, prefix string) iter.Seq[any] { return s.table(table).scan(prefix) }

// IndexRows implements store.Reader.
func (s *State) IndexRows(table, index, value string) iter.Seq[any] {
	return s.table(table).by(index, value)
}

// table panics when there is none of that name, which is a fault in Berth's own code and not in anything that a user sent.
func (s *State) table(name string) *table {
	t, ok := s.tables[name]
	if !ok {
		t, ok = s.empty[store.BaseTable(name)]
	}
	if !ok {
		panic(fmt.Sprintf("store: table %q is not declared", name))
	}
	return t
}

// with returns the state that the tables make of s.
func (s *State) with(tables map[string]*table) *State {
	next := &State{tables: maps.Clone(s.tables), empty: s.empty, revision: s.revision + 1}
	maps.Copy(next.tables, tables)
	return next
}

// Package mirror holds the tables of a store in memory: immutable states, and transactions that lead from one state to the next.
// store/mem is a mirror alone; store/etcd is a mirror that runs ahead of a log on disk.
package mirror

import (
	"encoding/binary"
	"fmt"
	"iter"

	memdb "github.com/hashicorp/go-memdb"

	"github.com/berthdev/berth/internal/store"
)

const primary = store.ByKey

// State is the content of a store at one revision. It never changes and may be read by any number of goroutines.
type State struct {
	db       *memdb.MemDB
	revision uint64
}

// row is what the radix trees hold, so that a value need not know its key.
type row struct {
	key   string
	value any
}

// New makes an empty state at the given revision. It fails when the kinds contradict themselves, such as two tables of one name.
func New(kinds []store.Kind, revision uint64) (*State, error) {
	schema := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, kind := range kinds {
		if _, twice := schema.Tables[kind.Name]; twice {
			return nil, fmt.Errorf("store schema: table %q is declared twice", kind.Name)
		}
		indexes := map[string]*memdb.IndexSchema{primary: {Name: primary, Unique: true, Indexer: keyIndexer{}}}
		for _, index := range kind.Indexes {
			if _, twice := indexes[index.Name]; twice {
				return nil, fmt.Errorf("store schema: index %q of table %q is declared twice or reserved", index.Name, kind.Name)
			}
			indexes[index.Name] = &memdb.IndexSchema{Name: index.Name, AllowMissing: true, Indexer: valueIndexer{index.Value}}
		}
		schema.Tables[kind.Name] = &memdb.TableSchema{Name: kind.Name, Indexes: indexes}
	}
	db, err := memdb.NewMemDB(schema)
	if err != nil {
		return nil, fmt.Errorf("store schema: %w", err)
	}
	return &State{db: db, revision: revision}, nil
}

// Revision is the number of the state; every transaction that writes raises it by one.
func (s *State) Revision() uint64 { return s.revision }

// Reader returns a reader of the state that stays valid for good.
func (s *State) Reader() store.Reader { return reader{txn: s.db.Txn(false), revision: s.revision} }

// keyIndexer orders rows by key, byte by byte.
type keyIndexer struct{}

// FromObject implements memdb.SingleIndexer.
func (keyIndexer) FromObject(obj any) (bool, []byte, error) { return true, []byte(obj.(*row).key), nil }

// FromArgs implements memdb.Indexer.
func (keyIndexer) FromArgs(args ...any) ([]byte, error) { return []byte(args[0].(string)), nil }

// PrefixFromArgs implements memdb.PrefixIndexer.
func (keyIndexer) PrefixFromArgs(args ...any) ([]byte, error) { return []byte(args[0].(string)), nil }

// valueIndexer lists rows under an index's value. memdb appends the row's key, so the value carries its length in front: one
// value's rows are then never found under another that it begins with.
type valueIndexer struct{ value func(any) string }

// FromObject implements memdb.SingleIndexer.
func (v valueIndexer) FromObject(obj any) (bool, []byte, error) {
	value := v.value(obj.(*row).value)
	return value != "", encodeValue(value), nil
}

// FromArgs implements memdb.Indexer.
func (valueIndexer) FromArgs(args ...any) ([]byte, error) { return encodeValue(args[0].(string)), nil }

func encodeValue(value string) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(value)), uint32(len(value)))
	return append(b, value...)
}

// reader implements store.Reader on a memdb transaction.
type reader struct {
	txn      *memdb.Txn
	revision uint64
}

// Revision implements store.Reader.
func (r reader) Revision() uint64 { return r.revision }

// GetRow implements store.Reader.
func (r reader) GetRow(table, key string) any {
	found, err := r.txn.First(table, primary, key)
	mustBeDeclared(err)
	if found == nil {
		return nil
	}
	return found.(*row).value
}

// ScanRows implements store.Reader.
func (r reader) ScanRows(table, prefix string) iter.Seq[any] {
	return r.rows(table, primary+"_prefix", prefix)
}

// IndexRows implements store.Reader.
func (r reader) IndexRows(table, index, value string) iter.Seq[any] {
	return r.rows(table, index, value)
}

// rows yields what was there when the reading began, also when a transaction writes meanwhile.
func (r reader) rows(table, index, arg string) iter.Seq[any] {
	return func(yield func(any) bool) {
		rows, err := r.txn.Get(table, index, arg)
		mustBeDeclared(err)
		for next := rows.Next(); next != nil; next = rows.Next() {
			if !yield(next.(*row).value) {
				return
			}
		}
	}
}

// mustBeDeclared panics on memdb's only errors here: a table or index that is not in the schema, which is a fault in Berth's
// own code and not in anything that a user sent.
func mustBeDeclared(err error) {
	if err != nil {
		panic("store: " + err.Error())
	}
}

// At returns the same content as another revision.
func (s *State) At(revision uint64) *State { return &State{db: s.db, revision: revision} }

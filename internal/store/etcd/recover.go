package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/berthdev/berth/internal/store"
)

// DamagedError says that the state on the disk cannot be read.
type DamagedError struct {
	Path string
	Err  error
}

// Error implements error.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("the state in %s is damaged (%v); see what can be saved with: berth recover", e.Path, e.Err)
}

// Unwrap is the reason.
func (e *DamagedError) Unwrap() error { return e.Err }

// explain makes a DamagedError of errDamaged.
func explain(dir string, err error) error {
	if !errors.Is(err, errDamaged) {
		return err
	}
	return &DamagedError{filepath.Join(dir, "data", "member"), err}
}

// Rows yields every row as etcd holds it at one moment, key and value, also those of tables that this version does not know. They are
// read in pages; writes go on meanwhile.
func (s *Store) Rows(ctx context.Context, yield func(key string, value []byte) error) error {
	s.pinned.Add(1) // no compaction: all pages are read at one revision
	defer s.pinned.Add(-1)
	l := &loader{s: s}
	for _, prefix := range []string{partRows, tables} {
		ctx, cancel := context.WithCancel(ctx)
		runs, done := make(chan []*mvccpb.KeyValue, 1), make(chan error, 1)
		go func() {
			defer close(runs)
			done <- l.fetch(ctx, prefix, runs)
		}()
		var err error
		for run := range runs {
			for _, kv := range run {
				if err == nil {
					err = yield(string(kv.Key), kv.Value)
				}
			}
			if err != nil {
				cancel()
			}
		}
		failed := <-done
		cancel()
		if err = errors.Join(err, failed); err != nil {
			return err
		}
	}
	return nil
}

// revisionBytes is how long a key is in etcd's bucket "key", a deletion's mark apart: two numbers of 8 bytes and "_" between them.
const revisionBytes = 17

// Salvage reads what it can of the rows in dir's data file while no etcd runs there. lost lists rows that are damaged themselves; err
// says what kept it from reading on. What etcd had acknowledged within its last 100 ms is only in its log, and missing.
func Salvage(dir string, kinds []store.Kind) (rows map[string]string, lost []string, err error) {
	rows = map[string]string{}
	err = history(dir, func(c written) {
		if c.deleted {
			delete(rows, string(c.key))
		} else {
			rows[string(c.key)] = string(c.value)
		}
	})
	return rows, sift(rows, kinds), err
}

// history yields the changes in etcd's data file in the order in which they were made. It refuses records that
// etcd did not write so: etcd reads them on a goroutine of its own, where a panic ends the process.
func history(dir string, f func(written)) error {
	var last []byte
	return walk(filepath.Join(dir, "data", "member", "snap", "db"), func(bucket string, revision, data []byte) error {
		if bucket != "key" {
			return nil
		}
		deleted := len(revision) == revisionBytes+1 && revision[revisionBytes] == 't'
		if len(revision) != revisionBytes && !deleted || revision[8] != '_' {
			return fmt.Errorf("%q is no revision", revision)
		}
		main := int64(binary.BigEndian.Uint64(revision))
		if rev := revision[:revisionBytes]; main < 1 || int8(rev[9]) < 0 || bytes.Equal(rev, last) {
			return fmt.Errorf("revision %x is not in its place", revision)
		}
		last = append(last[:0], revision[:revisionBytes]...)
		c, ok := readWritten(data)
		if !ok || !deleted && (c.modified != main || c.created < 1 || c.created > main || c.version < 1) {
			return fmt.Errorf("revision %d says that it is another", main)
		}
		if !bytes.HasPrefix(c.key, []byte(tables)) && !bytes.HasPrefix(c.key, []byte(partRows)) && string(c.key) != fenceKey {
			return fmt.Errorf("revision %d is of %q, which no version of Berth writes", main, c.key)
		}
		c.deleted = deleted
		f(c)
		return nil
	})
}

// written is one of etcd's records, a mvccpb.KeyValue; key and value are parts of it.
type written struct {
	key, value                 []byte
	created, modified, version int64
	deleted                    bool
}

// readWritten reads a record without a copy: there are hundreds of thousands, and a start waits for all of them.
func readWritten(data []byte) (c written, ok bool) {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return c, false
		}
		data = data[n:]
		var v uint64
		var b []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(data)
		default:
			return c, false
		}
		if n < 0 {
			return c, false
		}
		data = data[n:]
		switch {
		case number == 1 && b != nil:
			c.key = b
		case number == 2 && kind == protowire.VarintType:
			c.created = int64(v)
		case number == 3 && kind == protowire.VarintType:
			c.modified = int64(v)
		case number == 4 && kind == protowire.VarintType:
			c.version = int64(v)
		case number == 5 && b != nil:
			c.value = b
		case number == 6 && kind == protowire.VarintType: // its lease
		default:
			return c, false
		}
	}
	return c, true
}

// sift takes out of rows what cannot be read, and names it.
func sift(rows map[string]string, kinds []store.Kind) (lost []string) {
	known := named(kinds)
	delete(rows, fenceKey)
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if _, _, err := read(known, key, []byte(rows[key])); err != nil {
			delete(rows, key)
			lost = append(lost, strings.TrimPrefix(strings.TrimPrefix(key, partRows), tables))
		}
	}
	return lost
}

// named are kinds by name.
func named(kinds []store.Kind) map[string]store.Kind {
	all := map[string]store.Kind{}
	for _, kind := range kinds {
		all[kind.Name] = kind
	}
	return all
}

// Replace puts rows, key and value, in the place of what is in dir, while no etcd runs there. What was there is kept aside, at the path
// that it returns; "" when there was nothing.
func Replace(ctx context.Context, c Config, rows iter.Seq2[string, []byte]) (aside string, err error) {
	data := filepath.Join(c.Dir, "data")
	if _, err := os.Stat(data); err == nil {
		aside = data + ".broken-" + time.Now().UTC().Format("20060102T150405.000")
		if err := os.Rename(data, aside); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return aside, err
	}
	m, err := run(ctx, c)
	if err != nil {
		return aside, err
	}
	return aside, errors.Join(m.insert(ctx, rows), m.stop())
}

// insert writes rows in bounded transactions.
func (m *member) insert(ctx context.Context, rows iter.Seq2[string, []byte]) error {
	var ops []clientv3.Op
	size := 0
	flush := func() error {
		_, err := m.client.Txn(ctx).Then(ops...).Commit()
		ops, size = nil, 0
		return err
	}
	for key, value := range rows {
		ops = append(ops, clientv3.OpPut(key, string(value)))
		if size += len(key) + len(value); size > maxBatchBytes || len(ops) >= maxBatchOps {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return flush()
}

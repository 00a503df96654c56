// Package records keeps the registry's rows beside its blobs, so that a copy of the blob store is a backup: repositories, images, their
// tags and what is set for them can be made again from it.
package records

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// tables are those whose rows are kept. Tags and what repositories hold follow from images.
func tables() map[string]func(store.Reader) []row {
	return map[string]func(store.Reader) []row{
		store.Repositories.Name():      all(store.Repositories),
		store.Images.Name():            all(store.Images),
		store.RegistrySettings.Name():  all(store.RegistrySettings),
		store.PullThroughRules.Name():  all(store.PullThroughRules),
		store.CreationTemplates.Name(): all(store.CreationTemplates),
		store.SealedBlobs.Name():       all(store.SealedBlobs), // without which nobody could tell what is in which blob
	}
}

type row struct {
	key   string
	value any
}

func all[T any, P interface {
	*T
	store.Keyed
}](t store.Table[T, P]) func(store.Reader) []row {
	return func(r store.Reader) (rows []row) {
		for v := range t.Scan(r, "") {
			rows = append(rows, row{v.Key(), v})
		}
		return rows
	}
}

// record is one row as it is kept.
type record struct {
	Table string          `json:"table"`
	Key   string          `json:"key"`
	Row   json.RawMessage `json:"row"`
}

// nameOf is a record's name: keys may be longer than names of files.
func nameOf(table, key string) string {
	return fmt.Sprintf("%s/%x.json", table, sha256.Sum256([]byte(key)))
}

// Keeper writes records as rows change.
type Keeper struct {
	Store store.Store
	Where registry.Records
	Leads func() bool // only a leader names the state
	// Writes tells whether this server writes; nil: always. It is asked again after each change.
	Writes func() bool
	Log    *slog.Logger
	behind bool // rows changed while it did not write
}

// marker is the record that names the state whose rows are kept: what another state's rows say must not be removed with this one's.
const marker = "state.json"

// Run writes until ctx is done. What fails is tried again.
func (k *Keeper) Run(ctx context.Context) error {
	var interests []store.Interest
	for t := range tables() {
		interests = append(interests, store.Interest{Table: t})
	}
	w := k.Store.Watch(ctx, interests...)
	pending := store.Batch{All: true}
	for {
		err := k.write(ctx, pending)
		var retry <-chan time.Time
		if err != nil && ctx.Err() == nil {
			k.Log.Warn("the registry's records are not all written", "error", err)
			pending, retry = store.Batch{All: true}, time.After(timeouts.RecordsRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-retry:
			continue
		case _, ok := <-w.C():
			if !ok {
				return nil
			}
		}
		if b := w.Take(); err == nil {
			pending = b
		}
	}
}

func (k *Keeper) write(ctx context.Context, b store.Batch) error {
	if k.Writes != nil && !k.Writes() {
		k.behind = true
		return nil
	}
	if b.All || k.behind {
		k.behind = false
		return k.writeAll(ctx)
	}
	for _, c := range b.Changes {
		if c.New == nil {
			if err := k.Where.DeleteRecord(ctx, nameOf(c.Table, c.Key)); err != nil {
				return err
			}
			continue
		}
		if err := k.put(ctx, c.Table, row{c.Key, c.New}); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) put(ctx context.Context, table string, r row) error {
	data, err := encode(table, r)
	if err != nil {
		return err
	}
	return k.Where.PutRecord(ctx, nameOf(table, r.key), data)
}

func encode(table string, r row) ([]byte, error) {
	data, err := model.EncodeRow(r.value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(record{table, r.key, data})
}

// writeAll levels all records. It removes one whose row is gone only when the records are this state's.
func (k *Keeper) writeAll(ctx context.Context) error {
	state, err := k.state(ctx)
	if err != nil || state == "" {
		return err
	}
	want := map[string][]byte{}
	k.Store.View(func(r store.Reader) {
		for table, rows := range tables() {
			for _, v := range rows(r) {
				var data []byte
				if data, err = encode(table, v); err != nil {
					return
				}
				want[nameOf(table, v.key)] = data
			}
		}
	})
	if err != nil {
		return err
	}
	var stale, there []string
	before := ""
	err = k.Where.EachRecord(ctx, func(name string, data []byte) error {
		switch {
		case name == marker:
			before = string(data)
		case string(want[name]) == string(data):
			delete(want, name)
		case want[name] == nil:
			stale = append(stale, name)
		default:
			there = append(there, name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if before != "" && before != state && len(stale) > 0 {
		k.Log.Warn("the blob store keeps records of images that this state does not know: berth registry rebuild brings them back", "records", len(stale))
		for _, name := range there {
			delete(want, name)
		}
		stale, state = nil, before
	}
	for name, data := range want {
		if err := k.Where.PutRecord(ctx, name, data); err != nil {
			return err
		}
	}
	for _, name := range stale {
		if err := k.Where.DeleteRecord(ctx, name); err != nil {
			return err
		}
	}
	if before != state {
		return k.Where.PutRecord(ctx, marker, []byte(state))
	}
	return nil
}

// state is the name of the store's state, which the leader gives it once; "": it has none yet.
func (k *Keeper) state(ctx context.Context) (name string, err error) {
	k.Store.View(func(r store.Reader) {
		if s, ok := store.RegistrySettings.Get(r, model.RegistryKey); ok {
			name = s.State
		}
	})
	if name != "" || !k.Leads() {
		return name, nil
	}
	name = uuid.NewString()
	err = k.Store.Update(ctx, func(tx store.Tx) error {
		next := model.RegistrySettings{}
		if s, ok := store.RegistrySettings.Get(tx, model.RegistryKey); ok {
			next = *s
		}
		if next.State == "" {
			next.State = name
		}
		name = next.State
		store.RegistrySettings.Put(tx, &next)
		return nil
	})
	return name, err
}

package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
)

// Rebuilt says what Rebuild did.
type Rebuilt struct {
	Repositories int      `json:"repositories"`
	Images       int      `json:"images"`
	Others       int      `json:"others"` // rules, templates, settings
	Lost         []string `json:"lost"`   // images whose content is not all there
}

// Rebuild makes the rows that are missing from the records. Rows that are there stay as they are.
func Rebuild(ctx context.Context, s store.Store, blobs registry.Storage, from registry.Records) (Rebuilt, error) {
	done := Rebuilt{Lost: []string{}}
	kinds := map[string]store.Kind{}
	for _, k := range store.Schema() {
		kinds[k.Name] = k
	}
	known := tables()
	var images []*model.Image
	err := from.EachRecord(ctx, func(name string, data []byte) error {
		var r record
		if name == marker || json.Unmarshal(data, &r) != nil || known[r.Table] == nil {
			return nil
		}
		v, err := kinds[r.Table].Decode(r.Row)
		if err != nil {
			return fmt.Errorf("record %s: %w", name, err)
		}
		if img, ok := v.(*model.Image); ok {
			images = append(images, img)
			return nil
		}
		return put(ctx, s, r.Table, r.Key, v, &done)
	})
	if err != nil {
		return done, err
	}
	for _, img := range images {
		if err := rebuild(ctx, s, blobs, img, &done); err != nil {
			return done, err
		}
	}
	state := ""
	s.View(func(r store.Reader) {
		if row, ok := store.RegistrySettings.Get(r, model.RegistryKey); ok {
			state = row.State
		}
	})
	if state == "" {
		return done, nil
	}
	return done, from.PutRecord(ctx, marker, []byte(state)) // the records are this state's now
}

// put stores a row that is missing; of the settings, which a new state has already, what it has not.
func put(ctx context.Context, s store.Store, table, key string, v any, done *Rebuilt) error {
	return s.Update(ctx, func(tx store.Tx) error {
		if cur := tx.GetRow(table, key); cur != nil {
			now, ok := cur.(*model.RegistrySettings)
			if !ok || now.Policy != "" || now.Scanning != nil || now.Signing != nil || now.Rule != nil || len(now.Replication.Rules)+len(now.Account)+len(now.Exclusions) > 0 {
				return nil
			}
			old := *v.(*model.RegistrySettings)
			old.State = now.State
			v = &old
		}
		tx.PutRow(table, key, v)
		if _, ok := v.(*model.Repository); ok {
			done.Repositories++
		} else {
			done.Others++
		}
		return nil
	})
}

// rebuild stores an image that is missing, its tags and what its repository holds for it.
func rebuild(ctx context.Context, s store.Store, blobs registry.Storage, img *model.Image, done *Rebuilt) error {
	sizes := map[string]int64{}
	for _, d := range append([]string{img.Digest}, img.Blobs...) {
		size, err := registry.StatIn(ctx, s, blobs, img.Repository, d)
		if errors.Is(err, fs.ErrNotExist) && (!img.Cached || d == img.Digest) {
			done.Lost = append(done.Lost, img.Key())
			return nil
		}
		if err == nil {
			sizes[d] = size
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.Images.Get(tx, img.Key()); ok {
			return nil
		}
		next := *img
		next.Tags = nil
		for _, tag := range img.Tags {
			if _, ok := store.ImageTags.Get(tx, img.Repository+":"+tag); !ok {
				store.ImageTags.Put(tx, &model.ImageTag{Repository: img.Repository, Tag: tag, Digest: img.Digest})
				next.Tags = append(next.Tags, tag)
			}
		}
		store.Images.Put(tx, &next)
		for _, d := range img.Blobs {
			if size, ok := sizes[d]; ok {
				store.RepositoryBlobs.Put(tx, &model.RepositoryBlob{Repository: img.Repository, Digest: d, Size: size, At: img.PushedAt})
			}
		}
		done.Images++
		return nil
	})
}

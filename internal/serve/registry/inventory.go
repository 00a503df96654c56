package registry

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxInventory bounds what is read of an inventory.
const maxInventory = 64 << 20

// KeepInventory keeps what a scan found an image to have as a blob of its repository, so that it is where the image is, and as safe.
func (r *Registry) KeepInventory(ctx context.Context, img *model.Image, data []byte) error {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
	if err := putBlob(ctx, r.blobsOf(img.Repository), digest, data); err != nil {
		return err
	}
	return r.Store.Update(ctx, func(tx store.Tx) error {
		cur, ok := store.Images.Get(tx, img.Key())
		if !ok {
			return nil
		}
		next := *cur
		next.Inventory = digest
		store.Images.Put(tx, &next)
		return nil
	})
}

// Inventory is what KeepInventory kept; an fs.ErrNotExist when there is none.
func (r *Registry) Inventory(ctx context.Context, img *model.Image) ([]byte, error) {
	digest := ""
	r.Store.View(func(tx store.Reader) {
		if cur, ok := store.Images.Get(tx, img.Key()); ok {
			digest = cur.Inventory
		}
	})
	if digest == "" {
		return nil, fs.ErrNotExist
	}
	return readBlob(ctx, r.blobsOf(img.Repository), digest, maxInventory)
}

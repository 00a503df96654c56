package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/errdefs"
)

// SweepSnapshots removes the folders of snapshots below root, one snapshotter's, of which its database does not know: a containerd
// that is killed between the making of a folder and the commit leaves it. The next snapshot would get the same number, and fail
// because its folder is there. No snapshotter may run on root.
func SweepSnapshots(ctx context.Context, root string) error {
	db := filepath.Join(root, "metadata.db")
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ms, err := storage.NewMetaStore(db)
	if err != nil {
		return err
	}
	defer ms.Close()
	var known map[string]string
	err = ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		known, err = storage.IDMap(ctx)
		return err
	})
	if err != nil && !errdefs.IsNotFound(err) { // not found: no snapshot was ever committed
		return fmt.Errorf("read %s: %w", db, err)
	}
	entries, err := os.ReadDir(filepath.Join(root, "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if _, ok := known[e.Name()]; ok {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, "snapshots", e.Name())); err != nil {
			return err
		}
	}
	return nil
}

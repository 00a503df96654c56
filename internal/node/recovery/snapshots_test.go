package recovery

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
)

// Folders that a killed snapshotter left are removed, those of snapshots are not; before the first commit as after it.
func TestSweepSnapshots(t *testing.T) {
	root := t.TempDir()
	if err := SweepSnapshots(t.Context(), root); err != nil {
		t.Fatalf("an empty root: %v", err)
	}
	folders := func() []string {
		entries, err := os.ReadDir(filepath.Join(root, "snapshots"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	for _, name := range []string{"1/fs", "2/fs/full", "new-123/fs"} {
		if err := os.MkdirAll(filepath.Join(root, "snapshots", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ms, err := storage.NewMetaStore(filepath.Join(root, "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	err = ms.WithTransaction(t.Context(), true, func(ctx context.Context) error {
		_, err := storage.CreateSnapshot(ctx, snapshots.KindActive, "known", "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ms.Close(); err != nil {
		t.Fatal(err)
	}
	if err := SweepSnapshots(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if got := folders(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("left: %v", got)
	}
	if err := os.Remove(filepath.Join(root, "metadata.db")); err != nil {
		t.Fatal(err)
	}
	ms, err = storage.NewMetaStore(filepath.Join(root, "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	_ = ms.WithTransaction(t.Context(), true, func(context.Context) error { return nil })
	ms.Close()
	if err := SweepSnapshots(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if got := folders(); len(got) != 0 {
		t.Errorf("left before the first commit: %v", got)
	}
}

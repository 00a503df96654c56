package etcd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// disk is one of which others leave so many bytes to the ballast and to Berth.
type disk struct {
	left    atomic.Int64
	ballast string
}

func (d *disk) free() (uint64, error) {
	info, err := os.Stat(d.ballast)
	if err != nil {
		return uint64(max(0, d.left.Load())), nil
	}
	return uint64(max(0, d.left.Load()-info.Size())), nil
}

func (d *disk) size(t *testing.T) int64 {
	info, err := os.Stat(d.ballast)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the ballast has mode %v", info.Mode())
	}
	return info.Size()
}

func add(ctx context.Context, s *Store, name string) error {
	return s.Update(ctx, func(tx store.Tx) error {
		store.Families.Put(tx, &model.Family{Name: name})
		return nil
	})
}

// TestFullDisk: a disk that is nearly full refuses writes by name, before etcd finds no space, and nothing of them is visible. Writes that
// free something go on, at the cost of the ballast, which is made again when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	d := &disk{ballast: filepath.Join(dir, "ballast")}
	s, err := Open(t.Context(), Config{Dir: dir, Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.room.free = d.free
	ordinary, freeing := t.Context(), store.Freeing(t.Context())
	d.left.Store(4 << 30)
	if err := add(ordinary, s, "a"); err != nil {
		t.Fatal(err)
	}
	if got := d.size(t); got != ballastBytes {
		t.Fatalf("the ballast has %d bytes", got)
	}
	for _, step := range []struct {
		name              string
		left              int64 // to the ballast and to Berth
		ordinary, freeing bool
		ballast           int64
	}{
		{"just enough", ballastBytes + reserve, true, true, ballastBytes},
		{"too little", ballastBytes + reserve - 1, false, true, ballastBytes},
		{"nothing", ballastBytes, false, true, ballastBytes - ballastStep},
		{"less than the ballast", ballastBytes - ballastStep, false, true, ballastBytes - 2*ballastStep},
		{"only some of it", ballastStep + remainder, false, true, 0},
		{"not even that", remainder - 1, false, false, 0},
		{"room again, not enough for a ballast", ballastBytes + 2*reserve - 1, true, true, 0},
		{"room for a ballast", ballastBytes + 2*reserve, true, true, ballastBytes},
	} {
		d.left.Store(step.left)
		s.room.looked = time.Time{} // long ago
		for _, w := range []struct {
			ctx  context.Context
			goes bool
		}{{freeing, step.freeing}, {ordinary, step.ordinary}} {
			name := step.name + map[bool]string{true: ", freeing", false: ", ordinary"}[w.ctx == freeing]
			err := add(w.ctx, s, name)
			if w.goes != (err == nil) || !w.goes && (model.ErrorCode(err) != "ServerException" || !errors.Is(err, store.ErrFull)) {
				t.Errorf("%s: %v", name, err)
			}
			s.View(func(r store.Reader) {
				if _, ok := store.Families.Get(r, name); ok != w.goes {
					t.Errorf("%s is visible: %v", name, ok)
				}
			})
		}
		if got := d.size(t); got != step.ballast {
			t.Errorf("%s: the ballast has %d MiB, want %d", step.name, got>>20, step.ballast>>20)
		}
	}
	if real, err := freeOf(t.TempDir())(); err != nil || real < 1<<20 {
		t.Errorf("%d bytes are free: %v", real, err)
	}
}

// TestRoomToStart: an etcd that starts on a full disk finds what it needs.
func TestRoomToStart(t *testing.T) {
	d := &disk{ballast: filepath.Join(t.TempDir(), "ballast")}
	r := &room{log: slog.New(slog.DiscardHandler), free: d.free, ballast: d.ballast}
	d.left.Store(4 << 30)
	if err := r.ask(false); err != nil {
		t.Fatal(err)
	}
	d.left.Store(ballastBytes)
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	if free, _ := d.free(); free != reserve {
		t.Errorf("%d MiB are free at the start", free>>20)
	}
}

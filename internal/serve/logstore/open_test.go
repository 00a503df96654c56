package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/cockroachdb/pebble/vfs/errorfs"
)

// garble overwrites the middle of each file that fits.
func garble(t *testing.T, dir, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		ok(t, err)
		for i := len(data) / 4; i < len(data)*3/4; i++ {
			data[i] ^= 0x5a
		}
		ok(t, os.WriteFile(file, data, 0o600))
	}
}

// TestADamagedStoreIsSetAside: whatever is broken, the server starts with logs that can be written, the old ones are kept, and the log
// says where.
func TestADamagedStoreIsSetAside(t *testing.T) {
	for name, damage := range map[string]func(dir string){
		"manifest":       func(dir string) { garble(t, dir, "MANIFEST-*") },
		"empty manifest": func(dir string) { files, _ := filepath.Glob(dir + "/MANIFEST-*"); ok(t, os.Truncate(files[0], 0)) },
		"table lost": func(dir string) {
			files, _ := filepath.Glob(dir + "/*.sst")
			if len(files) == 0 {
				t.Fatal("no table")
			}
			ok(t, os.Remove(files[0]))
		},
		"a file in its place": func(dir string) { ok(t, os.Remove(marker(t, dir))); ok(t, os.Mkdir(marker2(dir), 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "logs")
			s, err := Open(dir, config())
			ok(t, err)
			ok(t, s.CreateGroup(Group{Name: "old"}))
			ok(t, s.db.Flush())
			ok(t, s.Close())
			damage(dir)
			var said bytes.Buffer
			c := config()
			c.Log = slog.New(slog.NewTextHandler(&said, nil))
			s, err = Open(dir, c)
			ok(t, err)
			defer s.Close()
			ok(t, s.CreateGroup(Group{Name: "new"}))
			aside, _ := filepath.Glob(dir + ".broken-*")
			if len(aside) != 1 || !strings.Contains(said.String(), aside[0]) {
				t.Errorf("kept: %v; said: %s", aside, said.String())
			}
		})
	}
}

func marker(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(dir + "/marker.manifest.*")
	if err != nil || len(files) != 1 {
		t.Fatalf("markers %v, %v", files, err)
	}
	return files[0]
}

func marker2(dir string) string { return dir + "/marker.manifest.000009.MANIFEST-000099" }

// TestAStoreInUseIsNotDamaged: what another process holds, or this user may not read, stays where it is.
func TestAStoreInUseIsNotDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	s, err := Open(dir, config())
	ok(t, err)
	defer s.Close()
	if _, err := Open(dir, config()); err == nil {
		t.Error("a store was opened twice")
	}
	if aside, _ := filepath.Glob(dir + ".broken-*"); len(aside) > 0 {
		t.Errorf("set aside: %v", aside)
	}
	for err, want := range map[error]bool{fmt.Errorf("x: %w", syscall.ENOSPC): false, syscall.EACCES: false, errors.New("checksum"): true} {
		if damaged(err) != want {
			t.Errorf("%v is damage: %v", err, !want)
		}
	}
}

// TestAFullDiskAtStart: what is there can be read; writes are refused by name and nothing panics.
func TestAFullDiskAtStart(t *testing.T) {
	fs, c := vfs.NewMem(), config()
	c.MinFree = -1
	s, err := open("", c, fs, false)
	ok(t, err)
	ok(t, s.CreateGroup(Group{Name: "g"}))
	ok(t, s.Close())
	full := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op, file string) error {
		if (op == errorfs.OpCreate || op == errorfs.OpFileWrite || op == errorfs.OpFilePreallocate) && filepath.Base(file) != "LOCK" {
			return syscall.ENOSPC
		}
		return nil
	}))
	if _, err := open("", c, full, false); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("opened for writing on a full disk: %v", err)
	}
	s, err = open("", c, full, true)
	ok(t, err)
	defer s.Close()
	if _, err := s.Group("g"); err != nil {
		t.Error(err)
	}
	if err := s.CreateGroup(Group{Name: "h"}); !errors.Is(err, ErrDiskFull) {
		t.Errorf("a write: %v", err)
	}
}

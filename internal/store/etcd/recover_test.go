package etcd

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func config(dir string) Config {
	return Config{Dir: dir, Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler)}
}

// content is every row, as JSON.
func content(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	s.View(func(r store.Reader) {
		for _, kind := range store.Schema() {
			for row := range r.ScanRows(kind.Name, "") {
				data, err := model.EncodeRow(row)
				if err != nil {
					t.Fatal(err)
				}
				all[kind.Name+"/"+row.(store.Keyed).Key()] = string(data)
			}
		}
	})
	return all
}

// sample makes a store with some history and closes it; ever holds what any row ever was.
func sample(t *testing.T) (dir string, rows map[string]string, ever map[[2]string]bool) {
	t.Helper()
	dir, ever = t.TempDir(), map[[2]string]bool{}
	s, err := Open(ctx, config(dir))
	if err != nil {
		t.Fatal(err)
	}
	update := func(f func(store.Tx)) {
		t.Helper()
		must(t, s.Update(ctx, func(tx store.Tx) error { f(tx); return nil }))
		for key, value := range content(t, s) {
			ever[[2]string{key, value}] = true
		}
	}
	for i := range 60 {
		task := model.Task{ID: fmt.Sprint("t", i), Cluster: "c", Group: strings.Repeat("g", 200)}
		// Without what is observed, first: that is apart, and a flip can undo the deletion of one of the two.
		update(func(tx store.Tx) { store.Tasks.Put(tx, &task) })
		update(func(tx store.Tx) {
			store.Families.Put(tx, &model.Family{Name: fmt.Sprint("f", i%20), LatestRevision: i})
			seen := task
			report(int64(i))(&seen)
			store.Tasks.Put(tx, &seen)
			store.Tasks.Delete(tx, fmt.Sprint("t", i-30))
		})
	}
	rows = content(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, rows, ever
}

func dbOf(dir string) string { return filepath.Join(dir, "data", "member", "snap", "db") }

func wals(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "data", "member", "wal", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no log: %v", err)
	}
	return files
}

func flip(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rebuilt salvages what is in dir, puts it in place and opens it.
func rebuilt(t *testing.T, dir string) (rows map[string]string, lost []string) {
	t.Helper()
	saved, lost, err := Salvage(dir, store.Schema())
	if err != nil {
		t.Fatalf("salvage: %v", err)
	}
	aside, err := Replace(ctx, config(dir), func(yield func(string, []byte) bool) {
		for key, value := range saved {
			if !yield(key, []byte(value)) {
				return
			}
		}
	})
	must(t, err)
	if _, err := os.Stat(filepath.Join(aside, "member")); err != nil {
		t.Errorf("the broken files were not kept: %v", err)
	}
	s, err := Open(ctx, config(dir))
	must(t, err)
	defer s.Close()
	must(t, put(s, "written after"))
	rows = content(t, s)
	delete(rows, "families/written after")
	return rows, lost
}

// TestDamageIsNamedAndMended: a log or data file that is damaged or lost makes one sentence that names the files and the way out, and what
// etcd's data file holds is saved.
func TestDamageIsNamedAndMended(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string)
		mended bool
	}{
		"a byte of the log": {func(dir string) { flip(t, wals(t, dir)[0], 700) }, true},
		"the log is lost":   {func(dir string) { must(t, os.RemoveAll(filepath.Dir(wals(t, dir)[0]))) }, true},
		"the log is empty":  {func(dir string) { must(t, os.Truncate(wals(t, dir)[0], 0)) }, true},
		"the data is lost":  {func(dir string) { must(t, os.Remove(dbOf(dir))) }, false},
		"the data is cut":   {func(dir string) { must(t, os.Truncate(dbOf(dir), 16<<10)) }, false},
		"the data is no database": {func(dir string) {
			must(t, os.WriteFile(dbOf(dir), []byte(strings.Repeat("nothing ", 10_000)), 0o600))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, before, _ := sample(t)
			c.damage(dir)
			tried := t.TempDir() // etcd keeps files open that it could not start with
			must(t, os.CopyFS(tried, os.DirFS(dir)))
			s, err := Open(ctx, config(tried))
			if err == nil {
				s.Close()
				t.Fatal("it was opened")
			}
			if _, ok := errors.AsType[*DamagedError](err); !ok || !strings.Contains(err.Error(), filepath.Join(tried, "data", "member")) || !strings.Contains(err.Error(), "berth recover") ||
				strings.Contains(err.Error(), "\n") {
				t.Errorf("%T %v", err, err)
			}
			if !c.mended {
				if rows, _, err := Salvage(dir, store.Schema()); err == nil {
					t.Errorf("%d rows were saved of nothing", len(rows))
				}
				return
			}
			after, lost := rebuilt(t, dir)
			if !maps.Equal(after, before) || len(lost) > 0 {
				t.Errorf("saved %d rows of %d; lost %v", len(after), len(before), lost)
			}
		})
	}
}

// TestFlippedBytes: whichever byte of the data file changes, the store opens with rows that were once written, or not at all, and so is
// what is saved then. (A flip in etcd's own record of a change can undo that change: nothing in its file shows it.)
func TestFlippedBytes(t *testing.T) {
	dir, _, ever := sample(t)
	info, err := os.Stat(dbOf(dir))
	must(t, err)
	used := min(info.Size(), 200<<10)
	random := rand.New(rand.NewPCG(1, 2))
	opened, named := 0, 0
	for range 1000 {
		at := random.Int64N(used)
		flip(t, dbOf(dir), at)
		if complete(dir) != nil {
			named++
			refusedAndSaved(t, at, dir)
		} else if opened < 8 { // etcd takes its time
			opened++
			opensWith(t, at, dir, ever)
		}
		flip(t, dbOf(dir), at) // it is as it was
	}
	t.Logf("%d of 1000 flips were noticed before etcd looked", named)
}

// refusedAndSaved: a damaged file is named, and nothing that is saved of it is other than it was.
func refusedAndSaved(t *testing.T, at int64, dir string) {
	t.Helper()
	s, err := Open(ctx, config(dir))
	if err == nil {
		s.Close()
	}
	if _, ok := errors.AsType[*DamagedError](err); !ok {
		t.Errorf("byte %d: %v", at, err)
	}
	saved, _, _ := Salvage(dir, store.Schema())
	for key, value := range saved {
		if data, err := unseal(key, []byte(value)); err != nil || len(data) == len(value) {
			t.Errorf("byte %d: %s was saved as %s", at, key, value)
		}
	}
}

// opensWith: a copy of dir opens with rows that once were, or is named as damaged.
func opensWith(t *testing.T, at int64, dir string, ever map[[2]string]bool) {
	t.Helper()
	copied := filepath.Join(dir, "..", "copied")
	must(t, os.CopyFS(copied, os.DirFS(dir)))
	defer os.RemoveAll(copied)
	s, err := Open(ctx, config(copied))
	if err != nil {
		if _, ok := errors.AsType[*DamagedError](err); !ok {
			t.Errorf("byte %d: %v", at, err)
		}
		return
	}
	for key, value := range content(t, s) {
		if !ever[[2]string{key, value}] {
			t.Errorf("byte %d: row %s became %s", at, key, value)
		}
	}
	must(t, s.Close())
}

// TestARowThatChangedByItself is named, and the others are saved.
func TestARowThatChangedByItself(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(ctx, config(dir))
	must(t, err)
	must(t, put(s, "a"))
	must(t, put(s, "b"))
	got, err := s.member.Load().client.Get(ctx, "/berth/families/a")
	must(t, err)
	value := strings.Replace(string(got.Kvs[0].Value), `"a"`, `"x"`, 1)
	_, err = s.member.Load().client.Put(ctx, "/berth/families/a", value)
	must(t, err)
	must(t, s.Close())
	if _, err := Open(ctx, config(dir)); err == nil || !strings.Contains(err.Error(), "row a of table families") {
		t.Fatalf("opened: %v", err)
	}
	rows, lost := rebuilt(t, dir)
	if len(rows) != 1 || rows["families/b"] == "" || len(lost) != 1 || lost[0] != "families/a" {
		t.Errorf("saved %v, lost %v", rows, lost)
	}
}

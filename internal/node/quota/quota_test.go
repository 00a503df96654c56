package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// memory is a Disk without a file system: usage is what tests say.
type memory struct {
	limits, used map[uint32]int64
	dirs         map[string]uint32
	fail         error // of Tag
}

func newMemory() *memory {
	return &memory{map[uint32]int64{}, map[uint32]int64{}, map[string]uint32{}, nil}
}

func (m *memory) Limit(id uint32, bytes int64) error {
	m.limits[id] = bytes
	return nil
}

func (m *memory) Usage(id uint32) (int64, int64, error) { return m.used[id], m.limits[id], nil }

func (m *memory) Tag(dir string, id uint32) error {
	if m.fail == nil {
		m.dirs[dir] = id
	}
	return m.fail
}

func (m *memory) Project(dir string) (uint32, error) {
	id, ok := m.dirs[dir]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return id, nil
}

func open(t *testing.T, dir string, m *memory) *Quotas {
	t.Helper()
	q, err := Open(dir, m)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func assign(t *testing.T, q *Quotas, task string, bytes int64, dirs ...string) uint32 {
	t.Helper()
	if err := q.Assign(task, bytes, dirs...); err != nil {
		t.Fatal(err)
	}
	id, ok := q.ID(task)
	if !ok {
		t.Fatalf("task %s has no id", task)
	}
	return id
}

func TestEachTaskHasAnIDOfItsOwn(t *testing.T) {
	m := newMemory()
	q := open(t, t.TempDir(), m)
	owner := map[uint32]string{}
	for i := range 500 {
		task := fmt.Sprintf("%032x", i)
		id := assign(t, q, task, int64(i+1), "/"+task)
		if owner[id] != "" || id < firstID || id >= firstID+manyIDs {
			t.Fatalf("tasks %s and %q have id %#x", task, owner[id], id)
		}
		owner[id] = task
		if m.limits[id] != int64(i+1) || m.dirs["/"+task] != id {
			t.Fatalf("task %s: limit %d, directory's id %#x", task, m.limits[id], m.dirs["/"+task])
		}
	}
}

// What a hash gives twice, and what the file system knows of somebody else, is passed over.
func TestTakenIDsArePassedOver(t *testing.T) {
	m := newMemory()
	first := assign(t, open(t, t.TempDir(), m), "task", 1, "/a")
	m.used[first+1] = 1
	second := open(t, t.TempDir(), m) // another instance on the same disk, with a task of that name
	if id := assign(t, second, "task", 7, "/b"); id != first+2 {
		t.Errorf("id %#x, want %#x: %#x has a limit, the next is used", id, first+2, first)
	}
	if m.limits[first] != 1 {
		t.Errorf("the other's limit is %d now", m.limits[first])
	}
}

func TestARestartFindsTheIDsAndFreesThem(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	q := open(t, dir, m)
	id := assign(t, q, "task", 10, "/upper", "/work")
	other := assign(t, q, "other", 10, "/other")
	q = open(t, dir, m)
	if again := assign(t, q, "task", 20, "/volume"); again != id || m.limits[id] != 20 {
		t.Fatalf("after a restart the id is %#x with limit %d, before %#x", again, m.limits[id], id)
	}
	delete(m.dirs, "/upper")
	delete(m.dirs, "/work")
	q = open(t, dir, m)
	if err := q.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, ok := q.ID("task"); !ok {
		t.Fatal("the id was freed while a volume carries it")
	}
	m.dirs["/volume"] = 0 // made anew by somebody
	if err := q.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, ok := q.ID("task"); ok || m.limits[id] != 0 {
		t.Errorf("the id of a task that is gone is held, with limit %d", m.limits[id])
	}
	if _, ok := q.ID("other"); !ok || m.limits[other] != 10 {
		t.Error("another task's id was freed")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d records are left, want the other task's", len(left))
	}
}

func TestAFailureLeavesARecordToFree(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	m.fail = errors.New("no room")
	if err := open(t, dir, m).Assign("task", 10, "/a"); !errors.Is(err, m.fail) {
		t.Fatalf("error %v", err)
	}
	q := open(t, dir, m)
	id, ok := q.ID("task")
	if !ok {
		t.Fatal("the limit that was set is not on record")
	}
	if err := q.Sweep(); err != nil || m.limits[id] != 0 {
		t.Errorf("limit %d stays, %v", m.limits[id], err)
	}
}

func TestATornRecordStopsNothing(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	id := assign(t, open(t, dir, m), "task", 10, "/a")
	for name, content := range map[string]string{fmt.Sprint(id): "", fmt.Sprint(id + 1): `{"Ta`, "9.new": "{}"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q := open(t, dir, m)
	if err := q.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 || m.limits[id] != 0 {
		t.Errorf("%v and limit %d are left", left, m.limits[id])
	}
}

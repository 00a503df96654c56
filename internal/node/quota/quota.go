// Package quota bounds what a task writes to the disk, by project quotas of ext4 (mounted with prjquota) and xfs (pquota). Each task
// that has a bound has a project id; the directories that it writes to carry the id, and what is made below inherits it.
package quota

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
)

// Disk is a file system with project quotas. Kernel is the real one.
type Disk interface {
	// Limit bounds a project's bytes; 0 takes the bound away.
	Limit(id uint32, bytes int64) error
	// Usage returns the bytes that a project has and may have, both 0 for one that the file system does not know.
	Usage(id uint32) (used, limit int64, err error)
	// Tag gives a directory a project, which everything made in it inherits.
	Tag(dir string, id uint32) error
	// Project returns a directory's project, 0 for none. The error is fs.ErrNotExist when there is no such directory.
	Project(dir string) (uint32, error)
}

// record is a project id in use: the file named by the id holds it.
type record struct {
	Task string
	Dirs []string // that carried the id at some time
}

// Quotas gives tasks their project ids. Its methods may be called from many goroutines.
type Quotas struct {
	dir  string
	disk Disk

	mu  sync.Mutex
	ids map[uint32]record
}

// The ids that Berth takes; administrators' own are small numbers.
const firstID, manyIDs = 0x42000000, 1 << 24

// Open reads the records in dir, which is made. They last as long as the limits do: dir belongs beside the data, not below /run.
func Open(dir string, disk Disk) (*Quotas, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("records of disk quotas: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("records of disk quotas: %w", err)
	}
	q := &Quotas{dir: dir, disk: disk, ids: map[uint32]record{}}
	for _, e := range entries {
		id, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			_ = os.Remove(filepath.Join(dir, e.Name())) // a record that was being written
			continue
		}
		var r record
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("record of disk quota %s: %w", e.Name(), err)
		}
		if json.Unmarshal(data, &r) != nil {
			r = record{} // the machine went down while it was written, and the task with it: Sweep frees the id
		}
		q.ids[uint32(id)] = r
	}
	return q, nil
}

// Assign bounds what the task has in dirs, and in those of earlier calls, to bytes together. The directories must be new or the
// task's already: what is in them without its project stays uncounted. Calling it again is no error.
func (q *Quotas) Assign(task string, bytes int64, dirs ...string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	id, err := q.find(task)
	if err != nil {
		return err
	}
	r := q.ids[id]
	r.Task = task
	for _, d := range dirs {
		if !slices.Contains(r.Dirs, d) {
			r.Dirs = append(slices.Clip(r.Dirs), d)
		}
	}
	if err := q.save(id, r); err != nil { // first: what is tagged and limited must be found again
		return err
	}
	q.ids[id] = r
	if err := q.disk.Limit(id, bytes); err != nil {
		return fmt.Errorf("bound the task to %d bytes of disk: %w", bytes, err)
	}
	for _, d := range dirs {
		if err := q.disk.Tag(d, id); err != nil {
			return fmt.Errorf("count %s as the task's: %w", d, err)
		}
	}
	return nil
}

// find returns the task's id, or a free one that follows from its name. An id that the file system knows already is somebody else's.
func (q *Quotas) find(task string) (uint32, error) {
	for id, r := range q.ids {
		if r.Task == task {
			return id, nil
		}
	}
	h := fnv.New32a()
	h.Write([]byte(task))
	at := h.Sum32()
	for range manyIDs {
		id := uint32(firstID + at%manyIDs)
		at++
		if _, taken := q.ids[id]; taken {
			continue
		}
		used, limit, err := q.disk.Usage(id)
		if err != nil {
			return 0, fmt.Errorf("look at disk quota %d: %w", id, err)
		}
		if used == 0 && limit == 0 {
			return id, nil
		}
	}
	return 0, errors.New("all ids of disk quotas are taken")
}

// Sweep frees the ids that no directory carries any more: their tasks are gone. It may run at any time.
func (q *Quotas) Sweep() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(q.ids)) {
		held, err := q.held(id)
		if err == nil && !held {
			err = q.free(id)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (q *Quotas) held(id uint32) (bool, error) {
	for _, d := range q.ids[id].Dirs {
		switch p, err := q.disk.Project(d); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return false, err
		case p == id:
			return true, nil
		}
	}
	return false, nil
}

func (q *Quotas) free(id uint32) error {
	if err := q.disk.Limit(id, 0); err != nil {
		return fmt.Errorf("free disk quota %d: %w", id, err)
	}
	if err := os.Remove(q.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free disk quota %d: %w", id, err)
	}
	delete(q.ids, id)
	return nil
}

// ID returns the project id of a task; false when it has none.
func (q *Quotas) ID(task string) (uint32, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, r := range q.ids {
		if r.Task == task {
			return id, true
		}
	}
	return 0, false
}

func (q *Quotas) path(id uint32) string {
	return filepath.Join(q.dir, strconv.FormatUint(uint64(id), 10))
}

func (q *Quotas) save(id uint32, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := q.path(id) + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("record of disk quota %d: %w", id, err)
	}
	if err := os.Rename(tmp, q.path(id)); err != nil {
		return fmt.Errorf("record of disk quota %d: %w", id, err)
	}
	return nil
}

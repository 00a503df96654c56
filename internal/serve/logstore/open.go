package logstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
)

// Open opens the store in dir, which it makes (0700) when it is missing. Logs never keep a server from starting: a store that is damaged
// is kept beside, under the name dir.broken-<time>, and an empty one takes its place; on a full disk what is there can be read, and
// writes end with ErrDiskFull. The log says so. Errors are those of a directory that cannot be used or that another process holds.
func Open(dir string, c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil { // so that the directory's own name outlasts a power loss
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if lock, err := pebble.LockDirectory(dir, vfs.Default); err != nil {
		return nil, fmt.Errorf("another process uses the logs in %s: %w", dir, err)
	} else if err := lock.Close(); err != nil {
		return nil, err
	}
	s, err := try(dir, c, false)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, syscall.ENOSPC):
		if s, errRead := try(dir, c, true); errRead == nil {
			c.Log.Error("the disk is full: logs can be read but not written; free some space and start berth up again, tasks go on meanwhile", "error", err)
			return s, nil
		}
		return nil, fmt.Errorf("open logs: %w; free some space", err)
	case damaged(err):
		return openBeside(dir, c, err)
	}
	return nil, err
}

// openBeside sets a damaged store aside and opens an empty one.
func openBeside(dir string, c Config, why error) (*Store, error) {
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	aside := dir + ".broken-" + now().UTC().Format("20060102T150405.000")
	if err := os.Rename(dir, aside); err != nil {
		return nil, fmt.Errorf("set the damaged log store aside: %w", errors.Join(err, why))
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	c.Log.Error("the log store is damaged: logs begin anew, and what was there is kept at "+aside+" (delete it when nobody needs it)", "error", why)
	return try(dir, c, false)
}

// damaged tells whether a store that did not open is at fault itself, and not the machine around it.
func damaged(err error) bool {
	return !slices.ContainsFunc([]error{syscall.EAGAIN, syscall.EWOULDBLOCK, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EMFILE,
		syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EIO}, func(e error) bool { return errors.Is(err, e) })
}

// try opens dir; a panic of the database beneath is an error.
func try(dir string, c Config, frozen bool) (s *Store, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("open log store %s: %v", dir, p)
		}
	}()
	return open(dir, c, vfs.Default, frozen)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func open(dir string, c Config, on vfs.FS, frozen bool) (*Store, error) {
	o := options(c)
	o.FS, o.ReadOnly = on, frozen
	defer o.Cache.Unref() // the database holds its own reference
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open log store %s: %w", dir, err)
	}
	s := &Store{db: db, dir: dir, now: c.Now, minFree: c.MinFree, frozen: frozen}
	if s.now == nil {
		s.now = time.Now
	}
	if s.minFree == 0 {
		s.minFree = 64 << 20
	}
	if s.nextID, err = s.loadNextID(); err != nil {
		return nil, errors.Join(fmt.Errorf("read log store %s: %w", dir, err), db.Close())
	}
	return s, nil
}

package etcd

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

const (
	// reserve is how much of the disk is left to etcd alone: a segment of its log (64 MiB, allocated when the one before is taken
	// into use), a step of its data file (16 MiB) and a snapshot. An etcd that finds no space ends the process.
	reserve = 128 << 20
	// remainder is what has to be free for a write that frees: the pages that it takes itself.
	remainder = 16 << 20
	// ballastBytes is the size of a file that keeps room for those writes. It is given up in steps, and made again when there is room.
	ballastBytes = 256 << 20
	ballastStep  = 64 << 20
	ballastEvery = 10 * time.Second
)

// room decides whether there is space to write. Ordinary writes stop while some is left; those that free something (store.Freeing) go on
// with what the ballast kept from whoever fills the disk.
type room struct {
	log     *slog.Logger
	free    func() (uint64, error) // bytes on the disk of the data
	ballast string                 // the file

	mu     sync.Mutex
	told   time.Time // when the log last said that the disk is full
	looked time.Time // when the ballast was last looked at while there was room
}

func roomIn(dir string, log *slog.Logger) *room {
	return &room{log: log, free: freeOf(dir), ballast: filepath.Join(dir, "ballast")}
}

// ask refuses a write when the disk is nearly full. The error is for clients, too: they can do nothing but wait until somebody has made
// room, or stop what fills the disk.
func (r *room) ask(freeing bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, err := r.free()
	if err != nil {
		return err
	}
	if free >= reserve {
		r.refill(free)
		return nil
	}
	if freeing {
		if free = r.giveUp(free, 2*remainder); free >= remainder {
			return nil
		}
	}
	err = model.Errorf("ServerException", "Berth's disk is full: %d MiB are free where its data is, and it writes only while there are %d; "+
		"free some space. Tasks go on running, and can be stopped", free>>20, reserve>>20)
	if time.Since(r.told) > time.Minute { // everybody who writes tries again and again
		r.told = time.Now()
		r.log.Error(err.Error())
	}
	return full{err}
}

// full is the refusal; errors.Is finds store.ErrFull in it.
type full struct{ error }

// Is implements the interface of errors.Is.
func (f full) Is(target error) bool { return target == store.ErrFull }

// Unwrap is the sentence for clients.
func (f full) Unwrap() error { return f.error }

// least is what has to be free for an etcd of several: the next segment of its log, and a page.
const least = reserve/2 + remainder

// keeps gives up ballast for an etcd that follows, and tells whether there is room for it to go on: one that finds none ends the process.
func (r *room) keeps() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, err := r.free()
	if err != nil || free >= reserve {
		return true
	}
	return r.giveUp(free, reserve) >= least
}

// start makes room for an etcd that is to start: it needs a segment of its log.
func (r *room) start() error { return r.make(reserve) }

// end makes room for an etcd that is to end: it writes what it holds.
func (r *room) end() error { return r.make(2 * remainder) }

func (r *room) make(wanted uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, err := r.free()
	if err == nil && free < wanted {
		r.giveUp(free, wanted)
	}
	return err
}

// giveUp shrinks the ballast until so much is free, and returns what is. Needs mu.
func (r *room) giveUp(free, wanted uint64) uint64 {
	for free < wanted {
		size := r.size()
		if size == 0 {
			return free
		}
		if err := os.Truncate(r.ballast, max(0, size-ballastStep)); err != nil {
			r.log.Error("cannot give up the ballast", "error", err)
			return free
		}
		r.looked = time.Now()
		now, err := r.free()
		if err != nil {
			return free
		}
		free = now
		r.log.Warn("the disk is full: some ballast was given up so that tasks can be stopped", "freeMiB", free>>20, "ballastMiB", r.size()>>20)
	}
	return free
}

// refill makes the ballast whole when that leaves twice the reserve. It looks now and then only. Needs mu.
func (r *room) refill(free uint64) {
	if time.Since(r.looked) < ballastEvery {
		return
	}
	r.looked = time.Now()
	missing := ballastBytes - r.size()
	if missing <= 0 || free < uint64(missing)+2*reserve {
		return
	}
	f, err := os.OpenFile(r.ballast, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, ballastBytes), f.Close())
	}
	if err != nil { // a file system that cannot allocate: then stops share the fate of other writes
		r.log.Debug("no ballast can be kept", "error", err)
	}
}

// size is how large the ballast is. Needs mu.
func (r *room) size() int64 {
	info, err := os.Stat(r.ballast)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.log.Error("cannot look at the ballast", "error", err)
		}
		return 0
	}
	return info.Size()
}

// freeOf returns a function that asks for the free space at dir, as root sees it.
func freeOf(dir string) func() (uint64, error) {
	return func() (uint64, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return 0, err
		}
		return st.Bfree * uint64(st.Bsize), nil
	}
}

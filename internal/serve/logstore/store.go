// Package logstore keeps the lines that containers write: groups of streams of events, on disk, ordered by time. The API over it
// is package logs; the agent writes to it as the sink of its log driver.
//
// Durability: what Write and every other change returned from is synced. Syncs of concurrent writers are joined, and at most one
// is made in SyncInterval, so a lone writer waits up to that long. An event is visible to readers just before it is synced.
package logstore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble"
	"golang.org/x/sys/unix"
)

// The refusals of a Store.
var (
	ErrNoGroup      = errors.New("the log group does not exist")
	ErrGroupExists  = errors.New("the log group already exists")
	ErrNoStream     = errors.New("the log stream does not exist")
	ErrStreamExists = errors.New("the log stream already exists")
	ErrBadName      = errors.New("the name is not allowed")
	ErrProtected    = errors.New("the log group is protected from deletion")
	ErrDiskFull     = errors.New("the disk that holds the logs is full")
	ErrClosed       = errors.New("log store is closed")
)

// Config is how a Store is opened. The zero Config works but for Log.
type Config struct {
	Log *slog.Logger
	// Now is the clock that stamps creation and ingestion; nil means time.Now.
	Now func() time.Time
	// SyncInterval is the shortest time between two syncs of the disk; 0 means 20 ms, negative means none.
	SyncInterval time.Duration
	// MinFree is how many bytes of disk are left free: below it writes end with ErrDiskFull. 0 means 64 MiB, negative none.
	MinFree int64
}

// Bounds of memory: the block cache, and one memtable of which two may exist at a time.
const (
	cacheBytes    = 8 << 20
	memtableBytes = 4 << 20
	openFiles     = 128
)

// Store is an open log store. All methods may be called by any number of goroutines.
type Store struct {
	db      *pebble.DB
	dir     string
	now     func() time.Time
	minFree int64
	frozen  bool // read-only: the disk was full when it was opened
	feed    feed

	// life is held for reading by every call, once, and for writing by Close.
	life   sync.RWMutex
	closed bool

	// mu orders changes: the records of groups and streams are read, changed and written back under it.
	mu     sync.Mutex
	nextID uint64 // of the next group or stream
}

func options(c Config) *pebble.Options {
	interval := c.SyncInterval
	if interval == 0 {
		interval = 20 * time.Millisecond
	}
	return &pebble.Options{
		Cache:                       pebble.NewCache(cacheBytes),
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      logger{c.Log},
		MaxOpenFiles:                openFiles,
		MemTableSize:                memtableBytes,
		MemTableStopWritesThreshold: 2,
		WALMinSyncInterval:          func() time.Duration { return max(0, interval) },
		Levels:                      []pebble.LevelOptions{{TargetFileSize: memtableBytes}},
	}
}

// Close closes the store after the calls in progress. Further calls end with ErrClosed; a second Close does nothing.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.feed.close()
	return s.db.Close()
}

// enter keeps the store open until the returned function is called.
func (s *Store) enter() (leave func(), err error) {
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, ErrClosed
	}
	return s.life.RUnlock, nil
}

// change builds a batch under mu and applies it, then waits outside mu until it is synced: waiting writers share a sync.
func (s *Store) change(build func(*pebble.Batch) error) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	if s.frozen {
		return fmt.Errorf("%w: it was when Berth started, so logs can only be read until there is room and berth up is started again", ErrDiskFull)
	}
	batch := s.db.NewBatch()
	defer batch.Close()
	if err := s.apply(batch, build); err != nil {
		return err
	}
	if batch.Empty() {
		return nil
	}
	if err := batch.SyncWait(); err != nil {
		return fmt.Errorf("sync log store: %w", err)
	}
	return nil
}

func (s *Store) apply(batch *pebble.Batch, build func(*pebble.Batch) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := build(batch); err != nil {
		return err
	}
	if batch.Empty() {
		return nil
	}
	if err := s.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		return fmt.Errorf("write log store: %w", err)
	}
	return nil
}

// checkSpace refuses to fill the disk to its last byte: the database beneath cannot go on when it fails to write its own log.
func (s *Store) checkSpace() error {
	if s.minFree < 0 {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < s.minFree {
		return fmt.Errorf("%w: %s has %d MiB left", ErrDiskFull, s.dir, free>>20)
	}
	return nil
}

// logger hands pebble's messages on. Fatalf is called when the database cannot continue safely and must not return.
type logger struct{ log *slog.Logger }

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("log store", "message", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.log.Error("log store cannot continue", "message", message)
	panic("log store: " + message)
}

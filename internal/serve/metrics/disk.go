package metrics

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"golang.org/x/sys/unix"
)

// tier is a resolution. Times in seconds.
type tier struct {
	id    byte
	res   int64
	keep  int64
	slot  int64 // what is deleted together
	short bool  // of tasks
}

const (
	hour = 3600
	day  = 24 * hour
)

var tiers = []tier{
	{'a', 10, 3 * hour, hour, false},
	{'b', 60, 15 * day, day, false},
	{'c', 300, 63 * day, 7 * day, false},
	{'d', hour, 455 * day, 30 * day, false},
	{'s', 10, hour, hour / 4, true},
	{'t', 60, day, 3 * hour, true},
}

// cell is where a statistic set is kept.
type cell struct {
	tier byte
	id   uint64
	at   int64
}

// Keys: 'i' and the id, of a series' record; the tier, its slot, the id and the time, of a cell.
func (k cell) key(slot int64) []byte {
	b := binary.BigEndian.AppendUint32([]byte{k.tier}, uint32(k.at/slot))
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, k.id), uint32(k.at))
}

func seriesKey(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'i'}, id) }

func tierOf(id byte) *tier {
	return &tiers[slices.IndexFunc(tiers, func(t tier) bool { return t.id == id })]
}

// record is a series on disk.
type record struct {
	Region     string `json:",omitempty"`
	Namespace  string
	Name       string
	Dimensions map[string]string `json:",omitempty"`
	Unit       string
	Last       int64
}

// adder adds up the statistic sets that were written to a cell.
type adder struct {
	sum   stat
	short bool
	err   error
}

func (a *adder) add(value []byte) error {
	s, err := decode(value)
	if err != nil {
		return nil // one cell that cannot be read costs itself, not the store
	}
	a.sum = a.sum.plus(s, !a.short)
	return nil
}

// MergeNewer implements pebble.ValueMerger.
func (a *adder) MergeNewer(value []byte) error { return a.add(value) }

// MergeOlder implements pebble.ValueMerger.
func (a *adder) MergeOlder(value []byte) error { return a.add(value) }

// Finish implements pebble.ValueMerger.
func (a *adder) Finish(bool) ([]byte, io.Closer, error) { return a.sum.encode(), nil, nil }

var merger = &pebble.Merger{Name: "berth.statistics", Merge: func(key, value []byte) (pebble.ValueMerger, error) {
	a := &adder{short: len(key) > 0 && (key[0] == 's' || key[0] == 't')}
	return a, a.add(value)
}}

// What the database beneath takes, bytes and files.
const (
	cacheBytes    = 8 << 20
	memtableBytes = 4 << 20
	openFiles     = 64
)

func (c *core) open() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("open the store of metrics: %v", p)
		}
	}()
	if lock, err := pebble.LockDirectory(c.dir, vfs.Default); err != nil {
		return fmt.Errorf("another process uses the metrics in %s: %w", c.dir, errors.Join(err, syscall.EAGAIN))
	} else if err := lock.Close(); err != nil {
		return err
	}
	o := &pebble.Options{Cache: pebble.NewCache(cacheBytes), FormatMajorVersion: pebble.FormatNewest, Logger: logger{c.Log}, MaxOpenFiles: openFiles,
		MemTableSize: memtableBytes, MemTableStopWritesThreshold: 4, Merger: merger, Levels: []pebble.LevelOptions{{TargetFileSize: memtableBytes}}}
	defer o.Cache.Unref()
	db, err := pebble.Open(c.dir, o)
	if err != nil {
		return err
	}
	c.all, c.groups, c.pending = map[string]*series{}, map[string]map[string]*series{}, map[cell]stat{}
	c.next, c.custom = 0, 0
	if err := c.load(db); err != nil {
		return errors.Join(err, db.Close())
	}
	c.db = db
	return nil
}

// load reads which series there are.
func (c *core) load(db *pebble.DB) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'i'}, UpperBound: []byte{'j'}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		var r record
		if len(it.Key()) != 9 || json.Unmarshal(it.Value(), &r) != nil {
			continue
		}
		s := &series{id: binary.BigEndian.Uint64(it.Key()[1:]), region: r.Region, unit: r.Unit, last: r.Last, saved: r.Last,
			metric: Metric{Namespace: r.Namespace, Name: r.Name, Dimensions: r.Dimensions}}
		c.next = max(c.next, s.id)
		c.keep(s.key(), s)
	}
	return errors.Join(it.Error(), it.Close())
}

// lastEvery is how old the written time of a series' newest sample may be.
const lastEvery = 600

// Flush writes what is pending.
func (s *Series) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

// flush needs the lock.
func (c *core) flush() error {
	if c.db == nil || len(c.pending) == 0 {
		return nil
	}
	if err := c.space(); err != nil {
		return err
	}
	b := c.db.NewBatch()
	defer b.Close()
	for k, st := range c.pending {
		if err := b.Merge(k.key(tierOf(k.tier).slot), st.encode(), nil); err != nil {
			return err
		}
	}
	for _, s := range c.all {
		if s.saved != 0 && s.last < s.saved+lastEvery {
			continue
		}
		row, err := json.Marshal(record{s.region, s.metric.Namespace, s.metric.Name, s.metric.Dimensions, s.unit, s.last})
		if err != nil {
			return err
		}
		if err := b.Set(seriesKey(s.id), row, nil); err != nil {
			return err
		}
		s.saved = max(s.last, 1)
	}
	if err := c.db.Apply(b, pebble.NoSync); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	clear(c.pending)
	return nil
}

// space refuses to fill the disk to its last byte: the database beneath cannot go on when it fails to write its own log. It needs the lock.
func (c *core) space() error {
	if c.MinFree < 0 {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.dir, &fs); err != nil {
		return fmt.Errorf("free space of %s: %w", c.dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < c.MinFree {
		return fmt.Errorf("the disk that holds the metrics is full: %s has %d MiB left", c.dir, free>>20)
	}
	return nil
}

// Tend writes what is pending, and tells at most once in ten minutes when that fails: call it every few seconds.
func (s *Series) Tend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.flush(); err != nil && s.Now().Sub(s.complain) > 10*time.Minute {
		s.complain = s.Now()
		s.Log.Error("metrics are not written", "error", err)
	}
}

// Sweep deletes what is older than it is kept and forgets metrics that had no sample for as long as they are listed: call it once an hour.
func (s *Series) Sweep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	now := s.Now().Unix()
	for _, t := range tiers {
		end := binary.BigEndian.AppendUint32([]byte{t.id}, uint32(max(0, now-t.keep)/t.slot))
		if err := s.db.DeleteRange([]byte{t.id}, end, pebble.NoSync); err != nil {
			return fmt.Errorf("delete old metrics: %w", err)
		}
	}
	for k, m := range s.all {
		kept := int64(15 * day)
		if m.short() {
			kept = hour
		}
		if m.last >= now-kept {
			continue
		}
		s.forget(k, m)
		if err := s.db.Delete(seriesKey(m.id), pebble.NoSync); err != nil {
			return fmt.Errorf("delete an old metric: %w", err)
		}
	}
	return nil
}

// Close writes what is pending and closes the store; later samples are left out.
func (s *Series) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.flush()
	err = errors.Join(err, s.db.Close())
	s.db = nil
	return err
}

// damaged tells whether a store that did not open is at fault itself, and not the machine around it.
func damaged(err error) bool {
	return err != nil && !slices.ContainsFunc([]error{syscall.EAGAIN, syscall.EWOULDBLOCK, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EMFILE,
		syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EIO}, func(e error) bool { return errors.Is(err, e) })
}

// logger hands pebble's messages on. Fatalf is called when the database cannot continue safely and must not return.
type logger struct{ log *slog.Logger }

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("metrics", "message", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.log.Error("the store of metrics cannot continue", "message", message)
	panic("store of metrics: " + message)
}

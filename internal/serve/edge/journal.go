package edge

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/serve/proxy/link"
)

// minRewrite is how much a journal may grow before it is written anew, if that is more than it had then.
const minRewrite = 1 << 20

// healthSize is how many targets one frame names.
const healthSize = 2000

// journal keeps on disk what the process serves and what it sees of targets, so that a killed one's successor goes on there. It holds
// frames as they travel over the link: a whole table, and what changed since. It is below /run, which ends with the machine, so
// nothing is synced: what a process has written survives its kill.
type journal struct {
	path string
	log  *slog.Logger
	now  func() (proxy.Table, []model.TargetHealth) // what is to be kept
	wake chan struct{}

	mu   sync.Mutex // of the file; the proxy's own locks are taken under it
	f    *os.File   // nil: nothing is written (any more)
	base int64
	size int64

	noting  sync.Mutex // of pending; it is taken under the proxy's
	pending map[string]model.TargetHealth
}

// readJournal reads what a process left. A last frame that it did not finish is ignored; no file is an empty table.
func readJournal(path string) (proxy.Table, map[string]model.TargetHealth, error) {
	known := map[string]model.TargetHealth{}
	var kept proxy.Kept
	kept.Change(proxy.Delta{All: true})
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return kept.Table(), known, nil
	}
	if err != nil {
		return kept.Table(), known, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	for {
		var m *link.Message
		m, err = link.ReadFrame(r)
		if err != nil {
			break
		}
		for _, h := range m.Health {
			known[h.Key()] = h
		}
		if m.Apply == nil {
			continue
		}
		kept.Change(m.Apply.Delta)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return kept.Table(), known, err
}

func newJournal(path string, now func() (proxy.Table, []model.TargetHealth), log *slog.Logger) *journal {
	return &journal{path: path, now: now, log: log, wake: make(chan struct{}, 1), pending: map[string]model.TargetHealth{}}
}

// begin replaces what is on disk by what is now, and has changes written from here on.
func (j *journal) begin() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rewrite()
}

// rewrite needs the lock.
func (j *journal) rewrite() (err error) {
	t, health := j.now()
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<16)
	for _, a := range link.Parts("", 0, t.Whole()) {
		if err = link.WriteFrame(w, &link.Message{Apply: a}); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	for part := range slices.Chunk(health, healthSize) {
		if err = link.WriteFrame(w, &link.Message{Health: part}); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err = w.Flush(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err = os.Rename(j.path+".new", j.path); err != nil {
		return errors.Join(err, f.Close())
	}
	if j.f != nil {
		_ = j.f.Close() // nobody reads it any more
	}
	j.f = f
	j.base, err = f.Seek(0, io.SeekCurrent)
	j.size = j.base
	return err
}

// change notes a change of the table.
func (j *journal) change(d proxy.Delta) { j.write(&link.Message{Apply: &link.Apply{Delta: d}}) }

// health notes what is seen of a target; it does not block.
func (j *journal) health(h model.TargetHealth) {
	j.noting.Lock()
	j.pending[h.Key()] = h
	j.noting.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// run writes what health noted until done is closed.
func (j *journal) run(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-j.wake:
		}
		j.noting.Lock()
		all := slices.Collect(maps.Values(j.pending))
		clear(j.pending)
		j.noting.Unlock()
		for part := range slices.Chunk(all, healthSize) {
			j.write(&link.Message{Health: part})
		}
	}
}

func (j *journal) write(m *link.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return
	}
	err := link.WriteFrame(j.f, m)
	if err == nil {
		if j.size, err = j.f.Seek(0, io.SeekCurrent); err == nil && j.size-j.base > max(minRewrite, j.base) {
			err = j.rewrite()
		}
	}
	if err != nil {
		j.log.Error("what is served cannot be kept on disk: if this process is killed, its successor waits for the server", "error", err)
		j.drop()
	}
}

// drop removes what is no longer true. It needs the lock.
func (j *journal) drop() {
	_ = j.f.Close()
	j.f = nil
	_ = os.Remove(j.path)
}

// end leaves the file to a successor.
func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f != nil {
		_ = j.f.Close()
		j.f = nil
	}
}

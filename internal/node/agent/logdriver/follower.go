package logdriver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
	"github.com/berthdev/berth/internal/timeouts"
)

const (
	// creditBytes is how much all containers' batches under way may hold together; what comes on top waits in the containers' files.
	creditBytes = 4 << 20
	// batchBytes is how much is collected before it is handed on.
	batchBytes = 512 << 10
	// pace is the shortest time between two batches of one container, so that chatty ones are sent in larger batches.
	pace = 100 * time.Millisecond

	offsetsFile = "offsets"
)

// streams are the names of a container's outputs, by their index.
var streams = [2]string{"stdout", "stderr"}

// output takes batches.
type output interface {
	// position tells up to where the output has the follower's source already; zero when it does not know.
	position(ctx context.Context) (model.LogPosition, error)
	// write stores the first n of events, at least one when there is no error. What it did not store is given again.
	write(ctx context.Context, events []event) (n int, err error)
	close() error
}

// follower follows one container. Its goroutine owns everything but wake, finishing and done.
type follower struct {
	driver  *Driver
	spec    agent.LogSpec
	sources [2]*source
	joins   [2]*join
	out     output
	poll    time.Duration

	source  string  // names what the two outputs hold; another one when somebody cut them
	asked   bool    // the output was asked for its position, and has stored everything since
	batch   []event // collected, not yet stored
	credit  int64   // of the driver's, that the batch holds
	eof     bool
	retry   time.Duration // after a failure
	lastOut time.Time
	warned  time.Time
	lost    bound.Lost // as last told
	told    time.Time

	wake      chan struct{} // capacity 1
	finishing atomic.Bool
	done      chan struct{} // closed when everything was carried, or the driver is closed
}

func (d *Driver) newFollower(spec agent.LogSpec, t target, files agent.LogFiles) (*follower, error) {
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return nil, err
	}
	f := &follower{driver: d, spec: spec, poll: d.cfg.Poll, wake: make(chan struct{}, 1), done: make(chan struct{}),
		lost: readLosses(spec.Dir)}
	if _, err := os.Stat(files.Stdout); errors.Is(err, fs.ErrNotExist) { // what was noted was of an output that is gone
		if err := os.Remove(filepath.Join(spec.Dir, offsetsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	noted := f.readNote()
	f.source = noted.Source
	for i, path := range []string{files.Stdout, files.Stderr} {
		s, err := openSource(i, path, max(noted.Offsets[i], 0))
		if err != nil {
			f.close()
			return nil, err
		}
		f.sources[i], f.joins[i] = s, &join{starts: t.starts}
	}
	if t.group != "" {
		f.out = &sinkOutput{sink: d.cfg.Sink, group: t.group, stream: t.stream, source: &f.source}
		return f, nil
	}
	if t.routed {
		f.out = &fluent{spec: spec}
		return f, nil
	}
	f.out = &jsonFile{path: filepath.Join(spec.Dir, "container.log"), maxSize: t.maxSize, maxFile: t.maxFile}
	return f, nil
}

func (f *follower) look() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *follower) finish() {
	f.finishing.Store(true)
	f.look()
}

func (f *follower) close() {
	f.give(f.credit)
	for _, s := range f.sources {
		if s != nil {
			s.close()
		}
	}
	if f.out != nil {
		if err := f.out.close(); err != nil {
			f.driver.cfg.Log.Warn("close a log", "container", f.spec.ID, "error", err)
		}
	}
}

// run follows until everything is carried and no more comes, or ctx ends.
func (f *follower) run(ctx context.Context) {
	defer f.close()
	for {
		finishing := f.finishing.Load()
		f.pass(ctx, finishing)
		f.tellLosses(finishing)
		if ctx.Err() != nil {
			return
		}
		if finishing && f.eof && len(f.batch) == 0 {
			f.discard()
			return
		}
		if f.abandoned(finishing) || !f.sleep(ctx) {
			return
		}
	}
}

// discard deletes the container's output, all of which was carried.
func (f *follower) discard() {
	// stdout says by its absence that all is done; until then the offsets say what is.
	for _, name := range []string{bound.Dropped, streams[1] + bound.Times, streams[0] + bound.Times, streams[1], streams[0], offsetsFile} {
		if err := os.Remove(filepath.Join(f.spec.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.driver.cfg.Log.Warn("the output of a container cannot be deleted", "container", f.spec.ID, "error", err)
		}
	}
}

// abandoned tells that the log cannot be carried and that its files are gone: the agent gave up waiting.
func (f *follower) abandoned(finishing bool) bool {
	if !finishing || f.retry == 0 {
		return false
	}
	_, err := os.Stat(f.spec.Dir)
	return errors.Is(err, fs.ErrNotExist)
}

// sleep waits until there may be something to do.
func (f *follower) sleep(ctx context.Context) bool {
	wait := f.poll
	for i, s := range f.sources {
		if len(s.buf) > 0 || f.joins[i].pending() {
			wait = min(wait, timeouts.LogPartial)
		}
	}
	wake := f.wake
	if f.retry > 0 {
		wait, wake = f.retry, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-wake:
	}
	if rest := pace - time.Since(f.lastOut); rest > 0 && !f.finishing.Load() {
		timer.Reset(rest)
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
	}
	return true
}

// pass hands on everything that is there now, batch by batch, until the destination fails.
func (f *follower) pass(ctx context.Context, finishing bool) {
	for ctx.Err() == nil {
		more, err := f.carry(ctx, finishing)
		if err != nil {
			f.failed(ctx, err)
			return
		}
		f.retry = 0
		if !more {
			return
		}
	}
}

// carry hands on one batch; more tells that there was one. What the output did not take is read again, as by a follower that begins:
// while it fails, lines wait in the container's files and not here.
func (f *follower) carry(ctx context.Context, finishing bool) (more bool, err error) {
	if len(f.batch) == 0 {
		if err := f.take(ctx); err != nil {
			return false, err
		}
		f.collect(finishing)
	}
	if len(f.batch) == 0 {
		f.give(f.credit)
		return false, nil
	}
	if !f.asked {
		again, err := f.goOn(ctx)
		if err != nil || again {
			f.rewind()
			return again, err
		}
	}
	f.lastOut = time.Now()
	n, err := f.out.write(ctx, f.batch)
	f.stored(n, finishing)
	if err != nil {
		f.asked = false // whether it has the rest nobody knows
		f.rewind()
	}
	return true, err
}

// goOn learns what the output has already; again tells that the batch begins elsewhere than it must.
func (f *follower) goOn(ctx context.Context) (again bool, err error) {
	has, err := f.out.position(ctx)
	if err != nil {
		return false, err
	}
	for i, s := range f.sources {
		if has[i] > s.noted {
			s.noted, again = has[i], true
		}
	}
	if err := f.note(); err != nil { // before the first write: its source's name must last
		f.warn("the offsets of a log cannot be noted; a restart may repeat lines", err)
	}
	f.asked = true
	return again, nil
}

// rewind forgets what was collected and not stored.
func (f *follower) rewind() {
	f.batch, f.eof = nil, false
	for i, s := range f.sources {
		s.rewind()
		f.joins[i].held = nil
	}
	f.give(f.credit)
}

// take takes credit for a batch, and waits for it while other containers' batches are under way.
func (f *follower) take(ctx context.Context) error {
	if _, here := f.out.(*jsonFile); here {
		return nil
	}
	if err := f.driver.credit.Acquire(ctx, batchBytes); err != nil {
		return err
	}
	f.credit = batchBytes
	return nil
}

// give gives n bytes of credit back.
func (f *follower) give(n int64) {
	if n > 0 {
		f.driver.credit.Release(n)
		f.credit -= n
	}
}

// collect fills the batch from both outputs in turn.
func (f *follower) collect(finishing bool) {
	now := f.driver.cfg.Now()
	bytes, ended := 0, [2]bool{}
	for _, s := range f.sources {
		s.mark = s.stamps.Mark()
	}
	add := func(events []event) {
		for _, e := range events {
			f.batch = append(f.batch, e)
			bytes += len(e.text) + eventOverhead
		}
	}
	for ended != [2]bool{true, true} && bytes < batchBytes {
		for i, s := range f.sources {
			events, eof, err := s.next(now)
			if err != nil {
				f.warn("container output cannot be read", err)
			}
			ended[i] = eof
			add(f.joins[i].take(events))
			if eof && (finishing || now.Sub(s.grown) >= timeouts.LogPartial) {
				add(f.joins[i].take(s.partial(now)))
				add(f.joins[i].flush())
			}
		}
	}
	f.eof = ended == [2]bool{true, true}
	f.give(f.credit - int64(min(bytes, batchBytes))) // a small batch leaves room for others
	for _, s := range f.sources {
		if s.cut {
			s.cut, f.asked, f.source = false, false, newSource()
		}
	}
}

// stored notes that the batch's first n events are safe, and gives their space back.
func (f *follower) stored(n int, finishing bool) {
	if n == 0 {
		return
	}
	for _, e := range f.batch[:n] {
		s := f.sources[e.source]
		s.noted = max(s.noted, e.end)
	}
	if f.batch = f.batch[n:]; len(f.batch) == 0 {
		f.batch = nil
		f.give(f.credit)
	}
	if err := f.note(); err != nil {
		f.warn("the offsets of a log cannot be noted; a restart may repeat lines", err)
		return // what is not noted must stay readable
	}
	for _, s := range f.sources {
		if err := s.reclaim(finishing); err != nil {
			f.warn("disk space of container output cannot be given back", err)
		}
	}
}

// note is what the offsets' file holds.
type note struct {
	Source  string   `json:"source"`
	Offsets [2]int64 `json:"offsets"`
}

// note writes the offsets. The file is whole at every moment.
func (f *follower) note() error {
	data, err := json.Marshal(note{f.source, [2]int64{f.sources[0].noted, f.sources[1].noted}})
	if err != nil {
		return err
	}
	path := filepath.Join(f.spec.Dir, offsetsFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readNote returns what was noted; a source that has no name yet gets one.
func (f *follower) readNote() note {
	n := note{Source: newSource()}
	data, err := os.ReadFile(filepath.Join(f.spec.Dir, offsetsFile))
	if err == nil && json.Unmarshal(data, &n) != nil {
		if err := json.Unmarshal(data, &n.Offsets); err != nil { // as Berth wrote it before sources had names
			f.driver.cfg.Log.Warn("the offsets of a log are lost; lines may be repeated", "container", f.spec.ID, "error", err)
		}
	}
	return n
}

func newSource() string { return rand.Text() }

func (f *follower) failed(ctx context.Context, err error) {
	f.retry = min(max(2*f.retry, 100*time.Millisecond), timeouts.LogRetry)
	if ctx.Err() == nil {
		f.warn("a log cannot be carried away; it stays in its file and is tried again", err)
	}
}

// warn says at most once a minute what is wrong with this log.
func (f *follower) warn(what string, err error) {
	if now := f.driver.cfg.Now(); now.Sub(f.warned) >= timeouts.LogWarn {
		f.warned = now
		f.driver.cfg.Log.Warn(what, "container", f.spec.ID, "error", err)
	}
}

// tellLosses says, at most once a minute, what the shim could not write because too much waited to be carried away.
func (f *follower) tellLosses(finishing bool) {
	now := f.driver.cfg.Now()
	if !finishing && now.Sub(f.told) < timeouts.LogWarn {
		return
	}
	lost := readLosses(f.spec.Dir)
	if lost.Bytes == f.lost.Bytes {
		return
	}
	f.driver.cfg.Log.Warn("a container writes more than is carried away; output was dropped (mode blocking would have it wait)",
		"container", f.spec.ID, "lines", lost.Lines-f.lost.Lines, "bytes", lost.Bytes-f.lost.Bytes)
	f.lost, f.told = lost, now
}

// readLosses returns the sum of what was lost of a container's output since it was first opened.
func readLosses(dir string) bound.Lost {
	var lost bound.Lost
	if data, err := os.ReadFile(filepath.Join(dir, bound.Dropped)); err == nil {
		_ = json.Unmarshal(data, &lost) // the log itself tells it too
	}
	return lost
}

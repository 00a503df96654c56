//go:build linux

// Package outlet is the shim's part of a container's log: it carries what the container writes from pipes into two plain files, and
// keeps what these take on the disk within a bound, whether or not Berth runs. Whoever carries the files away (agent/logdriver)
// punches holes where it has, so the bound counts the blocks that the files have, not their size.
//
// At the bound a container in blocking mode waits, and one in non-blocking mode loses whole lines, which are counted: a line in the
// log says how many were lost, where they are missing, and the file Dropped beside the log holds the sum.
package outlet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
	"github.com/berthdev/berth/internal/timeouts"
)

// slack is kept free below the bound, for the end of a line and the mark of a loss, of either output.
const slack = 2 * piece

// Outlet is one container's. Its methods may be called from many goroutines.
type Outlet struct {
	streams []*stream
	ends    []*os.File // of the pipes, for the container's side
	done    sync.WaitGroup
	box     *box
}

// Open makes the pipes and begins to carry. stderr may be "" or the same file as stdout. Close it, whatever becomes of the container.
func Open(stdout, stderr string, b bound.Bound) (*Outlet, error) {
	o := &Outlet{box: &box{bound: b, dropped: filepath.Join(filepath.Dir(stdout), bound.Dropped)}}
	paths := []string{stdout}
	if stderr != "" && stderr != stdout {
		paths = append(paths, stderr)
	}
	for _, path := range paths {
		if err := o.add(path); err != nil {
			return nil, errors.Join(err, o.Started(), o.Close())
		}
	}
	for _, s := range o.streams {
		o.done.Go(s.carry)
	}
	return o, nil
}

func (o *Outlet) add(path string) error {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	from, end, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make a pipe for the log: %w", err), to.Close())
	}
	var size int64
	if info, err := to.Stat(); err == nil {
		size = info.Size()
	}
	times, _ := bound.NewStamper(path) // a log without its times is still a log
	o.box.files = append(o.box.files, to)
	o.streams = append(o.streams, &stream{box: o.box, from: from, to: to, size: size, times: times, whole: true})
	o.ends = append(o.ends, end)
	return nil
}

// Paths name the pipes, for whoever opens them before Started is called.
func (o *Outlet) Paths() (stdout, stderr string) {
	path := func(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
	return path(o.ends[0]), path(o.ends[len(o.ends)-1])
}

// Started says that the pipes' ends were opened, or will not be: output ends when all who opened them have closed them.
func (o *Outlet) Started() error {
	var errs []error
	for _, end := range o.ends {
		errs = append(errs, end.Close())
	}
	o.ends = nil
	return errors.Join(errs...)
}

// Ending says that the container has ended, or is about to be ended: what waits for room waits a moment more, and is then lost.
func (o *Outlet) Ending() {
	o.box.mu.Lock()
	defer o.box.mu.Unlock()
	if o.box.end.IsZero() {
		o.box.end = time.Now().Add(timeouts.OutletEnd)
	}
}

// Close returns when all output is in the files, or after a moment: then somebody still has a pipe's end, and what he writes is
// lost.
func (o *Outlet) Close() error {
	o.Ending()
	done := make(chan struct{})
	go func() {
		o.done.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * timeouts.OutletEnd):
	}
	var errs []error
	for _, s := range o.streams {
		errs = append(errs, s.from.Close()) // which ends a read
	}
	<-done
	for _, s := range o.streams {
		errs = append(errs, s.to.Close())
		if s.times != nil {
			errs = append(errs, s.times.Close())
		}
	}
	return errors.Join(errs...)
}

// box is what a container's two files share: the bound.
type box struct {
	bound   bound.Bound
	files   []*os.File
	dropped string // the file that holds the sum of what was lost

	mu   sync.Mutex
	end  time.Time // of waiting for room; zero while the container runs
	left int64     // bytes that may be written before the files are measured again
	lost bound.Lost
	said time.Time // when lost was last written
}

// room tells whether n bytes may be written now, and counts them. After a loss there must be some room more than that, so that it
// is not piece by piece lost and kept.
func (b *box) room(n int, afterLoss bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bound.Bytes <= 0 {
		return true
	}
	if b.left < int64(n) || afterLoss {
		b.left = b.bound.Bytes - slack - b.taken()
	}
	if b.left < int64(n) || afterLoss && b.left < b.bound.Bytes/8 {
		return false
	}
	b.left -= int64(n)
	return true
}

// taken is what the files have on the disk.
func (b *box) taken() int64 {
	var sum int64
	for _, f := range b.files {
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}

// wait returns when there is room for n bytes, or false soon after the container has ended.
func (b *box) wait(n int) bool {
	for !b.room(n, false) {
		if b.over() {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}

func (b *box) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.end.IsZero() && time.Now().After(b.end)
}

// lose adds to the sum and writes it down, at most once a second unless now is wanted.
func (b *box) lose(l bound.Lost, now bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost.Lines += l.Lines
	b.lost.Bytes += l.Bytes
	if b.lost.Bytes == 0 || !now && time.Since(b.said) < timeouts.OutletSay {
		return
	}
	b.said = time.Now()
	data, err := json.Marshal(b.lost)
	if err == nil && os.WriteFile(b.dropped+".new", data, 0o600) == nil {
		_ = os.Rename(b.dropped+".new", b.dropped) // the line in the log tells it too
	}
}

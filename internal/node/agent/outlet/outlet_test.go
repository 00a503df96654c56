//go:build linux

package outlet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// rig is an outlet with the container's end of its stdout.
type rig struct {
	*Outlet
	path string
	pipe *os.File
}

func open(t *testing.T, b bound.Bound) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{path: filepath.Join(dir, "stdout")}
	var err error
	if r.Outlet, err = Open(r.path, filepath.Join(dir, "stderr"), b); err != nil {
		t.Fatal(err)
	}
	stdout, _ := r.Paths()
	if r.pipe, err = os.OpenFile(stdout, os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Started(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) finish(t *testing.T) {
	t.Helper()
	r.pipe.Close()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// write writes lines numbered from first; each has 100 bytes.
func (r *rig) write(t *testing.T, first, n int) {
	t.Helper()
	var b bytes.Buffer
	for i := first; i < first+n; i++ {
		fmt.Fprintf(&b, "%099d\n", i)
	}
	if _, err := r.pipe.Write(b.Bytes()); err != nil {
		t.Error(err)
	}
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func punch(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size); err != nil {
		t.Skip(err)
	}
}

// lines returns the file's lines from its first that is no hole on: kept ones in order, and how many the marks count as lost.
func lines(t *testing.T, path string) (kept, lost int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.TrimLeft(data, "\x00")
	if i := bytes.IndexByte(data, '\n'); i != 99 {
		data = data[i+1:]
	}
	last := -1
	scan := bufio.NewScanner(bytes.NewReader(data))
	for scan.Scan() {
		if rest, ok := strings.CutPrefix(scan.Text(), "[berth] "); ok {
			n, _, _ := strings.Cut(rest, " ")
			m, err := strconv.Atoi(n)
			if err != nil {
				t.Errorf("the mark %q counts nothing", scan.Text())
			}
			lost += m
			last += m
			continue
		}
		n, err := strconv.Atoi(scan.Text())
		if err != nil || len(scan.Text()) != 99 {
			t.Fatalf("the line %q was torn", scan.Text())
		}
		if last >= 0 && n != last+1 {
			t.Fatalf("line %d follows %d: what is missing was not counted", n, last)
		}
		last = n
		kept++
	}
	return kept, lost
}

func TestEverythingIsCarried(t *testing.T) {
	r := open(t, bound.Bound{Bytes: 1 << 20})
	r.write(t, 0, 5000)
	r.finish(t)
	if kept, lost := lines(t, r.path); kept != 5000 || lost != 0 {
		t.Errorf("%d lines were kept and %d lost, want 5000 and none", kept, lost)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(r.path), bound.Dropped)); err == nil {
		t.Error("a loss was noted though nothing was lost")
	}
}

func TestAContainerThatDoesNotWaitLosesCountedLines(t *testing.T) {
	const limit = 1 << 20
	r := open(t, bound.Bound{Bytes: limit})
	r.write(t, 0, 100_000) // 10 MB
	if n := blocks(t, r.path); n > limit {
		t.Errorf("the file takes %d bytes of the disk, more than %d", n, limit)
	}
	punch(t, r.path, limit/2) // somebody carries it away
	r.write(t, 100_000, 1000)
	r.finish(t)
	kept, lost := lines(t, r.path)
	if lost < 80_000 || kept < 1000 {
		t.Errorf("%d lines were kept and %d lost of 101000", kept, lost)
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(r.path), bound.Dropped))
	var sum bound.Lost
	if err != nil || json.Unmarshal(data, &sum) != nil || sum.Lines != int64(lost) {
		t.Errorf("the sum of what was lost is %s (%v), and the log tells of %d lines", data, err, lost)
	}
}

func TestALossIsToldWithoutFurtherOutput(t *testing.T) {
	const limit = 1 << 20
	r := open(t, bound.Bound{Bytes: limit})
	r.write(t, 0, 20_000)
	punch(t, r.path, limit)
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(r.path)
		if err == nil && bytes.Contains(data, []byte("were dropped here")) {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the log does not tell of its loss")
		}
	}
	r.finish(t)
}

func TestAContainerThatWaitsLosesNothing(t *testing.T) {
	const limit = 1 << 20
	r := open(t, bound.Bound{Bytes: limit, Blocking: true})
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range 40 {
			r.write(t, i*1000, 1000) // 4 MB in all
		}
	}()
	carry := func() {
		info, _ := os.Stat(r.path)
		punch(t, r.path, max(0, info.Size()-64<<10))
	}
	for waiting := true; waiting; {
		select {
		case <-written:
			waiting = false
		case <-time.After(5 * time.Millisecond):
			if n := blocks(t, r.path); n > limit {
				t.Fatalf("the file takes %d bytes of the disk, more than %d", n, limit)
			} else if n > limit/2 {
				carry()
			}
		}
	}
	carry() // what is in the pipe still finds room: at its end nobody is waited for
	r.finish(t)
	if _, lost := lines(t, r.path); lost != 0 {
		t.Errorf("%d lines were lost", lost)
	}
	if info, _ := os.Stat(r.path); info.Size() != 4_000_000 {
		t.Errorf("%d bytes were written, want 4000000", info.Size())
	}
}

func TestTheEndOfAContainerThatWaitsIsNotHeldUp(t *testing.T) {
	r := open(t, bound.Bound{Bytes: bound.Least, Blocking: true})
	go func() {
		var line = bytes.Repeat([]byte("x"), 1023)
		for {
			if _, err := r.pipe.Write(append(line, '\n')); err != nil {
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond) // it waits now, or will
	begun := time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("the end took %v", d)
	}
	r.pipe.Close()
}

func TestALineThatDoesNotFitIsEnded(t *testing.T) {
	r := open(t, bound.Bound{Bytes: bound.Least})
	long := bytes.Repeat([]byte("x"), 2*bound.Least)
	if _, err := r.pipe.Write(long); err != nil {
		t.Fatal(err)
	}
	punch(t, r.path, bound.Least)
	if _, err := r.pipe.WriteString("rest of it\nnext\n"); err != nil {
		t.Fatal(err)
	}
	r.finish(t)
	data, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	end := string(data[bytes.LastIndex(data, []byte("[berth]"))-1:])
	if !strings.HasPrefix(end, "\n[berth] ") || !strings.HasSuffix(end, "\nnext\n") || strings.Contains(end, "rest of it") {
		t.Errorf("the log ends with %q", end)
	}
}

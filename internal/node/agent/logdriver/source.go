package logdriver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// maxLine is the longest event in bytes: what CloudWatch Logs takes. A longer line becomes several events.
const maxLine = 256<<10 - 26

// chunk is how much of a file is read at once; holes are punched in pieces of at least that.
const chunk = 64 << 10

// event is one line, or several that belong together.
type event struct {
	at     time.Time
	text   []byte // without the final newline
	ended  bool   // the newline was there
	source int
	start  int64 // offset in the source's file of its first byte
	end    int64 // offset in the source's file after the event
}

// source is one of a container's two outputs.
type source struct {
	index   int
	file    *os.File
	read    int64  // offset up to which the file was read
	buf     []byte // read, but not yet a whole line
	grown   time.Time
	noted   int64 // offset up to which everything was handed on
	punched int64 // offset up to which the disk was given back; a multiple of a page
	noHoles bool  // the file system cannot

	stamps    *bound.Stamps // when the output was written
	mark      bound.Stamps  // as they were at noted, or before
	timesGone int64         // offset in the stamps' file up to which the disk was given back
	cut       bool          // somebody cut the file: what it holds now is another output
}

func openSource(index int, path string, noted int64) (*source, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	stamps, err := bound.OpenStamps(path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &source{index: index, file: f, read: noted, noted: noted, punched: noted &^ (pageSize - 1), stamps: stamps, mark: stamps.Mark()}, nil
}

// rewind has what was read beyond noted read again.
func (s *source) rewind() {
	s.read, s.buf = s.noted, nil
	s.stamps.Reset(s.mark)
}

func (s *source) close() {
	s.file.Close()
	_ = s.stamps.Close()
}

// written is when the line that begins at an offset was written; now, where the shim did not say.
func (s *source) written(offset int64, now time.Time) time.Time {
	if at := s.stamps.At(offset); !at.IsZero() && at.Before(now) {
		return at
	}
	return now
}

// next reads a chunk and returns the lines that it completes. eof tells that nothing more is there now.
func (s *source) next(now time.Time) (events []event, eof bool, err error) {
	if info, err := s.file.Stat(); err == nil && info.Size() < s.read { // somebody cut it: begin again
		s.read, s.noted, s.punched, s.buf, s.cut = 0, 0, 0, nil, true
	}
	piece := make([]byte, chunk)
	n, err := s.file.ReadAt(piece, s.read)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, true, fmt.Errorf("read container output: %w", err)
	}
	if n == 0 {
		return nil, true, nil
	}
	s.read += int64(n)
	s.buf = append(s.buf, piece[:n]...)
	s.grown = now
	return s.split(now), n < chunk, nil
}

// split takes the whole lines, and pieces of overlong ones, out of the buffer.
func (s *source) split(now time.Time) []event {
	var events []event
	start := s.read - int64(len(s.buf)) // offset of buf[0]
	rest := s.buf
	for {
		begin := start + int64(len(s.buf)-len(rest))
		at := s.written(begin, now)
		i := bytes.IndexByte(rest, '\n')
		switch {
		case i >= 0 && i <= maxLine:
			events = append(events, event{at: at, text: bytes.TrimSuffix(rest[:i], []byte("\r")), ended: true, source: s.index})
			rest = rest[i+1:]
		case len(rest) > maxLine:
			cut := wholeRunes(rest[:maxLine])
			events = append(events, event{at: at, text: rest[:cut], source: s.index})
			rest = rest[cut:]
		default:
			s.buf = append([]byte(nil), rest...)
			return events
		}
		events[len(events)-1].start = begin
		events[len(events)-1].end = start + int64(len(s.buf)-len(rest))
	}
}

// partial takes what is left of a line that was not ended.
func (s *source) partial(now time.Time) []event {
	if len(s.buf) == 0 {
		return nil
	}
	e := event{at: s.written(s.read-int64(len(s.buf)), now), text: s.buf, source: s.index,
		start: s.read - int64(len(s.buf)), end: s.read}
	s.buf = nil
	return []event{e}
}

// wholeRunes is the length of b without a rune that is cut at its end.
func wholeRunes(b []byte) int {
	for back := 1; back < utf8.UTFMax && back < len(b); back++ {
		if i := len(b) - back; utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}

const pageSize = 4096

// reclaim gives the disk space of what was handed on back to the file system. The file keeps its size, so that the shim's
// appends go on where they are.
func (s *source) reclaim(all bool) error {
	end := s.noted &^ (pageSize - 1)
	if s.noHoles || end <= s.punched || !all && end-s.punched < chunk {
		return nil
	}
	err := unix.Fallocate(int(s.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.punched, end-s.punched)
	if errors.Is(err, unix.EOPNOTSUPP) {
		s.noHoles = true
		return fmt.Errorf("the file system of %s cannot punch holes: container output stays on the disk until its task ends, and what exceeds its bound is dropped: %w",
			s.file.Name(), err)
	}
	if err == nil {
		s.punched = end
		s.reclaimStamps()
	}
	return err
}

// reclaimStamps gives back what of the stamps is not needed any more. What can't be given back is small.
func (s *source) reclaimStamps() {
	f, done := s.mark.File()
	if end := done &^ (pageSize - 1); end > s.timesGone {
		if unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.timesGone, end-s.timesGone) == nil {
			s.timesGone = end
		}
	}
}

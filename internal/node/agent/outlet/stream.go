//go:build linux

package outlet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// piece is how much is read from a pipe at once: what a pipe holds.
const piece = 64 << 10

// tellWait is how long after a loss the line that tells of it is tried again when the container writes nothing more.
const tellWait = 200 * time.Millisecond

// stream carries one of a container's outputs. Its goroutine owns everything.
type stream struct {
	box   *box
	from  *os.File // the pipe
	to    *os.File // opened to append
	size  int64    // of that file
	times *bound.Stamper
	whole bool // the file ends with a whole line, or is empty
	lost  bound.Lost
	cut   bool // the last line that was lost has not ended yet
}

// carry returns when nobody has the pipe's other end any more, or the pipe was closed.
func (s *stream) carry() {
	buf := make([]byte, piece)
	for {
		var deadline time.Time
		if s.lost.Bytes > 0 {
			deadline = time.Now().Add(tellWait)
		}
		_ = s.from.SetReadDeadline(deadline)
		n, err := s.from.Read(buf)
		if n > 0 {
			s.take(buf[:n])
		}
		if err != nil {
			s.tell()
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			s.box.lose(bound.Lost{}, true)
			return
		}
	}
}

// take writes p, or counts it as lost.
func (s *stream) take(p []byte) {
	if s.lost.Bytes > 0 {
		if p = s.resume(p); len(p) == 0 {
			return
		}
	}
	if s.box.bound.Blocking && !s.box.wait(len(p)) || !s.box.bound.Blocking && !s.box.room(len(p), false) {
		if end := bytes.IndexByte(p, '\n') + 1; !s.whole && end > 0 { // the line that is in the file gets its end: there is slack for it
			s.write(p[:end])
			p = p[end:]
		}
		s.lose(p)
		return
	}
	s.write(p)
}

// resume returns what of p may be written after a loss, if there is room again: it begins with a line.
func (s *stream) resume(p []byte) []byte {
	start := 0
	if s.cut {
		if start = bytes.IndexByte(p, '\n') + 1; start == 0 {
			s.lose(p)
			return nil
		}
	}
	if !s.box.room(len(p)-start, true) {
		s.lose(p)
		return nil
	}
	s.lose(p[:start])
	s.mark()
	return p[start:]
}

// tell writes the line about what was lost, if there is something to tell and room for it.
func (s *stream) tell() {
	if s.lost.Bytes > 0 && s.box.room(0, true) {
		s.mark()
	}
}

func (s *stream) mark() {
	line := fmt.Appendf(nil, "[berth] %d lines (%d bytes) were dropped here: they were written faster than the log is carried away\n",
		s.lost.Lines, s.lost.Bytes)
	if !s.whole {
		line = append([]byte("\n"), line...)
	}
	lost := s.lost
	s.lost = bound.Lost{}
	if !s.write(line) {
		s.lost = lost // the next one tells it
	}
	s.box.lose(bound.Lost{}, true)
}

// write appends p. What the disk does not take is lost. It tells whether all was written.
func (s *stream) write(p []byte) bool {
	if s.times != nil {
		s.times.Stamp(s.size, time.Now())
	}
	n, err := s.to.Write(p)
	s.size += int64(max(n, 0))
	if n > 0 {
		s.whole = p[n-1] == '\n'
	}
	if err != nil {
		s.lose(p[n:])
	}
	return err == nil
}

func (s *stream) lose(p []byte) {
	if len(p) == 0 {
		return
	}
	l := bound.Lost{Lines: int64(bytes.Count(p, []byte("\n"))), Bytes: int64(len(p))}
	s.cut = p[len(p)-1] != '\n'
	s.lost.Lines += l.Lines
	s.lost.Bytes += l.Bytes
	s.box.lose(l, false)
}

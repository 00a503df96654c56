package bound

import (
	"encoding/binary"
	"os"
	"time"
)

// Times is what is appended to the name of a log's file to name the file of its stamps.
const Times = ".times"

// stampSize is that of a stamp on the disk: the offset and the nanoseconds since 1970, big-endian.
const stampSize = 16

// Stamper writes down when a log was written: an offset of the log and the time at which the bytes from there on were appended. It
// writes at most one stamp in each StampPause, so what comes close together has one time.
type Stamper struct {
	file *os.File
	last time.Time
}

// StampPause is the precision of stamps.
const StampPause = 50 * time.Millisecond

// NewStamper opens the stamps of the log at path.
func NewStamper(path string) (*Stamper, error) {
	f, err := os.OpenFile(path+Times, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &Stamper{file: f}, nil
}

// Stamp says that bytes are about to be appended at an offset. A stamp that cannot be written is left out: the lines after it have
// the time of the one before, or that at which they are read.
func (s *Stamper) Stamp(offset int64, now time.Time) {
	if since := now.Sub(s.last); since >= 0 && since < StampPause {
		return
	}
	var b [stampSize]byte
	binary.BigEndian.PutUint64(b[:8], uint64(offset))
	binary.BigEndian.PutUint64(b[8:], uint64(now.UnixNano()))
	if _, err := s.file.Write(b[:]); err == nil {
		s.last = now
	}
}

// Close closes the file.
func (s *Stamper) Close() error { return s.file.Close() }

// Stamps reads what a Stamper wrote, forwards.
type Stamps struct {
	file *os.File
	read int64 // of the file
	now  time.Time
	next *stamp
}

type stamp struct {
	offset int64
	at     time.Time
}

// OpenStamps opens the stamps of the log at path; they may come later, or never.
func OpenStamps(path string) (*Stamps, error) {
	f, err := os.OpenFile(path+Times, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &Stamps{file: f}, nil
}

// At returns when the byte at an offset was written, or the zero time where that was not written down. Offsets may not fall from
// one call to the next.
func (s *Stamps) At(offset int64) time.Time {
	for {
		if s.next == nil {
			var b [stampSize]byte
			if n, _ := s.file.ReadAt(b[:], s.read); n < stampSize {
				return s.now
			}
			s.read += stampSize
			s.next = &stamp{int64(binary.BigEndian.Uint64(b[:8])), time.Unix(0, int64(binary.BigEndian.Uint64(b[8:])))}
		}
		if s.next.offset > offset {
			return s.now
		}
		s.now, s.next = s.next.at, nil
		if s.now.UnixNano() == 0 { // a hole, which was given back
			s.now = time.Time{}
		}
	}
}

// Mark returns where the reading is, for Reset.
func (s *Stamps) Mark() Stamps { return *s }

// Reset goes back to where Mark was called.
func (s *Stamps) Reset(to Stamps) { s.read, s.now, s.next = to.read, to.now, to.next }

// File is the file that the stamps are in, and Done how much of it is not needed any more.
func (s *Stamps) File() (f *os.File, done int64) { return s.file, max(s.read-2*stampSize, 0) }

// Close closes the file.
func (s *Stamps) Close() error { return s.file.Close() }

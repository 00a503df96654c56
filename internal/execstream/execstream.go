// Package execstream is how a command that runs in a container and whoever talks to it are connected: frames on a stream, between the
// machine that has the container and a server, and between a server and `berth exec`.
package execstream

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Kind is what a frame carries.
type Kind byte

// The kinds of frames. Those of the talker:
const (
	Begin  Kind = 'b' // first: a Command
	Input  Kind = 'i'
	Eof    Kind = 'e' // the input has ended
	Resize Kind = 'r' // a Size
	Signal Kind = 's' // a Signaled
)

// Those of the command:
const (
	Output Kind = 'o'
	Errors Kind = 'x' // its standard error
	Ended  Kind = 'q' // last: an Outcome
)

// MaxFrame bounds a frame's data, bytes.
const MaxFrame = 64 << 10

// Command is what is to be run, and where.
type Command struct {
	Task, Container string
	Command         []string
	Terminal        bool
	Size            Size
}

// Size is that of a terminal.
type Size struct{ Columns, Rows uint16 }

// Signaled is a signal for the command's process.
type Signaled struct{ Number int }

// Outcome is how a command ended: with a code, or never begun or cut off for a reason.
type Outcome struct {
	Code   int
	Reason string `json:",omitempty"`
}

// Frame is one frame. Data is good until the next Read.
type Frame struct {
	Kind Kind
	Data []byte
}

// ErrTooLong says that a frame is longer than MaxFrame.
var ErrTooLong = errors.New("a frame is too long")

// Reader reads frames.
type Reader struct {
	r      io.Reader
	buffer []byte
}

// NewReader reads the frames of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Read returns the next frame. Errors: io.EOF between frames, io.ErrUnexpectedEOF within one.
func (r *Reader) Read() (Frame, error) {
	var head [5]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrame {
		return Frame{}, ErrTooLong
	}
	if int(n) > len(r.buffer) {
		r.buffer = make([]byte, max(int(n), 4<<10))
	}
	if _, err := io.ReadFull(r.r, r.buffer[:n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return Frame{Kind(head[0]), r.buffer[:n]}, nil
}

// Writer writes frames; several goroutines may.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewWriter writes frames to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one frame, or several when data is longer than one holds.
func (w *Writer) Write(kind Kind, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), MaxFrame)
		frame := make([]byte, 5+n)
		frame[0] = byte(kind)
		binary.BigEndian.PutUint32(frame[1:], uint32(n))
		copy(frame[5:], data[:n])
		if _, err := w.w.Write(frame); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// WriteJSON writes a frame that carries a value.
func (w *Writer) WriteJSON(kind Kind, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(data) > MaxFrame {
		return ErrTooLong
	}
	return w.Write(kind, data)
}

// Decode reads the value that a frame carries.
func (f Frame) Decode(v any) error {
	if err := json.Unmarshal(f.Data, v); err != nil {
		return fmt.Errorf("a frame of kind %q cannot be read: %w", rune(f.Kind), err)
	}
	return nil
}

// To is an io.Writer that writes frames of one kind.
func (w *Writer) To(kind Kind) io.Writer { return kindWriter{w, kind} }

type kindWriter struct {
	w    *Writer
	kind Kind
}

// Write implements io.Writer.
func (k kindWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := k.w.Write(k.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

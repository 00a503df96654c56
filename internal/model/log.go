package model

import (
	"encoding/binary"
	"errors"
	"time"
)

// LogEvent is one line that was written to a log stream.
type LogEvent struct {
	At      time.Time
	Message string
}

// LogLine is one event of a container's output, with its place in that output.
type LogLine struct {
	At      time.Time // to the millisecond
	Message string
	Output  int // 0: standard output, 1: standard error
	// Start and End are the offsets of its bytes in the output. What ends at or before the position of its source is known already.
	Start, End int64
}

// LogPosition is up to where the outputs of a source are stored: offsets of its standard output and its standard error.
type LogPosition [2]int64

// LogBatch is lines of one source for a log stream: all that its outputs have between the source's position and the batch's ends. Source names the output of one
// container from its first byte on: who sends a batch twice changes nothing, as its offsets say which lines are known.
type LogBatch struct {
	Group, Stream, Source string
	Lines                 []LogLine
}

var errLogBatch = errors.New("the log batch is malformed")

// logBatchVersion begins every encoded batch.
const logBatchVersion = 1

// AppendBinary implements encoding.BinaryAppender. The form is: version, then as length and bytes the group, the stream and the source,
// the number of lines, and of each line its time (Unix milliseconds), its output, its start, its length in the output and its message.
// Numbers are varints.
func (b LogBatch) AppendBinary(to []byte) ([]byte, error) {
	to = append(to, logBatchVersion)
	for _, s := range []string{b.Group, b.Stream, b.Source} {
		to = appendText(to, s)
	}
	to = binary.AppendUvarint(to, uint64(len(b.Lines)))
	for _, l := range b.Lines {
		if l.Output < 0 || l.Output > 1 || l.Start < 0 || l.End < l.Start {
			return nil, errLogBatch
		}
		to = binary.AppendUvarint(to, uint64(max(0, l.At.UnixMilli())))
		to = append(to, byte(l.Output))
		to = binary.AppendUvarint(to, uint64(l.Start))
		to = binary.AppendUvarint(to, uint64(l.End-l.Start))
		to = appendText(to, l.Message)
	}
	return to, nil
}

func appendText(to []byte, s string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(s))), s...)
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. Whatever it is given, it takes no more memory than a few times its size.
func (b *LogBatch) UnmarshalBinary(data []byte) error {
	if len(data) == 0 || data[0] != logBatchVersion {
		return errLogBatch
	}
	r := logReader{rest: data[1:]}
	*b = LogBatch{Group: r.text(), Stream: r.text(), Source: r.text()}
	n := r.number()
	if r.failed || n > uint64(len(r.rest)/5) { // a line takes at least five bytes
		return errLogBatch
	}
	b.Lines = make([]LogLine, n)
	for i := range b.Lines {
		l := &b.Lines[i]
		l.At = time.UnixMilli(int64(r.number()))
		l.Output = int(r.number())
		l.Start = int64(r.number())
		l.End = l.Start + int64(r.number())
		l.Message = r.text()
		if r.failed || l.Output > 1 || l.Output < 0 || l.Start < 0 || l.End < l.Start {
			return errLogBatch
		}
	}
	if r.failed || len(r.rest) > 0 {
		return errLogBatch
	}
	return nil
}

// logReader takes numbers and texts off a batch; failed once it could not.
type logReader struct {
	rest   []byte
	failed bool
}

func (r *logReader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || r.failed {
		r.failed = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *logReader) text() string {
	n := r.number()
	if r.failed || n > uint64(len(r.rest)) {
		r.failed = true
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

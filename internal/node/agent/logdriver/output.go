package logdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
)

// sinkOutput hands events to a LogSink.
type sinkOutput struct {
	sink          agent.LogSink
	group, stream string
	source        *string // the follower's
}

// One call of PutLogEvents takes at most so many events, and so many bytes with eventOverhead for each event.
const (
	sinkEvents    = 10_000
	sinkBytes     = 1 << 20
	eventOverhead = 26
)

// position tells up to where the sink has the source's output.
func (o *sinkOutput) position(ctx context.Context) (model.LogPosition, error) {
	return o.sink.Position(ctx, o.group, o.stream, *o.source)
}

// write implements output. Empty lines are left out, as CloudWatch Logs takes none.
func (o *sinkOutput) write(ctx context.Context, events []event) (n int, err error) {
	lines, size := make([]model.LogLine, 0, min(len(events), sinkEvents)), 0
	for ; n < len(events) && len(lines) < sinkEvents; n++ {
		e := events[n]
		message := string(bytes.ToValidUTF8(e.text, []byte("\uFFFD")))
		if message == "" {
			continue
		}
		if message = message[:wholeRunes([]byte(message[:min(len(message), maxLine)]))]; size+len(message)+eventOverhead > sinkBytes {
			break
		}
		size += len(message) + eventOverhead
		lines = append(lines, model.LogLine{At: e.at, Message: message, Output: e.source, Start: e.start, End: e.end})
	}
	if len(lines) == 0 {
		return n, nil
	}
	slices.SortStableFunc(lines, func(a, b model.LogLine) int { return a.At.Compare(b.At) }) // of two outputs
	if err := o.sink.Append(ctx, model.LogBatch{Group: o.group, Stream: o.stream, Source: *o.source, Lines: lines}); err != nil {
		return 0, err
	}
	return n, nil
}

func (o *sinkOutput) close() error { return nil }

// jsonFile writes events as Docker's json-file driver does.
type jsonFile struct {
	path    string
	maxSize int64
	maxFile int
	file    *os.File // nil before the first line
	size    int64
}

func (j *jsonFile) open(flag int) error {
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|flag, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	j.file, j.size = f, info.Size()
	return nil
}

// jsonLine is one line of a json-file log.
type jsonLine struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// position implements output: what was written and not noted is repeated after a crash.
func (j *jsonFile) position(context.Context) (model.LogPosition, error) {
	return model.LogPosition{}, nil
}

// write implements output. It stores as many events as the file takes before it is rotated.
func (j *jsonFile) write(_ context.Context, events []event) (int, error) {
	if j.file == nil {
		if err := j.open(os.O_APPEND); err != nil {
			return 0, fmt.Errorf("json-file: %w", err)
		}
	}
	var b bytes.Buffer
	stored := 0
	for _, e := range events {
		line, err := e.json()
		if err != nil {
			return 0, fmt.Errorf("json-file: %w", err)
		}
		if stored == 0 && j.size > 0 && j.size+int64(len(line)) > j.maxSize {
			if err := j.rotate(); err != nil {
				return 0, err
			}
		}
		if stored > 0 && j.size+int64(b.Len()+len(line)) > j.maxSize {
			break
		}
		b.Write(line)
		stored++
	}
	n, err := j.file.Write(b.Bytes())
	j.size += int64(n)
	if err != nil {
		if n > 0 && j.file.Truncate(j.size-int64(n)) == nil { // the disk is full: no half line stays
			j.size -= int64(n)
		}
		return 0, fmt.Errorf("json-file: %w", err)
	}
	return stored, nil
}

// json is the event as a line of a json-file log.
func (e event) json() ([]byte, error) {
	text := string(e.text)
	if e.ended {
		text += "\n"
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(jsonLine{Log: text, Stream: streams[e.source], Time: e.at.UTC()})
	return b.Bytes(), err
}

// rotate moves container.log to container.log.1, that to .2 and so on; the oldest goes.
func (j *jsonFile) rotate() error {
	if err := j.close(); err != nil {
		return fmt.Errorf("json-file: %w", err)
	}
	for i := j.maxFile - 1; i > 0; i-- {
		from := j.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", j.path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", j.path, i)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("json-file: %w", err)
		}
	}
	if err := j.open(os.O_APPEND | os.O_TRUNC); err != nil {
		return fmt.Errorf("json-file: %w", err)
	}
	return nil
}

func (j *jsonFile) close() error {
	if j.file == nil {
		return nil
	}
	f := j.file
	j.file = nil
	return f.Close()
}

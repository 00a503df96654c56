package logstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble"

	"github.com/berthdev/berth/internal/model"
)

// Prepare implements the log driver's sink: the stream is made when it is missing, the group only when createGroup is set.
func (s *Store) Prepare(_ context.Context, group, stream string, createGroup bool) error {
	err := s.CreateStream(group, stream)
	if errors.Is(err, ErrNoGroup) && createGroup {
		if err = s.CreateGroup(Group{Name: group}); err == nil || errors.Is(err, ErrGroupExists) {
			err = s.CreateStream(group, stream)
		}
	}
	if err == nil || errors.Is(err, ErrStreamExists) {
		return nil
	}
	cause := err.Error()
	switch {
	case errors.Is(err, ErrNoGroup):
		cause = "ResourceNotFoundException: The specified log group does not exist."
	case errors.Is(err, ErrBadName):
		cause = "InvalidParameterException: " + cause
	}
	return &model.TaskError{Name: "ResourceInitializationError",
		Message: "failed to validate logger args: failed to create Cloudwatch log stream: " + cause}
}

// Write adds events that come from no container's output; it returns after they are synced. Events may come in any order of time; those
// of one millisecond keep the order of their writing. Errors: ErrNoGroup, ErrNoStream, ErrDiskFull, ErrClosed.
func (s *Store) Write(ctx context.Context, group, stream string, events []model.LogEvent) error {
	if len(events) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.checkSpace(); err != nil {
		return err
	}
	err := s.change(func(b *pebble.Batch) error {
		g, st, err := s.stream(group, stream)
		if err != nil {
			return err
		}
		now := s.now().UnixMilli()
		for _, e := range events {
			at := max(0, e.At.UnixMilli())
			if err := b.Set(eventKey(g.ID, st.ID, at, st.Next), encodeEvent(now, e.Message), nil); err != nil {
				return err
			}
			st.wrote(at, now)
		}
		return put(b, streamKey(g.ID, stream), st)
	})
	if err == nil {
		s.feed.tell(group)
	}
	return err
}

// wrote notes an event in the stream's record.
func (st *Stream) wrote(at, now int64) {
	if !st.HasEvents {
		st.HasEvents, st.FirstAt, st.LastAt = true, at, at
	}
	st.FirstAt, st.LastAt = min(st.FirstAt, at), max(st.LastAt, at)
	st.Next++
	st.LastIngestion = now
}

// Position implements the log driver's sink; a source that is not known is at the beginning. Errors: ErrNoGroup, ErrNoStream, ErrClosed.
func (s *Store) Position(_ context.Context, group, stream, source string) (at model.LogPosition, err error) {
	leave, err := s.enter()
	if err != nil {
		return at, err
	}
	defer leave()
	g, st, err := s.stream(group, stream)
	if err != nil {
		return at, err
	}
	known, err := s.origin(g, st, source)
	return known.at, err
}

// Append implements the log driver's sink: it returns after the lines are synced. Lines that end at or before the position of their
// source are there already, and so a batch that is sent again adds nothing. Errors: ErrNoGroup, ErrNoStream, ErrBadName for a source
// without a name, ErrDiskFull, ErrClosed.
func (s *Store) Append(ctx context.Context, batch model.LogBatch) error {
	if len(batch.Lines) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if batch.Source == "" || len(batch.Source) > maxSource {
		return fmt.Errorf("%w: the source of a log batch has 1 to %d characters", ErrBadName, maxSource)
	}
	if err := s.checkSpace(); err != nil {
		return err
	}
	added := false
	err := s.change(func(b *pebble.Batch) (err error) {
		added, err = s.add(b, batch)
		return err
	})
	if err == nil && added {
		s.feed.tell(batch.Group)
	}
	return err
}

// maxSource is the longest name of a source.
const maxSource = 128

// add puts the lines of batch that are new into b; it needs mu.
func (s *Store) add(b *pebble.Batch, batch model.LogBatch) (added bool, err error) {
	g, st, err := s.stream(batch.Group, batch.Stream)
	if err != nil {
		return false, err
	}
	known, err := s.origin(g, st, batch.Source)
	if err != nil {
		return false, err
	}
	now, had := s.now().UnixMilli(), known.at
	for _, l := range batch.Lines {
		if l.End <= had[l.Output] {
			continue
		}
		at := max(0, l.At.UnixMilli())
		if err := b.Set(eventKey(g.ID, st.ID, at, known.line(l)), encodeEvent(now, l.Message), nil); err != nil {
			return false, err
		}
		known.at[l.Output] = max(known.at[l.Output], l.End)
		st.wrote(at, now)
		added = true
	}
	if !added {
		return false, nil
	}
	if err := b.Set(originKey(g.ID, st.ID, batch.Source), known.encode(), nil); err != nil {
		return false, err
	}
	return true, put(b, streamKey(g.ID, batch.Stream), st)
}

package logstore

import (
	"context"
	"errors"

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

// Write implements the log driver's sink: it returns after the events are synced. Events may come in any order of time; those of one
// millisecond keep the order of their writing. Errors: ErrNoGroup, ErrNoStream, ErrDiskFull, ErrClosed.
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
			if !st.HasEvents {
				st.HasEvents, st.FirstAt, st.LastAt = true, at, at
			}
			st.FirstAt, st.LastAt = min(st.FirstAt, at), max(st.LastAt, at)
			st.Next++
		}
		st.LastIngestion = now
		return put(b, streamKey(g.ID, stream), st)
	})
	if err == nil {
		s.feed.tell(group)
	}
	return err
}

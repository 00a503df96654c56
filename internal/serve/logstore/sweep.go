package logstore

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble"
)

// sweepPage is how many streams are trimmed in one change.
const sweepPage = 200

// Sweep deletes the events that are older at now than their group's retention, and returns how many streams lost events. Streams
// stay, as in AWS, also when they become empty.
func (s *Store) Sweep(now time.Time) (trimmed int, err error) {
	groups, err := s.Groups("", "", 0)
	if err != nil {
		return 0, err
	}
	for _, g := range groups {
		cutoff, ok := g.cutoff(now)
		for after := ""; ok; {
			n, last, err := s.sweepPage(g, cutoff, after)
			trimmed += n
			if err != nil {
				return trimmed, fmt.Errorf("sweep log group %s: %w", g.Name, err)
			}
			after, ok = last, last != ""
		}
	}
	return trimmed, nil
}

// sweepPage trims the streams after the named one and returns the last that it looked at, "" when there are no more.
func (s *Store) sweepPage(g Group, cutoff int64, after string) (trimmed int, last string, err error) {
	err = s.change(func(b *pebble.Batch) error {
		now, err := s.group(g.Name)
		if err != nil || now.ID != g.ID {
			return nil // deleted meanwhile, and its events with it
		}
		streams, err := s.streams(g, "", after, sweepPage)
		if err != nil {
			return err
		}
		if len(streams) == sweepPage {
			last = streams[len(streams)-1].Name
		}
		for _, st := range streams {
			if !st.HasEvents || st.FirstAt >= cutoff {
				continue
			}
			if err := s.trim(b, g, st, cutoff); err != nil {
				return err
			}
			trimmed++
		}
		return nil
	})
	return trimmed, last, err
}

// trim adds to b the deletion of st's events before cutoff. Needs mu.
func (s *Store) trim(b *pebble.Batch, g Group, st Stream, cutoff int64) error {
	events := streamEvents(g.ID, st.ID)
	kept := eventKey(g.ID, st.ID, cutoff, 0)
	if err := b.DeleteRange(events, kept, nil); err != nil {
		return err
	}
	rows, err := s.db.NewIter(&pebble.IterOptions{LowerBound: kept, UpperBound: under(events)})
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.First() {
		e, err := decodeEvent(rows.Key(), rows.Value())
		if err != nil {
			return err
		}
		st.FirstAt = e.At
	} else {
		st.HasEvents, st.FirstAt, st.LastAt = false, 0, 0
	}
	if err := rows.Error(); err != nil {
		return err
	}
	return put(b, streamKey(g.ID, st.Name), st)
}

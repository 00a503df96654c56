package logstore

import (
	"context"
	"encoding/json"
	"errors"
	"maps"

	"github.com/cockroachdb/pebble"

	"github.com/berthdev/berth/internal/model"
)

// GroupRecord is what servers tell each other of a group; one that was deleted has no more than its name and its version.
type GroupRecord struct {
	Group
	Deleted bool `json:"deleted,omitempty"`
}

// Piece is a part of a stream as one server gives it to another: its events have their places, which are the same everywhere.
type Piece struct {
	Group  string            `json:"group"`
	Stream Stream            `json:"stream"`
	Events []Event           `json:"events,omitempty"`
	Source map[string]Source `json:"source,omitempty"`
}

// Source is up to where a stream has a source's lines, and the number that tells them from others'.
type Source struct {
	At     model.LogPosition `json:"at"`
	Number uint64            `json:"number"`
}

// version is a number greater than after, and than all that were given longer than a few milliseconds ago.
func (s *Store) version(after int64) int64 { return max(s.now().UnixMilli(), after+1) }

// deleted is the version of a group's last deletion; 0: it was never deleted.
func (s *Store) deleted(group string) (at int64, err error) {
	_, err = s.get(deletedKey(group), &at)
	return at, err
}

// GroupRecords returns all groups, and those that were deleted.
func (s *Store) GroupRecords() (records []GroupRecord, err error) {
	groups, err := s.Groups("", "", 0)
	for _, g := range groups {
		records = append(records, GroupRecord{Group: g})
	}
	if err != nil {
		return nil, err
	}
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	rows, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tagGone}, UpperBound: []byte{tagGone + 1}})
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for ok := rows.First(); ok; ok = rows.Next() {
		r := GroupRecord{Group: Group{Name: string(rows.Key()[1:])}, Deleted: true}
		if err := json.Unmarshal(rows.Value(), &r.Version); err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, rows.Error()
}

// MergeGroups takes over what another server knows better. Streams and events that were deleted there go here too.
func (s *Store) MergeGroups(records []GroupRecord) error {
	for _, r := range records {
		if err := s.change(func(b *pebble.Batch) error { return s.mergeGroup(b, r) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) mergeGroup(b *pebble.Batch, r GroupRecord) error {
	old, err := s.group(r.Name)
	missing := errors.Is(err, ErrNoGroup)
	if err != nil && !missing {
		return err
	}
	gone, err := s.deleted(r.Name)
	if err != nil {
		return err
	}
	switch {
	case r.Deleted && !missing && old.Version < r.Version:
		return s.drop(b, old, r.Version)
	case r.Deleted && missing && gone < r.Version:
		return put(b, deletedKey(r.Name), r.Version)
	case r.Deleted || r.Version < gone || !missing && r.Version <= old.Version:
		return nil
	}
	if !missing && old.Born < r.Born { // what is here was deleted before the group was made anew
		if err := s.drop(b, old, r.Born); err != nil {
			return err
		}
		missing = true
	}
	g := r.Group
	if missing {
		if g.ID, err = s.newID(b); err != nil {
			return err
		}
		return put(b, groupKey(g.Name), g)
	}
	g.ID, g.Gone = old.ID, maps.Clone(old.Gone)
	for stream, at := range r.Gone {
		if at <= g.Gone[stream] {
			continue
		}
		if g.Gone == nil {
			g.Gone = map[string]int64{}
		}
		g.Gone[stream] = at
		var st Stream
		if found, err := s.get(streamKey(g.ID, stream), &st); err != nil {
			return err
		} else if found && st.CreatedAt <= at {
			if err := s.dropStream(b, g, st); err != nil {
				return err
			}
		}
	}
	return put(b, groupKey(g.Name), g)
}

// Take adds a piece that another server has; what is here already stays as it is. Its stream is made when it is missing, its group not.
// Errors: ErrNoGroup, ErrDiskFull.
func (s *Store) Take(_ context.Context, p Piece) error {
	if err := s.checkSpace(); err != nil {
		return err
	}
	err := s.change(func(b *pebble.Batch) error {
		g, st, err := s.stream(p.Group, p.Stream.Name)
		if errors.Is(err, ErrNoStream) {
			if at, deleted := g.Gone[p.Stream.Name]; deleted && p.Stream.CreatedAt <= at {
				return nil
			}
			st, err = Stream{Name: p.Stream.Name, ID: p.Stream.ID, CreatedAt: p.Stream.CreatedAt}, nil
		}
		if err != nil {
			return err
		}
		for _, e := range p.Events {
			if err := b.Set(eventKey(g.ID, st.ID, e.At, e.N), encodeEvent(e.Ingested, e.Message), nil); err != nil {
				return err
			}
			st.wrote(e.At, max(e.Ingested, st.LastIngestion))
		}
		for name, source := range p.Source {
			known, err := s.origin(g, st, name)
			if err != nil {
				return err
			}
			next := origin{at: model.LogPosition{max(known.at[0], source.At[0]), max(known.at[1], source.At[1])}, number: source.Number}
			if err := b.Set(originKey(g.ID, st.ID, name), next.encode(), nil); err != nil {
				return err
			}
		}
		return put(b, streamKey(g.ID, st.Name), st)
	})
	if err == nil && len(p.Events) > 0 {
		s.feed.tell(p.Group)
	}
	return err
}

// Source returns what is known of a source. Errors: ErrNoGroup, ErrNoStream.
func (s *Store) Source(group, stream, source string) (Source, error) {
	leave, err := s.enter()
	if err != nil {
		return Source{}, err
	}
	defer leave()
	g, st, err := s.stream(group, stream)
	if err != nil {
		return Source{}, err
	}
	known, err := s.origin(g, st, source)
	return Source{known.at, known.number}, err
}

// Single names a stream of which a server knows that it has one copy only.
type Single struct{ Group, Stream string }

func singleKey(group, stream string) []byte {
	return append(append([]byte{tagSingle}, group...), "\x00"+stream...)
}

// NoteSingle remembers a stream for Singles, or forgets it.
func (s *Store) NoteSingle(group, stream string, single bool) error {
	return s.change(func(b *pebble.Batch) error {
		if single {
			return put(b, singleKey(group, stream), Single{group, stream})
		}
		return b.Delete(singleKey(group, stream), nil)
	})
}

// Singles returns the streams that NoteSingle remembers.
func (s *Store) Singles() (singles []Single, err error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	err = s.list([]byte{tagSingle}, nil, 0, func(data []byte) error {
		var one Single
		err := json.Unmarshal(data, &one)
		singles = append(singles, one)
		return err
	})
	return singles, err
}

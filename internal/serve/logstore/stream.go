package logstore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/cockroachdb/pebble"
)

// Stream is a log stream. Times are Unix milliseconds.
type Stream struct {
	Name      string `json:"name"`
	CreatedAt int64  `json:"createdAt"`
	// HasEvents says whether there are events; only then FirstAt and LastAt, of the oldest and the newest of them, count.
	HasEvents     bool  `json:"hasEvents,omitempty"`
	FirstAt       int64 `json:"firstAt,omitempty"`
	LastAt        int64 `json:"lastAt,omitempty"`
	LastIngestion int64 `json:"lastIngestion,omitempty"` // when events were last written; 0: never
	// Next is the number of the next event, and so how many were ever written.
	Next uint64 `json:"next,omitempty"`
	// ID follows from the names of the group and the stream, and from what was deleted before it: every server gives it the same.
	ID uint64 `json:"id"`
}

// CreateStream makes an empty stream. Errors: ErrNoGroup, ErrStreamExists, ErrBadName, ErrDiskFull.
func (s *Store) CreateStream(group, stream string) error {
	if err := CheckStreamName(stream); err != nil {
		return err
	}
	if err := s.checkSpace(); err != nil {
		return err
	}
	return s.change(func(b *pebble.Batch) error {
		g, err := s.group(group)
		if err != nil {
			return err
		}
		var old Stream
		if found, err := s.get(streamKey(g.ID, stream), &old); err != nil || found {
			return orIf(err, ErrStreamExists)
		}
		return put(b, streamKey(g.ID, stream), s.newStream(g, stream))
	})
}

// DeleteStream deletes a stream and its events. Errors: ErrNoGroup, ErrNoStream.
func (s *Store) DeleteStream(group, stream string) error {
	return s.change(func(b *pebble.Batch) error {
		g, st, err := s.stream(group, stream)
		if err != nil {
			return err
		}
		if g.Gone == nil {
			g.Gone = map[string]int64{}
		}
		g.Version = s.version(g.Version)
		g.Gone[stream] = max(s.now().UnixMilli(), st.CreatedAt)
		if err := put(b, groupKey(g.Name), g); err != nil {
			return err
		}
		return s.dropStream(b, g, st)
	})
}

// dropStream adds to b the deletion of a stream with all that it has.
func (s *Store) dropStream(b *pebble.Batch, g Group, st Stream) error {
	if err := b.Delete(streamKey(g.ID, st.Name), nil); err != nil {
		return err
	}
	for _, all := range [][]byte{originKey(g.ID, st.ID, ""), streamEvents(g.ID, st.ID)} {
		if err := b.DeleteRange(all, under(all), nil); err != nil {
			return err
		}
	}
	return nil
}

// newStream is a stream of the group that has no events yet.
func (s *Store) newStream(g Group, name string) Stream {
	gone, again := g.Gone[name]
	st := Stream{Name: name, ID: streamID(g, name), CreatedAt: s.now().UnixMilli()}
	if again {
		st.CreatedAt = max(st.CreatedAt, gone+1)
	}
	return st
}

// streamID is beyond the numbers that streams had before several servers kept them.
func streamID(g Group, stream string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s\x00%d", g.Name, g.Born, stream, g.Gone[stream]))
	return 1<<58 | binary.BigEndian.Uint64(sum[:])>>6
}

// Stream returns a stream. Errors: ErrNoGroup, ErrNoStream.
func (s *Store) Stream(group, stream string) (Stream, error) {
	leave, err := s.enter()
	if err != nil {
		return Stream{}, err
	}
	defer leave()
	_, st, err := s.stream(group, stream)
	return st, err
}

func (s *Store) stream(group, stream string) (g Group, st Stream, err error) {
	if g, err = s.group(group); err != nil {
		return g, st, err
	}
	found, err := s.get(streamKey(g.ID, stream), &st)
	if err == nil && !found {
		err = ErrNoStream
	}
	return g, st, err
}

// Streams returns up to limit streams of the group whose name begins with prefix and comes after the name after, in the order
// of their names. A limit of 0 means all. Errors: ErrNoGroup.
func (s *Store) Streams(group, prefix, after string, limit int) ([]Stream, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	g, err := s.group(group)
	if err != nil {
		return nil, err
	}
	return s.streams(g, prefix, after, limit)
}

func (s *Store) streams(g Group, prefix, after string, limit int) (streams []Stream, err error) {
	err = s.list(streamKey(g.ID, prefix), streamKey(g.ID, after), limit, func(data []byte) error {
		var st Stream
		if err := json.Unmarshal(data, &st); err != nil {
			return err
		}
		streams = append(streams, st)
		return nil
	})
	return streams, err
}

func streamEvents(group, stream uint64) []byte { return eventKey(group, stream, 0, 0)[:17] }

package logstore

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/cockroachdb/pebble"
)

// Query chooses events of a group.
type Query struct {
	// Streams names the streams to read; nil means all whose name begins with Prefix.
	Streams []string
	Prefix  string
	// Start and End bound the events' times, Unix milliseconds: Start ≤ time < End. End 0 means no end.
	Start, End int64
	// From, when not nil, continues after that event, or before it when Backward.
	From *Position
	// Backward yields the newest events first.
	Backward bool
	// Lenient passes over streams of Streams that do not exist.
	Lenient bool
}

// A cursor reads its stream in chunks: no iterator stays open between two of them, and what is held in memory is bounded.
const (
	chunkEvents = 256
	chunkBytes  = 64 << 10
)

// Scan yields the events that q chooses, merged from all their streams by Position. Events that are written meanwhile may or may
// not show. An error ends the sequence: ErrNoGroup, ErrNoStream for a stream of q.Streams, ctx's, or a failure to read.
func (s *Store) Scan(ctx context.Context, group string, q Query) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		m, err := s.merge(group, q)
		for err == nil && len(m.cursors) > 0 {
			c := m.cursors[0]
			if len(c.chunk) == 0 {
				if err = s.fill(ctx, c); err != nil {
					break
				}
				if len(c.chunk) == 0 {
					heap.Pop(m)
				} else {
					heap.Fix(m, 0)
				}
				continue
			}
			e := c.chunk[0]
			c.chunk = c.chunk[1:]
			c.passed(e.Position)
			heap.Fix(m, 0)
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// cursor walks one stream. [lower, upper) are the keys not read yet; next is not past the position of the next event, so a
// cursor whose chunk is empty may still be compared with the others.
type cursor struct {
	name         string
	group        uint64
	lower, upper []byte
	next         Position
	backward     bool
	chunk        []Event
	size         int // of the next chunk
}

// merge makes the cursors of the streams that may have events for q.
func (s *Store) merge(group string, q Query) (*merger, error) {
	g, err := s.Group(group)
	if err != nil {
		return nil, err
	}
	var streams []Stream
	if q.Streams == nil {
		streams, err = s.Streams(group, q.Prefix, "", 0)
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(q.Streams))) {
		st, err := s.Stream(group, name)
		if q.Lenient && errors.Is(err, ErrNoStream) {
			continue
		}
		if err != nil {
			return nil, err
		}
		streams = append(streams, st)
	}
	m := &merger{backward: q.Backward}
	for _, st := range streams {
		if c := newCursor(g.ID, st, q); c != nil {
			m.cursors = append(m.cursors, c)
		}
	}
	heap.Init(m)
	return m, err
}

// newCursor returns nil when the stream has nothing for q.
func newCursor(group uint64, st Stream, q Query) *cursor {
	end := q.End
	if end <= 0 {
		end = math.MaxInt64
	}
	if !st.HasEvents || st.LastAt < q.Start || st.FirstAt >= end {
		return nil
	}
	c := &cursor{name: st.Name, group: group, backward: q.Backward, size: 16}
	first := Position{At: max(q.Start, st.FirstAt), Stream: st.ID}
	last := Position{At: min(end-1, st.LastAt), Stream: st.ID, N: math.MaxUint64}
	c.lower = eventKey(group, st.ID, max(0, q.Start), 0)
	c.upper = eventKey(group, st.ID, end, 0)
	c.next = first
	if q.Backward {
		c.next = last
	}
	if q.From != nil {
		c.from(*q.From, st.ID)
	}
	if string(c.lower) >= string(c.upper) {
		return nil
	}
	return c
}

// from narrows the cursor to what lies beyond p, an event that may be another stream's.
func (c *cursor) from(p Position, stream uint64) {
	at, n := p.At, uint64(0)
	switch {
	case stream < p.Stream:
		at++ // this stream's events of the same time come before p
	case stream == p.Stream && c.backward:
		n = p.N
	case stream == p.Stream:
		n = p.N + 1
	}
	bound := eventKey(c.group, stream, at, n)
	if c.backward {
		c.upper = minKey(c.upper, bound)
	} else {
		c.lower = maxKey(c.lower, bound)
		c.next.At = max(c.next.At, at)
	}
}

// passed notes that the event at p was given out.
func (c *cursor) passed(p Position) {
	if len(c.chunk) > 0 {
		c.next = c.chunk[0].Position
		return
	}
	c.next = p
	c.from(p, p.Stream)
}

// fill reads the next chunk; it stays empty at the end.
func (s *Store) fill(ctx context.Context, c *cursor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	rows, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: c.lower, UpperBound: c.upper})
	if err != nil {
		return fmt.Errorf("read log stream %s: %w", c.name, err)
	}
	defer rows.Close()
	start, step := rows.First, rows.Next
	if c.backward {
		start, step = rows.Last, rows.Prev
	}
	c.chunk = make([]Event, 0, c.size)
	for ok, held := start(), 0; ok && len(c.chunk) < c.size && held < chunkBytes; ok = step() {
		e, err := decodeEvent(rows.Key(), rows.Value())
		if err != nil {
			return fmt.Errorf("read log stream %s: %w", c.name, err)
		}
		e.StreamName = c.name
		held += len(e.Message)
		c.chunk = append(c.chunk, e)
	}
	if err := rows.Error(); err != nil {
		return fmt.Errorf("read log stream %s: %w", c.name, err)
	}
	c.size = min(2*c.size, chunkEvents)
	if len(c.chunk) > 0 {
		c.next = c.chunk[0].Position
	}
	return nil
}

// merger is a heap of cursors: the one whose event comes next is on top.
type merger struct {
	cursors  []*cursor
	backward bool
}

// Len implements heap.Interface.
func (m *merger) Len() int { return len(m.cursors) }

// Less implements heap.Interface.
func (m *merger) Less(i, j int) bool {
	order := m.cursors[i].next.Compare(m.cursors[j].next)
	if m.backward {
		return order > 0
	}
	return order < 0
}

// Swap implements heap.Interface.
func (m *merger) Swap(i, j int) { m.cursors[i], m.cursors[j] = m.cursors[j], m.cursors[i] }

// Push implements heap.Interface.
func (m *merger) Push(c any) { m.cursors = append(m.cursors, c.(*cursor)) }

// Pop implements heap.Interface.
func (m *merger) Pop() any {
	last := m.cursors[len(m.cursors)-1]
	m.cursors = m.cursors[:len(m.cursors)-1]
	return last
}

func minKey(a, b []byte) []byte {
	if string(b) < string(a) {
		return b
	}
	return a
}

func maxKey(a, b []byte) []byte {
	if string(b) > string(a) {
		return b
	}
	return a
}

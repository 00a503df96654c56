package control

import (
	"testing"
	"time"
)

// TestQueue: each owner is given to one at a time, first come first served; what is asked for meanwhile comes again, what failed waits
// for its time, and nothing is remembered of owners that want nothing.
func TestQueue(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	q := newQueue()
	a, b := owner{ofService, "a"}, owner{ofService, "b"}
	take := func(want owner) *entry {
		t.Helper()
		e, _, ok := q.take(now)
		if !ok || e.owner != want {
			t.Fatalf("took %v, want %v", e, want)
		}
		return e
	}
	none := func(wantNext time.Time) {
		t.Helper()
		if e, next, ok := q.take(now); ok || !next.Equal(wantNext) {
			t.Fatalf("took %v, next at %s, want none and %s", e, next, wantNext)
		}
	}
	q.add(a, b, a)
	first := take(a)
	q.add(a) // while it is looked at
	second := take(b)
	none(time.Time{})
	q.done(first, time.Time{}, 0)
	q.done(take(a), now.Add(3*time.Second), 0)
	q.done(second, now.Add(2*time.Second), 1)
	q.add(b) // it failed: not before its time
	none(now.Add(2 * time.Second))
	now = now.Add(2 * time.Second)
	e := take(b)
	q.addAt(b, now.Add(time.Second)) // while it is looked at: an earlier time wins
	q.done(e, now.Add(time.Minute), 0)
	now = now.Add(time.Second)
	q.done(take(a), time.Time{}, 0)
	q.done(take(b), time.Time{}, 0)
	none(time.Time{})
	if len(q.entries) != 0 || len(q.later) != 0 {
		t.Errorf("%d entries and %d times are left", len(q.entries), len(q.later))
	}
}

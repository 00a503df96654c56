package logstore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// modelled is what the model of TestScanIsAFilteredSort knows of an event.
type modelled struct {
	at      int64
	stream  string
	message string
}

// TestScanIsAFilteredSort writes at random and compares every kind of query with a sort and filter of the same events.
func TestScanIsAFilteredSort(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		group := fmt.Sprint("g", run)
		names := []string{"a/1", "a/2", "b"}
		for _, name := range names {
			ok(t, s.Prepare(ctx, group, name, true))
		}
		var all []modelled
		for range rapid.IntRange(0, 8).Draw(rt, "batches") {
			stream := rapid.SampledFrom(names).Draw(rt, "stream")
			var batch []model.LogEvent
			for range rapid.IntRange(1, 40).Draw(rt, "events") {
				message := fmt.Sprint(len(all))
				at := rapid.IntRange(0, 30).Draw(rt, "at")
				batch = append(batch, line(at, message))
				all = append(all, modelled{epoch.UnixMilli() + int64(at), stream, message})
			}
			ok(t, s.Write(ctx, group, stream, batch))
		}
		if rapid.Bool().Draw(rt, "sweep") {
			days, old := 1, rapid.IntRange(0, 30).Draw(rt, "old")
			ok(t, s.UpdateGroup(group, func(g *Group) error { g.RetentionDays = days; return nil }))
			_, err := s.Sweep(epoch.AddDate(0, 0, days).Add(time.Duration(old) * time.Millisecond))
			ok(t, err)
			all = slices.DeleteFunc(all, func(m modelled) bool { return m.at < epoch.UnixMilli()+int64(old) })
		}
		ids := map[string]uint64{}
		for _, name := range names {
			st, err := s.Stream(group, name)
			ok(t, err)
			ids[name] = st.ID
		}
		// Stable: events of one millisecond and stream keep their order; streams sort by their ids.
		slices.SortStableFunc(all, func(a, b modelled) int {
			if a.at != b.at {
				return int(a.at - b.at)
			}
			return cmp.Compare(ids[a.stream], ids[b.stream])
		})
		for range 4 {
			checkQuery(rt, s, group, names, all)
		}
	})
}

func checkQuery(t *rapid.T, s *Store, group string, names []string, all []modelled) {
	q := Query{Backward: rapid.Bool().Draw(t, "backward")}
	switch rapid.IntRange(0, 2).Draw(t, "which") {
	case 0:
		q.Streams = rapid.SliceOfN(rapid.SampledFrom(names), 1, 3).Draw(t, "streams")
	case 1:
		q.Prefix = rapid.SampledFrom([]string{"a", "a/1", "b", "zz"}).Draw(t, "prefix")
	}
	if rapid.Bool().Draw(t, "window") {
		q.Start = epoch.UnixMilli() + int64(rapid.IntRange(-1, 31).Draw(t, "start"))
		q.End = epoch.UnixMilli() + int64(rapid.IntRange(-1, 31).Draw(t, "end"))
	}
	var want []string
	for _, m := range all {
		chosen := q.Streams == nil && strings.HasPrefix(m.stream, q.Prefix) || slices.Contains(q.Streams, m.stream)
		if chosen && m.at >= q.Start && (q.End == 0 || m.at < q.End) {
			want = append(want, m.stream+":"+m.message)
		}
	}
	if q.Backward {
		slices.Reverse(want)
	}
	// Read in pages of random sizes, each from where the one before ended.
	var got []string
	for {
		page := rapid.IntRange(1, 50).Draw(t, "page")
		n := 0
		for e, err := range s.Scan(ctx, group, q) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.StreamName+":"+e.Message)
			token, valid := ParsePosition(e.Position.String())
			if !valid || token != e.Position {
				t.Fatalf("position %v became %v", e.Position, token)
			}
			q.From = &token
			if n++; n == page {
				break
			}
		}
		if n < page {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("query %+v:\n got %v\nwant %v", q, got, want)
	}
}

func TestSweepKeepsTheRest(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	for _, name := range []string{"forever", "day"} {
		for _, stream := range []string{"both", "old"} {
			ok(t, s.Prepare(ctx, name, stream, true))
			ok(t, s.Write(ctx, name, stream, []model.LogEvent{line(0, "first")}))
		}
		ok(t, s.Write(ctx, name, "both", []model.LogEvent{line(10, "second")}))
	}
	ok(t, s.UpdateGroup("day", func(g *Group) error { g.RetentionDays = 1; return nil }))
	for _, want := range []int{2, 0} { // the second time nothing is left to do
		n, err := s.Sweep(epoch.AddDate(0, 0, 1).Add(5 * time.Millisecond))
		if err != nil || n != want {
			t.Errorf("swept %d streams, %v; want %d", n, err, want)
		}
	}
	equal(t, "forever", messages(t, s, "forever", Query{}), "both:first", "old:first", "both:second")
	equal(t, "day", messages(t, s, "day", Query{}), "both:second")
	both, err := s.Stream("day", "both")
	if err != nil || !both.HasEvents || both.FirstAt != epoch.UnixMilli()+10 {
		t.Errorf("both: %+v, %v", both, err)
	}
	old, err := s.Stream("day", "old")
	if err != nil || old.HasEvents {
		t.Errorf("old: %+v, %v", old, err)
	}
	ok(t, s.Write(ctx, "day", "old", []model.LogEvent{line(20, "new")}))
	equal(t, "day", messages(t, s, "day", Query{}), "both:second", "old:new")
}

func TestSweepPassesManyStreams(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	ok(t, s.CreateGroup(Group{Name: "g", RetentionDays: 1}))
	const streams = sweepPage + 20
	for i := range streams {
		name := fmt.Sprintf("s%04d", i)
		ok(t, s.CreateStream("g", name))
		ok(t, s.Write(ctx, "g", name, []model.LogEvent{line(0, "x")}))
	}
	if n, err := s.Sweep(epoch.AddDate(0, 0, 2)); err != nil || n != streams {
		t.Errorf("swept %d, %v", n, err)
	}
}

func TestPositionsOfOthersAreRefused(t *testing.T) {
	for _, token := range []string{"", "1-2", "1-2-3-4", "-1-2-3", "x!-1-1", "1y2p0ij32e8e7-0-0", "zzzzzzzzzzzzzzzzzz-1-1"} {
		if p, valid := ParsePosition(token); valid {
			t.Errorf("%q became %v", token, p)
		}
	}
}

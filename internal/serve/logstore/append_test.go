package logstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// outputOf cuts texts into the lines of an output.
func outputOf(output int, texts ...string) (lines []model.LogLine) {
	at := int64(0)
	for i, text := range texts {
		end := at + int64(len(text)) + 1
		lines = append(lines, model.LogLine{At: line(i/3, "").At, Message: text, Output: output, Start: at, End: end})
		at = end
	}
	return lines
}

func TestABatchThatIsSentAgainAddsNothing(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	ok(t, s.Prepare(ctx, "g", "s", true))
	all := outputOf(0, "a", "b", "c", "d", "e", "f")
	send := func(source string, lines []model.LogLine) {
		ok(t, s.Append(ctx, model.LogBatch{Group: "g", Stream: "s", Source: source, Lines: lines}))
	}
	send("one", all[:4])
	send("one", all[:4])
	send("one", all[2:])
	send("one", outputOf(1, "x", "y"))
	send("two", outputOf(0, "other"))
	send("two", outputOf(0, "other"))
	got := messages(t, s, "g", Query{})
	slices.Sort(got)
	equal(t, "lines", got, "s:a", "s:b", "s:c", "s:d", "s:e", "s:f", "s:other", "s:x", "s:y")
	at, err := s.Position(ctx, "g", "s", "one")
	if err != nil || at != (model.LogPosition{12, 4}) {
		t.Errorf("position %v (%v)", at, err)
	}
	if at, err := s.Position(ctx, "g", "s", "nobody"); err != nil || at != (model.LogPosition{}) {
		t.Errorf("position of nobody %v (%v)", at, err)
	}
	if st, err := s.Stream("g", "s"); err != nil || st.Next != 9 {
		t.Errorf("%d events were counted (%v)", st.Next, err)
	}
	for _, source := range []string{"", string(make([]byte, maxSource+1))} {
		if err := s.Append(ctx, model.LogBatch{Group: "g", Stream: "s", Source: source, Lines: all}); !errors.Is(err, ErrBadName) {
			t.Errorf("a source of %d characters: %v", len(source), err)
		}
	}
	ok(t, s.DeleteStream("g", "s"))
	ok(t, s.CreateStream("g", "s"))
	send("one", all[:1]) // of a stream that is new, though its source is not
	equal(t, "after the stream was made anew", messages(t, s, "g", Query{}), "s:a")
}

// Lines of one millisecond keep the order of the output, whichever batches they come in.
func TestLinesOfAMillisecondKeepTheirOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := openDir(t, t.TempDir(), config())
		ok(t, s.Prepare(ctx, "g", "s", true))
		var texts, want []string
		for i := range rapid.IntRange(1, 30).Draw(rt, "lines") {
			texts = append(texts, fmt.Sprint(i))
			want = append(want, fmt.Sprint("s:", i))
		}
		all := outputOf(0, texts...)
		for from := 0; from < len(all); {
			to := rapid.IntRange(from+1, len(all)).Draw(rt, "to")
			ok(t, s.Append(ctx, model.LogBatch{Group: "g", Stream: "s", Source: "x", Lines: all[from:to]}))
			from = rapid.IntRange(from, to).Draw(rt, "from") // some of it is sent again
		}
		equal(t, "order", messages(t, s, "g", Query{}), want...)
	})
}

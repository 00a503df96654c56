package logdriver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
)

// frail is a sink that dies at a step: before or after it has stored.
type frail struct {
	memory
	text  map[string][2]*strings.Builder // by source
	steps int                            // until it dies; negative: it lives
	after bool                           // it dies when it has stored what it was given
}

var errKilled = errors.New("killed")

// dies counts a step.
func (s *frail) dies() bool {
	if s.steps < 0 {
		return false
	}
	s.steps = max(0, s.steps-1)
	return s.steps == 0
}

func (s *frail) Position(ctx context.Context, group, stream, source string) (at model.LogPosition, err error) {
	if s.dies() {
		return at, errKilled
	}
	return s.memory.Position(ctx, group, stream, source)
}

func (s *frail) Append(ctx context.Context, b model.LogBatch) error {
	dies := s.dies()
	if dies && !s.after {
		return errKilled
	}
	had := s.has[b.Source]
	if err := s.memory.Append(ctx, b); err != nil {
		return err
	}
	if _, ok := s.text[b.Source]; !ok {
		s.text[b.Source] = [2]*strings.Builder{{}, {}}
	}
	for _, l := range b.Lines {
		if l.End > had[l.Output] {
			s.text[b.Source][l.Output].WriteString(l.Message)
		}
	}
	if dies {
		s.after = false // dead is dead
		return errKilled
	}
	return nil
}

// TestNoLineIsLostOrDoubledOverKills: the node and the server are killed between any two steps; every line is stored once.
func TestNoLineIsLostOrDoubledOverKills(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "logdriver")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		now := time.Now()
		sink := &frail{text: map[string][2]*strings.Builder{}}
		spec := awslogs(dir)
		if rapid.Bool().Draw(rt, "multiline") {
			spec = awslogs(dir, "awslogs-multiline-pattern", "^a")
		}
		begin := func() *follower {
			d := New(Config{Sink: sink, Now: func() time.Time { return now }})
			d.Close() // nobody but this test drives it
			target, err := targetOf(spec)
			if err != nil {
				rt.Fatal(err)
			}
			f, err := d.newFollower(spec, target, agent.LogFiles{Stdout: filepath.Join(dir, "stdout"), Stderr: filepath.Join(dir, "stderr")})
			if err != nil {
				rt.Fatal(err)
			}
			return f
		}
		f := begin()
		var want [2]strings.Builder
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"write", "write", "pass", "server dies", "node dies", "wait"}).Draw(rt, "step") {
			case "write":
				which := rapid.IntRange(0, 1).Draw(rt, "output")
				piece := strings.Repeat(rapid.StringMatching(`([a-c]{0,9}\n?){0,6}`).Draw(rt, "piece"), rapid.SampledFrom([]int{1, 2, 100, 60_000}).Draw(rt, "times"))
				out := appendTo(t, filepath.Join(dir, streams[which]))
				out.WriteString(piece)
				out.Close()
				want[which].WriteString(piece)
			case "wait":
				now = now.Add(10 * time.Second) // a line without an end is not waited for any longer
			case "server dies", "node dies":
				if rapid.Bool().Draw(rt, "in the middle of a line") { // which is sent as it is when nothing follows
					sink.steps = -1
					f.pass(context.Background(), false)
					now = now.Add(10 * time.Second)
				}
				sink.steps, sink.after = rapid.IntRange(1, 4).Draw(rt, "at"), rapid.Bool().Draw(rt, "after")
				f.pass(context.Background(), false)
				sink.steps = -1
				if rapid.Bool().Draw(rt, "and the node") {
					f.close()
					f = begin()
				}
			default:
				sink.steps = -1
				f.pass(context.Background(), false)
			}
		}
		sink.steps = -1
		f.pass(context.Background(), true)
		if !f.eof || len(f.batch) > 0 {
			rt.Fatalf("not all is carried: eof %v, %d events wait", f.eof, len(f.batch))
		}
		f.close()
		if !f.driver.credit.TryAcquire(creditBytes) {
			rt.Fatal("credit was not given back")
		}
		for i := range want {
			got := ""
			for _, text := range sink.text {
				got += text[i].String()
			}
			if lines := strings.ReplaceAll(want[i].String(), "\n", ""); strings.ReplaceAll(got, "\n", "") != lines {
				rt.Fatalf("%s: %d bytes came out of %d", streams[i], len(got), len(lines))
			}
		}
	})
}

package logdriver

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/outlet"
	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// keeper is a sink that keeps the events.
type keeper struct {
	mu  sync.Mutex
	all []model.LogLine
}

func (k *keeper) Prepare(context.Context, string, string, bool) error { return nil }

func (k *keeper) Position(context.Context, string, string, string) (at model.LogPosition, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.all {
		at[l.Output] = max(at[l.Output], l.End)
	}
	return at, nil
}

func (k *keeper) Append(_ context.Context, batch model.LogBatch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = append(k.all, batch.Lines...)
	return nil
}

// Lines that are carried away an hour after they were written, because nobody was there to do it, have the times at which they were
// written, also after a restart in the middle, and their batch begins with the oldest.
func TestLinesKeepTheTimeOfTheirWriting(t *testing.T) {
	dir := t.TempDir()
	o, err := outlet.Open(filepath.Join(dir, "stdout"), filepath.Join(dir, "stderr"), bound.Bound{})
	if err != nil {
		t.Fatal(err)
	}
	var pipes [2]*os.File
	stdout, stderr := o.Paths()
	for i, path := range []string{stdout, stderr} {
		if pipes[i], err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Started(); err != nil {
		t.Fatal(err)
	}
	said := map[string]time.Time{}
	for i, text := range []string{"one", "two", "three", "four", "five"} {
		said[text] = time.Now()
		if _, err := pipes[i%2].WriteString(text + "\n"); err != nil {
			t.Fatal(err)
		}
		<-time.After(3 * bound.StampPause)
	}
	for _, p := range pipes {
		p.Close()
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	later := func() time.Time { return time.Now().Add(time.Hour) }
	d := New(Config{Sink: k, Now: later})
	defer d.Close()
	spec := awslogs(dir)
	if _, err := d.Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := d.Finish(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if len(k.all) != len(said) {
		t.Fatalf("%d events", len(k.all))
	}
	for _, e := range k.all {
		if late := e.At.Sub(said[e.Message]).Abs(); late > 2*bound.StampPause {
			t.Errorf("%q has a time that is %v off", e.Message, late)
		}
	}
	if !slices.IsSortedFunc(k.all, func(a, b model.LogLine) int { return a.At.Compare(b.At) }) {
		t.Errorf("%+v", k.all)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+bound.Times)); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// Output without stamps, of a container that an older Berth started, has the time at which it is read.
func TestLinesWithoutStamps(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stdout"), []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	now := time.Now().Add(time.Hour)
	d := New(Config{Sink: k, Now: func() time.Time { return now }})
	defer d.Close()
	spec := awslogs(dir)
	if _, err := d.Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := d.Finish(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if len(k.all) != 1 || !k.all[0].At.Equal(now) {
		t.Errorf("%+v", k.all)
	}
}

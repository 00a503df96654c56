package vitals

import (
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/timeouts"
)

// TestWhatIsWrongIsSaid, once it is, and until it is well for sure.
func TestWhatIsWrongIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const gib = 1 << 30
		room, free, answered := uint64(gib), uint64(gib), time.Now()
		hangs := make(chan struct{})
		close(hangs)
		v := New(Config{Log: slog.New(slog.DiscardHandler), Runtime: func() time.Time { return answered },
			write: func() error { <-hangs; return nil },
			room:  func() (uint64, uint64, bool) { return room, 10 * gib, true },
			memo:  func() (uint64, uint64, bool) { return free, 10 * gib, true }})
		is := func(want beat.Health) {
			t.Helper()
			v.look()
			synctest.Wait()
			if got := v.Health(); got != want {
				t.Errorf("%b, want %b", got, want)
			}
		}
		is(0)
		room = leastRoom - 1
		is(beat.Full)
		room = leastRoom + 1
		is(beat.Full)
		room = 2 * leastRoom
		is(0)
		free = gib / 5
		is(beat.Memory)
		free = gib / 2
		is(beat.Memory)
		free = gib
		is(0)
		time.Sleep(timeouts.VitalsRuntime + time.Second)
		is(beat.Runtime)
		answered = time.Now()
		is(0)
		hangs = make(chan struct{})
		is(0)
		time.Sleep(timeouts.VitalsWrite + time.Second)
		answered, room = time.Now(), 0
		is(beat.Disk) // and nobody asks it for its room
		close(hangs)
		synctest.Wait()
		room = gib
		is(0)
	})
}

// TestThisMachine: the real questions have answers.
func TestThisMachine(t *testing.T) {
	dir := t.TempDir()
	if err := writeThrough(dir + "/vitals"); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(dir + "/vitals"); err != nil || info.Size() != 21 {
		t.Error(info, err)
	}
	for what, f := range map[string]func() (uint64, uint64, bool){"disk": func() (uint64, uint64, bool) { return roomOf(dir) }, "memory": memory} {
		if free, total, ok := f(); !ok || free == 0 || free > total {
			t.Errorf("%s: %d of %d, %t", what, free, total, ok)
		}
	}
}

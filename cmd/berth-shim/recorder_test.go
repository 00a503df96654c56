//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/shim"

	"github.com/berthdev/berth/internal/node/process"
	"github.com/berthdev/berth/internal/node/recovery/note"
)

// cleaner stands for the stock clean-up after a shim, which takes the bundle away.
type cleaner struct {
	shim.Shim
	end shim.StopStatus
}

// Stop implements shim.Shim.
func (c cleaner) Stop(_ context.Context, id string) (shim.StopStatus, error) {
	return c.end, os.RemoveAll(filepath.Join("..", id, "config.json"))
}

// The clean-up after a shim that was killed notes how its container ended, unless it was never begun or its end is noted already.
func TestTheEndIsNotedAfterADeadShim(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		before func(path string) error
		begun  bool
		code   int32
	}{
		"never begun": {func(string) error { return nil }, false, 0},
		"begun":       {func(path string) error { return note.Begin(path, process.ID{}) }, true, 137},
		"noted": {func(path string) error {
			if err := note.Begin(path, process.ID{}); err != nil {
				return err
			}
			return note.End(path, note.Note{ExitCode: 7, FinishedAt: at})
		}, true, 7},
	} {
		t.Run(name, func(t *testing.T) {
			bundle, path := filepath.Join(t.TempDir(), "c"), filepath.Join(t.TempDir(), "note")
			if err := os.Mkdir(bundle, 0o700); err != nil {
				t.Fatal(err)
			}
			spec := fmt.Sprintf(`{"annotations":{%q:%q}}`, note.Annotation, path)
			if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(spec), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.before(path); err != nil {
				t.Fatal(err)
			}
			t.Chdir(bundle)
			if _, err := (manager{cleaner{end: shim.StopStatus{ExitStatus: 137, ExitedAt: at}}}).Stop(t.Context(), "c"); err != nil {
				t.Fatal(err)
			}
			n, begun := note.Read(path)
			if begun != c.begun || n.Exited != c.begun || n.ExitCode != c.code || c.begun && !n.FinishedAt.Equal(at) {
				t.Errorf("%+v, begun %v", n, begun)
			}
		})
	}
}

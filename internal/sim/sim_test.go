package sim_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/sim"
)

// rewrite replaces the expected outputs in testdata. Commit the changes only if you understand what caused them.
var rewrite = flag.Bool("rewrite", false, "write what the scripts print into testdata")

// inCluster runs f on a new cluster in a bubble of its own.
func inCluster(t *testing.T, pace model.Pace, f func(t *testing.T, c *sim.Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c, err := sim.New(ctx, synctest.Wait, pace)
		if err != nil {
			t.Fatal(err)
		}
		f(t, c)
	})
}

// TestScripts runs every script of testdata and compares what it prints.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pace := model.PaceFast
			if strings.Contains(string(script), "# pace: aws\n") {
				pace = model.PaceAWS
			}
			inCluster(t, pace, func(t *testing.T, c *sim.Cluster) {
				got, err := c.Run(string(script))
				if err != nil {
					t.Fatalf("%v\n%s", err, got)
				}
				if *rewrite {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
				if got != string(script) {
					t.Errorf("the output differs from what is expected (see it with go test ./internal/sim -rewrite and git diff):\n%s",
						firstDifference(string(script), got))
				}
			})
		})
	}
}

// firstDifference shows the first line that differs, with what came before it.
func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		x, y := "(the end)", "(the end)"
		if i < len(w) {
			x = w[i]
		}
		if i < len(g) {
			y = g[i]
		}
		if x != y {
			return strings.Join(g[max(0, i-8):min(i, len(g))], "\n") + "\n- " + x + "\n+ " + y
		}
	}
	return ""
}

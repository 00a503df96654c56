package storetest

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Shadow is a store.Follower that knows the families' revisions.
type Shadow struct{ families map[string]int }

// Reset implements store.Follower.
func (s *Shadow) Reset(r store.Reader) { s.families = families(r) }

// Apply implements store.Follower.
func (s *Shadow) Apply(changes []store.Change) {
	for _, c := range changes {
		if c.Table != store.Families.Name() {
			continue
		}
		if f, ok := c.New.(*model.Family); ok {
			s.families[c.Key] = f.LatestRevision
		} else {
			delete(s.families, c.Key)
		}
	}
}

// Names lists the families.
func (s *Shadow) Names() string { return strings.Join(slices.Sorted(maps.Keys(s.families)), " ") }

func families(r store.Reader) map[string]int {
	all := map[string]int{}
	for f := range store.Families.Scan(r, "") {
		all[f.Name] = f.LatestRevision
	}
	return all
}

// followers checks that a follower knows, whenever an Update's function runs, what that function sees; also of what was there
// before, and when other Updates return an error or panic.
func followers(t *testing.T, s store.Store) {
	rapid.Check(t, func(t *rapid.T) {
		var known Shadow
		s.Follow(&known)
		names := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		for k := range rapid.IntRange(1, 8).Draw(t, "updates") {
			outcome := rapid.SampledFrom([]string{"", "", "error", "panic"}).Draw(t, "outcome")
			change := func(tx store.Tx) error {
				if sees := families(tx); !maps.Equal(sees, known.families) {
					t.Fatalf("update %d sees %v, the follower knows %v", k, sees, known.families)
				}
				for range rapid.IntRange(0, 4).Draw(t, "writes") {
					if name := names.Draw(t, "name"); rapid.Bool().Draw(t, "delete") {
						store.Families.Delete(tx, name)
					} else {
						store.Families.Put(tx, &model.Family{Name: name, LatestRevision: rapid.IntRange(1, 9).Draw(t, "revision")})
					}
				}
				switch outcome {
				case "error":
					return errors.New("no")
				case "panic":
					panic("asked for")
				}
				return nil
			}
			func() {
				defer func() {
					if p := recover(); p != nil && outcome != "panic" {
						panic(p)
					}
				}()
				_ = s.Update(ctx, change)
			}()
		}
	})
}

package ecs

import (
	"regexp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPagesCoverEverythingOnce, whatever the size of the pages and although items come and go between them.
func TestPagesCoverEverythingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-e]{1,4}`), 0, 30, rapid.ID[string]).Draw(t, "items")
		desc := rapid.Bool().Draw(t, "desc")
		size := rapid.Int32Range(1, 7).Draw(t, "size")
		slices.Sort(all)
		if desc {
			slices.Reverse(all)
		}
		var got []string
		var token *string
		items := slices.Clone(all)
		for {
			out, next, err := page(items, itself, desc, token, &size, 100, 100)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, out...)
			if next == nil {
				break
			}
			token = next
			// What was seen may be deleted before the next page is asked for.
			items = slices.DeleteFunc(items, func(s string) bool { return s == out[0] })
		}
		if !slices.Equal(got, all) {
			t.Fatalf("pages gave %v of %v", got, all)
		}
	})
}

func TestIDs(t *testing.T) {
	digits, id := regexp.MustCompile(`^[1-9][0-9]{18}$`), regexp.MustCompile(`^[A-Za-z0-9_-]{21}$`)
	seen := map[string]bool{}
	for range 1000 {
		fresh := randomID()
		if d := deploymentDigits(fresh); !digits.MatchString(d) || seen[d] {
			t.Fatalf("digits %q", d)
		} else {
			seen[d] = true
		}
		if s := serviceDeploymentID(fresh); !id.MatchString(s) {
			t.Fatalf("service deployment id %q", s)
		}
	}
}

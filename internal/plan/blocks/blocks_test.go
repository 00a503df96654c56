package blocks

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

var times = Times{Return: time.Hour, Orphan: time.Hour}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(all ...string) (ps []netip.Prefix) {
	for _, s := range all {
		ps = append(ps, prefix(s))
	}
	return ps
}

func use(b string, used int, empty time.Duration) model.BlockUse {
	return model.BlockUse{Block: prefix(b), Used: used, Empty: empty}
}

// brief is what a plan does, in a line each: "give 10.0.0.0/26 first".
func brief(actions []Action) string {
	var lines []string
	for _, a := range actions {
		line := string(a.Kind)
		if a.Block.IsValid() {
			line += " " + a.Block.String()
		}
		if a.First {
			line += " first"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func TestPlan(t *testing.T) {
	pool := prefixes("10.0.0.0/24", "10.0.1.0/25")
	row := func(cidr, node string, first bool) *model.Block {
		return &model.Block{CIDR: cidr, Node: node, First: first}
	}
	recalled := func(cidr, node string) *model.Block { return &model.Block{CIDR: cidr, Node: node, Recalled: true} }
	for name, c := range map[string]struct {
		says  model.Addresses
		given []*model.Block
		want  string
	}{
		"a new node": {want: "give 10.0.0.0/26 first"},
		"a second node": {given: []*model.Block{row("10.0.0.0/26", "other", true)},
			want: "give 10.0.0.64/26 first"},
		"what the machine uses otherwise is left out": {says: model.Addresses{Avoid: prefixes("10.0.0.0/25")},
			want: "give 10.0.0.128/26 first"},
		"a node that restarts": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 3, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true)}},
		"below the share": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 47, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true)}},
		"at the share": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 48, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true)}, want: "give 10.0.0.64/26"},
		"the last answer was lost": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 48, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), row("10.0.0.64/26", "n", false)}},
		"many wait": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 59, 0)}, Want: 60},
			given: []*model.Block{row("10.0.0.0/26", "n", true)}, want: "give 10.0.0.64/26; give 10.0.0.128/26"},
		"from the next pool": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 59, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), row("10.0.0.64/26", "o", true), row("10.0.0.128/26", "p", true), row("10.0.0.192/26", "q", true)},
			want:  "give 10.0.1.0/26"},
		"nothing is left": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 59, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), row("10.0.0.64/26", "o", true), row("10.0.0.128/26", "p", true), row("10.0.0.192/26", "q", true),
				row("10.0.1.0/26", "r", true), row("10.0.1.64/26", "s", true)},
			want: "short"},
		"an instance that grows": {says: model.Addresses{Has: []model.BlockUse{use("172.31.0.0/26", 2, 0), use("172.31.3.64/26", 1, 0), use("172.31.9.0/26", 0, 0)}},
			want: "give 172.31.0.0/26 first; give 172.31.3.64/26"},
		"its gateway's block stays though it is empty": {says: model.Addresses{Has: []model.BlockUse{use("172.31.0.0/26", 0, 0)}},
			want: "give 172.31.0.0/26 first"},
		"what is another's": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 2, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "o", true)}, want: "refuse 10.0.0.0/26; give 10.0.0.64/26 first"},
		"what is no block": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/20", 2, 0)}},
			want: "refuse 10.0.0.0/20; give 10.0.0.0/26 first"},
		"empty for an hour": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 4, 0), use("10.0.0.64/26", 0, time.Hour)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), row("10.0.0.64/26", "n", false)}, want: "recall 10.0.0.64/26"},
		"empty for less": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 4, 0), use("10.0.0.64/26", 0, time.Hour-1)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), row("10.0.0.64/26", "n", false)}},
		"empty, but the others are nearly full": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 50, 0), use("10.0.0.64/26", 0, time.Hour)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), row("10.0.0.64/26", "n", false)}},
		"the first is never recalled": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 0, 9*time.Hour), use("10.0.0.64/26", 1, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), row("10.0.0.64/26", "n", false)}},
		"recalled and still there": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 1, 0), use("10.0.0.64/26", 0, 2*time.Hour)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), recalled("10.0.0.64/26", "n")}},
		"recalled and let go of": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 1, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), recalled("10.0.0.64/26", "n")}, want: "free 10.0.0.64/26"},
		"recalled and used again": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 1, 0), use("10.0.0.64/26", 1, 0)}},
			given: []*model.Block{row("10.0.0.0/26", "n", true), recalled("10.0.0.64/26", "n")}, want: "keep 10.0.0.64/26"},
		"a gateway that had to move": {says: model.Addresses{Has: []model.BlockUse{use("172.29.0.0/26", 0, 0)}, Avoid: prefixes("10.0.0.0/24")},
			given: []*model.Block{row("10.0.0.0/26", "n", true)}, want: "free 10.0.0.0/26; give 172.29.0.0/26 first"},
		"a new route of the machine": {says: model.Addresses{Has: []model.BlockUse{use("10.0.0.0/26", 40, 0), use("10.0.0.64/26", 0, time.Second)}, Want: 9, Avoid: prefixes("10.0.0.64/27")},
			given: []*model.Block{row("10.0.0.0/26", "n", true), row("10.0.0.64/26", "n", false)}, want: "recall 10.0.0.64/26; give 10.0.0.128/26"},
	} {
		t.Run(name, func(t *testing.T) {
			n := Node{ID: "n", Pools: pool, Says: c.says}
			got := Plan(n, c.given, times)
			if brief(got) != c.want {
				t.Errorf("got  %s\nwant %s", brief(got), c.want)
			}
			for _, a := range got {
				if len(a.Reason) < 15 {
					t.Errorf("%s has the reason %q", a.Kind, a.Reason)
				}
			}
		})
	}
}

func TestMost(t *testing.T) {
	n := Node{ID: "n", Pools: prefixes("10.0.0.0/16"), Says: model.Addresses{Want: 1 << 20}}
	got := Plan(n, nil, times)
	if len(got) != Most+1 || got[Most].Kind != Short || !strings.Contains(got[Most].Reason, "the most") {
		t.Errorf("%d actions, the last of which is %+v", len(got), got[len(got)-1])
	}
}

func TestOrphans(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	given := []*model.Block{
		{CIDR: "10.0.0.0/26", Node: "here"},
		{CIDR: "10.0.0.64/26", Node: "gone"},
		{CIDR: "10.0.0.128/26", Node: "gone", OrphanedAt: now.Add(-time.Hour + 1)},
		{CIDR: "10.0.0.192/26", Node: "gone", OrphanedAt: now.Add(-time.Hour)},
		{CIDR: "10.0.1.0/26", Node: "here", OrphanedAt: now.Add(-2 * time.Hour)},
	}
	got := brief(Orphans(given, func(n string) bool { return n == "here" }, now, times))
	if want := "orphan 10.0.0.64/26; free 10.0.0.192/26; claim 10.0.1.0/26"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPools(t *testing.T) {
	for _, c := range []struct {
		ranges []netip.Prefix
		zone   string
		want   string
	}{
		{prefixes("172.31.0.0/16"), "us-east-1b", "172.31.16.0/20 172.31.48.0/20 172.31.64.0/20"},
		{prefixes("172.31.0.0/16", "10.32.0.0/12"), "us-east-1a", "172.31.0.0/20 10.32.0.0/16 172.31.48.0/20"},
		{prefixes("172.31.0.0/16"), "us-east-1z", "172.31.48.0/20 172.31.64.0/20 172.31.80.0/20"},
		{prefixes("10.0.0.0/24"), "us-east-1c", "10.0.0.0/24"},
		{prefixes("10.0.0.0/22"), "us-east-1c", "10.0.0.128/26 10.0.0.192/26 10.0.1.0/26"},
	} {
		got := Pools(c.ranges, c.zone)
		if s := strings.Trim(fmt.Sprint(got[:min(3, len(got))]), "[]"); s != c.want {
			t.Errorf("%v in %s: %s, want %s", c.ranges, c.zone, s, c.want)
		}
	}
}

func TestRanges(t *testing.T) {
	for _, good := range [][]netip.Prefix{prefixes("172.31.0.0/16"), prefixes("10.32.0.0/11"), prefixes("172.31.0.0/16", "10.32.0.0/11", "192.168.4.0/24")} {
		if err := CheckRanges(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][]netip.Prefix{prefixes("10.0.0.0/8"), prefixes("8.8.0.0/16"), prefixes("10.1.2.3/16"), prefixes("fd00::/16"),
		prefixes("10.0.0.0/16", "10.0.4.0/24"), prefixes("172.31.0.0/16", "10.31.0.0/16"), prefixes("10.0.0.0/25")} {
		if CheckRanges(bad) == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

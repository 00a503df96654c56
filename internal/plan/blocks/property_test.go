package blocks

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// machine is a node as this package expects it: it gives addresses of blocks that it was told of, drops a block of which it is not
// told any more once it is empty, and remembers all that over a crash.
type machine struct {
	id     string
	blocks []netip.Prefix
	shut   map[netip.Prefix]bool // gives no more addresses
	used   map[netip.Prefix]map[int]bool
	empty  map[netip.Prefix]time.Duration
	avoid  []netip.Prefix
}

func (m *machine) says() model.Addresses {
	a := model.Addresses{Avoid: m.avoid}
	for _, b := range m.blocks {
		u := model.BlockUse{Block: b, Used: len(m.used[b])}
		if u.Used == 0 {
			u.Empty = m.empty[b]
		}
		a.Has = append(a.Has, u)
	}
	return a
}

func (m *machine) hear(told []netip.Prefix) {
	for _, b := range told {
		if !slices.Contains(m.blocks, b) {
			m.blocks, m.used[b], m.empty[b] = append(m.blocks, b), map[int]bool{}, 0
		}
		delete(m.shut, b)
	}
	for _, b := range slices.Clone(m.blocks) {
		if slices.Contains(told, b) {
			continue
		}
		if m.shut[b] = true; len(m.used[b]) == 0 {
			m.blocks = slices.DeleteFunc(m.blocks, func(o netip.Prefix) bool { return o == b })
			delete(m.shut, b)
		}
	}
}

// world is a server with its rows.
type world struct{ rows []*model.Block }

func (w *world) of(node string) (told []netip.Prefix) {
	for _, first := range []bool{true, false} {
		for _, r := range w.rows {
			if r.Node == node && r.First == first && !r.Recalled {
				told = append(told, r.Prefix())
			}
		}
	}
	return told
}

func (w *world) apply(t *rapid.T, node string, actions []Action) {
	for _, a := range actions {
		i := slices.IndexFunc(w.rows, func(r *model.Block) bool { return r.Prefix() == a.Block })
		switch a.Kind {
		case Give:
			if i >= 0 {
				t.Fatalf("%s was given already", a.Block)
			}
			w.rows = append(w.rows, &model.Block{CIDR: a.Block.String(), Node: node, First: a.First})
		case Recall, Keep:
			w.rows[i].Recalled = a.Kind == Recall
		case Free:
			w.rows = slices.Delete(w.rows, i, i+1)
		case Refuse:
			t.Fatalf("%s", a.Reason)
		}
	}
}

// No address is given by two machines at any time, whatever reports and answers are lost, and plans do not depend on the order of rows.
func TestNoAddressIsGivenTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{}
		pools := prefixes("10.0.0.0/23")
		var all []*machine
		for _, id := range []string{"a", "b", "c"} {
			all = append(all, &machine{id: id, used: map[netip.Prefix]map[int]bool{}, empty: map[netip.Prefix]time.Duration{}, shut: map[netip.Prefix]bool{}})
		}
		pick := func(label string) *machine { return all[rapid.IntRange(0, len(all)-1).Draw(t, label)] }
		report := func(m *machine, heard bool) {
			n := Node{ID: m.id, Pools: pools, Says: m.says()}
			actions := Plan(n, w.rows, times)
			shuffled := slices.Clone(w.rows)
			slices.Reverse(shuffled)
			if again := Plan(n, shuffled, times); !reflect.DeepEqual(again, actions) {
				t.Fatalf("another order of rows makes another plan:\n%v\n%v", actions, again)
			}
			w.apply(t, m.id, actions)
			if heard {
				m.hear(w.of(m.id))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) { report(pick("node"), true) },
			"lost":   func(t *rapid.T) { report(pick("node"), false) },
			"starts": func(t *rapid.T) {
				m := pick("node")
				for range rapid.IntRange(1, 60).Draw(t, "tasks") {
					for _, b := range m.blocks {
						if i := rapid.IntRange(model.BlockReserved, 1<<(32-Bits)-2).Draw(t, "address"); !m.shut[b] && !m.used[b][i] {
							m.used[b][i], m.empty[b] = true, 0
							break
						}
					}
				}
			},
			"ends": func(t *rapid.T) {
				for _, used := range pick("node").used {
					clear(used)
				}
			},
			"time": func(t *rapid.T) {
				d := time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute
				for _, m := range all {
					for _, b := range m.blocks {
						m.empty[b] += d
					}
				}
			},
			"": func(t *rapid.T) {
				has := map[netip.Prefix]string{}
				for _, m := range all {
					for _, b := range m.blocks {
						if other, twice := has[b]; twice {
							t.Fatalf("%s and %s both give addresses of %s", m.id, other, b)
						}
						has[b] = m.id
						if !slices.ContainsFunc(w.rows, func(r *model.Block) bool { return r.Prefix() == b && r.Node == m.id }) {
							t.Fatalf("%s gives addresses of %s, which is not its own", m.id, b)
						}
					}
				}
				for i, r := range w.rows {
					for _, o := range w.rows[:i] {
						if r.Prefix().Overlaps(o.Prefix()) {
							t.Fatalf("%s and %s overlap", r.CIDR, o.CIDR)
						}
						if r.Node == o.Node && r.First && o.First {
							t.Fatalf("node %s has two first blocks", r.Node)
						}
					}
				}
			},
		})
		for range 3 { // once all is told, plans are empty
			for _, m := range all {
				report(m, true)
			}
		}
		for _, m := range all {
			for _, a := range Plan(Node{ID: m.id, Pools: pools, Says: m.says()}, w.rows, times) {
				if a.Kind != Short {
					t.Fatalf("the plan after the plan: %+v", a)
				}
			}
		}
	})
}

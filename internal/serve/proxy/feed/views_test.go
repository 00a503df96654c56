package feed

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// TestTogether: what a target's health is, by what it was and what each machine sees. A view in capitals is drained.
func TestTogether(t *testing.T) {
	for _, c := range []struct{ old, views, want string }{
		{"healthy", "unhealthy (healthy)", "healthy"}, // a server was started anew: the others' machines are not back yet
		{"healthy", "unhealthy (unhealthy)", "unhealthy"},
		{"healthy", "unhealthy (initial)", "unhealthy"},
		{"initial", "initial (healthy)", "initial"},
		{"healthy", "DRAINING (draining)", "DRAINING"}, // nobody waits for them
		{"", "healthy", "healthy"},
		{"", "healthy initial", "initial"},        // a deployment waits until all send it requests
		{"healthy", "healthy initial", "healthy"}, // a machine that comes is no reason for doubt
		{"healthy", "initial", "healthy"},         // who knew it is gone
		{"healthy", "initial unhealthy", "unhealthy"},
		{"initial", "initial unhealthy", "initial"},
		{"unhealthy", "initial unhealthy", "initial"},
		{"healthy", "healthy unhealthy", "healthy"}, // one machine lost its way to the target
		{"initial", "healthy unhealthy", "healthy"},
		{"unhealthy", "unhealthy unhealthy", "unhealthy"},
		{"healthy", "unhealthy unhealthy", "unhealthy"},
		{"healthy", "DRAINING draining", "draining"},
		{"healthy", "DRAINING healthy", "draining"}, // it has not heard of it yet
		{"draining", "DRAINING DRAINING", "DRAINING"},
		{"", "unused unused", "unused"},
		{"unused", "unused initial", "initial"},
	} {
		var old *model.TargetHealth
		if c.old != "" {
			old = &model.TargetHealth{State: types.TargetHealthStateEnum(c.old)}
		}
		var views, away []*model.TargetView
		for i, w := range strings.Fields(c.views) {
			to := &views
			if w[0] == '(' {
				w, to = strings.Trim(w, "()"), &away
			}
			*to = append(*to, &model.TargetView{Viewer: fmt.Sprint(i), TargetHealth: model.TargetHealth{
				State: types.TargetHealthStateEnum(strings.ToLower(w)), Drained: w == strings.ToUpper(w)}})
		}
		for range 2 {
			h := together(old, views, away)
			got := string(h.State)
			if h.Drained {
				got = strings.ToUpper(got)
			}
			if got != c.want {
				t.Errorf("%q, seen as %q: %s, want %s", c.old, c.views, got, c.want)
			}
			slices.Reverse(views)
		}
	}
}

// court is a store with a target and the machines a, b (nodes) and s (a server).
type court struct {
	t *testing.T
	s *mem.Store
	v map[string]*Viewer
}

func newCourt(t *testing.T, level int) *court {
	c := &court{t: t, s: mem.New(store.Schema()), v: map[string]*Viewer{}}
	t.Cleanup(func() { c.s.Close() })
	put(t, c.s, func(tx store.Tx) {
		store.ClusterSettings.Put(tx, &model.Settings{Level: level})
		store.Servers.Put(tx, &model.Server{ID: "s", Name: "host-s"})
		for _, id := range []string{"a", "b"} {
			store.Nodes.Put(tx, &model.Node{ID: id, Connected: true, KeyHash: "k", Declaration: model.Declaration{Hostname: "host-" + id}})
		}
		store.TargetGroups.Put(tx, groupRow("g", nil))
		store.Targets.Put(tx, &model.Target{TargetGroupARN: "g", ID: "x", Port: 1, Task: "t"})
		store.Listeners.Put(tx, listenerRow("l", "lb", 80, nil, nil))
	})
	for _, id := range []string{"a", "b", "s"} {
		c.v[id] = NewViewer(c.s, id, slog.New(slog.DiscardHandler))
	}
	return c
}

func (c *court) says(viewer string, state types.TargetHealthStateEnum) {
	c.t.Helper()
	c.v[viewer].Health(model.TargetHealth{TargetGroupARN: "g", ID: "x", Port: 1, State: state})
	c.writes(viewer)
}

func (c *court) writes(viewer string) {
	c.t.Helper()
	if err := c.v[viewer].write(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *court) is(want string) {
	c.t.Helper()
	c.s.View(func(r store.Reader) {
		got := ""
		if h, ok := store.TargetHealths.Get(r, "g|x|1"); ok {
			got = string(h.State)
		}
		for v := range store.TargetViews.Scan(r, "") {
			got += " " + v.Viewer + ":" + string(v.State)
		}
		if got != want {
			c.t.Errorf("%q, want %q", got, want)
		}
	})
}

// TestEachMachinesViewIsKept: the last one that says something does not win, and those of machines that nobody reaches do not count.
func TestEachMachinesViewIsKept(t *testing.T) {
	c := newCourt(t, model.LevelViews)
	c.says("a", "initial")
	c.says("s", "healthy")
	c.is("initial a:initial s:healthy")
	c.says("a", "healthy")
	c.says("b", "unhealthy")
	c.is("healthy a:healthy b:unhealthy s:healthy")
	c.says("s", "unhealthy")
	c.is("healthy a:healthy b:unhealthy s:unhealthy")

	f := &Feed{Viewer: c.v["s"]}
	change := func(id string, with func(*model.Node)) {
		var old, now model.Node
		put(t, c.s, func(tx store.Tx) {
			row, _ := store.Nodes.Get(tx, id)
			old, now = *row, *row
			with(&now)
			store.Nodes.Put(tx, &now)
		})
		c.s.View(func(r store.Reader) {
			f.heed(r, store.Change{Table: store.Nodes.Name(), Key: id, Old: &old, New: &now})
		})
		c.writes("s")
	}
	change("a", func(n *model.Node) { n.Life.Verdict = model.NodeLost })
	c.is("unhealthy a:healthy b:unhealthy s:unhealthy")
	change("a", func(n *model.Node) { n.Life.Verdict = model.NodeAlive })
	c.is("healthy a:healthy b:unhealthy s:unhealthy")
	// its agent goes for a moment, and for good
	change("a", func(n *model.Node) { n.Connected, n.LostAt = false, time.Now() })
	c.is("healthy a:healthy b:unhealthy s:unhealthy")
	change("a", func(n *model.Node) { n.LostAt = time.Now().Add(-time.Hour); n.Connected = true })
	change("a", func(n *model.Node) { n.Connected = false })
	c.is("unhealthy a:healthy b:unhealthy s:unhealthy")
	change("a", func(n *model.Node) { n.Connected = true })
	c.is("healthy a:healthy b:unhealthy s:unhealthy")
	var row *model.Node
	put(t, c.s, func(tx store.Tx) {
		row, _ = store.Nodes.Get(tx, "a")
		store.Nodes.Delete(tx, "a")
	})
	c.s.View(func(r store.Reader) { f.heed(r, store.Change{Table: store.Nodes.Name(), Key: "a", Old: row}) })
	c.writes("s")
	c.is("unhealthy b:unhealthy s:unhealthy")

	put(t, c.s, func(tx store.Tx) { store.Targets.Delete(tx, "g|x|1") })
	f.orphan("g|x|1")
	c.writes("s")
	c.is("")
}

// TestViewsWaitForTheLevel: while a server knows nothing of views, the last one wins as it did.
func TestViewsWaitForTheLevel(t *testing.T) {
	c := newCourt(t, model.LevelViews-1)
	c.says("a", "unhealthy")
	c.says("s", "healthy")
	c.v["a"].Problem("l", "in use")
	c.writes("a")
	c.is("healthy")
	var before, after model.Settings
	put(t, c.s, func(tx store.Tx) {
		row, _ := store.ClusterSettings.Get(tx, model.SettingsKey)
		before, after = *row, *row
		after.Level = model.LevelViews
		store.ClusterSettings.Put(tx, &after)
		if l, _ := store.Listeners.Get(tx, "l"); l.Problem != "in use" || l.Problems != nil {
			t.Errorf("%q %v", l.Problem, l.Problems)
		}
	})
	for _, id := range []string{"a", "s"} { // each tells all it has said
		f := &Feed{Viewer: c.v[id]}
		c.s.View(func(r store.Reader) {
			f.heed(r, store.Change{Table: store.ClusterSettings.Name(), Key: model.SettingsKey, Old: &before, New: &after})
		})
		c.writes(id)
	}
	c.is("healthy a:unhealthy s:healthy")
}

// TestProblemsOfSeveralMachines: one sentence names them all, and a machine takes back only its own.
func TestProblemsOfSeveralMachines(t *testing.T) {
	c := newCourt(t, model.LevelViews)
	is := func(want string) {
		t.Helper()
		c.s.View(func(r store.Reader) {
			if l, _ := store.Listeners.Get(r, "l"); l.Problem != want {
				t.Errorf("%q, want %q", l.Problem, want)
			}
		})
	}
	for _, step := range []struct{ viewer, problem, want string }{
		{"b", "port 80 is in use", "host-b: port 80 is in use"},
		{"s", "port 80 is forbidden", "host-b: port 80 is in use; host-s: port 80 is forbidden"},
		{"a", "", "host-b: port 80 is in use; host-s: port 80 is forbidden"},
		{"b", "", "host-s: port 80 is forbidden"},
		{"s", "", ""},
	} {
		c.v[step.viewer].Problem("l", step.problem)
		c.writes(step.viewer)
		is(step.want)
	}
}

// TestMachines: which machines serve load balancers.
func TestMachines(t *testing.T) {
	s := mem.New(store.Schema())
	defer s.Close()
	node := func(i int, attributes ...string) *model.Node {
		n := &model.Node{ID: fmt.Sprintf("n%02d", i), KeyHash: "k", RegisteredAt: epoch, Declaration: model.Declaration{Attributes: map[string]string{}}}
		for _, a := range attributes {
			name, value, _ := strings.Cut(a, "=")
			n.Attributes[name] = value
		}
		return n
	}
	put(t, s, func(tx store.Tx) {
		store.Servers.Put(tx, &model.Server{ID: "n00"})
		for i := range 14 {
			switch i {
			case 1:
				store.Nodes.Put(tx, node(i, "berth.lb=false"))
			case 2:
				store.Nodes.Put(tx, node(i, "berth.reachable=false"))
			case 13:
				store.Nodes.Put(tx, node(i, "berth.lb=true"))
			default:
				store.Nodes.Put(tx, node(i))
			}
		}
	})
	s.View(func(r store.Reader) {
		var got []string
		for id := range Machines(r) {
			got = append(got, id)
		}
		slices.Sort(got)
		if want := "n03 n04 n05 n06 n07 n08 n09 n10 n11 n13"; strings.Join(got, " ") != want {
			t.Errorf("%v, want %s", got, want)
		}
	})
}

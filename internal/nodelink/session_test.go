package nodelink_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/store"
)

// TestLargeSet: a node with 5,000 tasks gets all of them as one set, and then only what changes.
func TestLargeSet(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.update(func(tx store.Tx) {
			for k := range 5000 {
				store.Tasks.Put(tx, assigned(fmt.Sprintf("%05d", k), "n1"))
			}
		})
		m := w.join("n1")
		synctest.Wait()
		check(t, "tasks, sets, first, last and its definition", []any{len(m.set), m.calls, m.set[0].Task.ID, m.set[4999].Task.ID, *m.set[4999].Definition.Family},
			[]any{5000, 1, "00000", "04999", "f"})
		w.update(func(tx store.Tx) { store.Tasks.Delete(tx, "00000") })
		synctest.Wait()
		check(t, "tasks and sets after a change", []any{len(m.set), m.calls}, []any{4999, 2})
		m.Report(report("00001", 1, model.Running))
		synctest.Wait()
		check(t, "a report", w.task("00001").Observed.Status, model.Running)
	})
}

// TestNodeThatDoesNotRead: a node that takes nothing more holds up only its own session, which ends when nothing more is heard.
func TestNodeThatDoesNotRead(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		for k := range 5000 {
			w.put(assigned(fmt.Sprintf("%05d", k), "mute"))
		}
		began := time.Now()
		w.open("mute")
		m := w.join("n1")
		synctest.Wait()
		check(t, "connected", w.node("mute").Connected, true)
		w.put(assigned("a", "n1"))
		synctest.Wait()
		check(t, "another node", m.has(), "a ")
		time.Sleep(time.Until(began.Add(16 * time.Second)))
		synctest.Wait()
		check(t, "connected after 16 s", w.node("mute").Connected, false)
	})
}

// TestServerRestarts: the next server has the nodes' sessions soon, at higher epochs, and hears what its predecessor did not.
func TestServerRestarts(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.put(assigned("a", "n1"), assigned("b", "n2"))
		one, two := w.join("n1"), w.join("n2")
		synctest.Wait()
		w.stop()
		synctest.Wait()
		one.Report(report("a", 1, model.Running))
		w.restart()
		check(t, "connected at first", []any{w.node("n1").Connected, w.node("n2").Connected}, []any{false, false})
		time.Sleep(longer)
		synctest.Wait()
		check(t, "after", []any{w.node("n1").Connected, w.node("n2").Connected, w.node("n1").Epoch, one.has(), two.has(), w.task("a").Observed.Status},
			[]any{true, true, 2, "a ", "b ", model.Running})
	})
}

// TestTakenForDead: a session of which the store says that it is over, as its server was taken for dead, ends, and the node comes back.
func TestTakenForDead(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.join("n1")
		synctest.Wait()
		if err := w.server.Forget(w.ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(longer)
		synctest.Wait()
		check(t, "node", []any{w.node("n1").Connected, w.node("n1").Epoch}, []any{true, 2})
	})
}

// TestForgetsItsOwn: a server that starts knows nothing of the sessions of others.
func TestForgetsItsOwn(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.update(func(tx store.Tx) {
			store.Nodes.Put(tx, &model.Node{ID: "elsewhere", Connected: true, Epoch: 3, Server: "s2"})
		})
		w.join("here")
		synctest.Wait()
		check(t, "server", w.node("here").Server, "s1")
		w.stop()
		synctest.Wait()
		w.restart()
		check(t, "connected", []any{w.node("elsewhere").Connected, w.node("here").Connected}, []any{true, false})
	})
}

// TestServersAreTold: a node hears which servers there are when its session opens and when that changes.
func TestServersAreTold(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.update(func(tx store.Tx) { store.Servers.Put(tx, &model.Server{ID: "s1", Address: "10.0.0.1:4567"}) })
		m := w.join("n1")
		synctest.Wait()
		check(t, "at first", m.servers, "[10.0.0.1:4567]")
		w.update(func(tx store.Tx) { store.Servers.Put(tx, &model.Server{ID: "s2", Address: "10.0.0.2:4567"}) })
		synctest.Wait()
		check(t, "later", m.servers, "[10.0.0.1:4567 10.0.0.2:4567]")
	})
}

// kept is a Memory.
type kept struct {
	now  nodelink.Seen
	past []string
}

func (k *kept) Load() (nodelink.Seen, []string, error) { return k.now, k.past, nil }
func (k *kept) Save(now nodelink.Seen, past []string) error {
	k.now, k.past = now, slices.Clone(past)
	return nil
}

// TestOldState: neither side takes the other when its state is older than what it has seen; a restored backup, which is another
// incarnation, is taken, and then what was before it is not.
func TestOldState(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		state := func(incarnation string, epoch int64) {
			w.update(func(tx store.Tx) {
				store.ClusterSettings.Put(tx, &model.Settings{Incarnation: incarnation})
				store.Nodes.Put(tx, &model.Node{ID: "n1", Epoch: epoch})
			})
		}
		memory := &kept{}
		try := func(what string, want int64) {
			t.Helper()
			m := w.joinWith("n1", memory)
			synctest.Wait()
			n := w.node("n1")
			check(t, what, []any{n.Epoch, len(m.sets()) > 0}, []any{want, n.Epoch > 0 && memory.now == (nodelink.Seen{Incarnation: memory.now.Incarnation, Epoch: n.Epoch})})
			m.stop()
			<-m.done
			synctest.Wait()
		}
		w.put(assigned("a", "n1"))
		state("one", 7)
		try("the first session", 8)
		check(t, "seen", *memory, kept{nodelink.Seen{Incarnation: "one", Epoch: 8}, nil})
		state("one", 8)
		try("the next", 9)
		state("two", 3)
		try("a restored backup", 4)
		check(t, "seen", *memory, kept{nodelink.Seen{Incarnation: "two", Epoch: 4}, []string{"one"}})

		state("one", 20)
		m := w.joinWith("n1", memory)
		synctest.Wait()
		check(t, "the state before it", []any{len(m.sets()), memory.now.Incarnation}, []any{0, "two"})
		m.stop()
		<-m.done
	})
}

// TestLedgerAdmits: what a session that came over the network must be.
func TestLedgerAdmits(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		book := nodelink.Book{Store: w.store, Now: time.Now}
		w.update(func(tx store.Tx) {
			store.ClusterSettings.Put(tx, &model.Settings{Incarnation: "two"})
			store.Nodes.Put(tx, &model.Node{ID: "n1", KeyHash: "k", Epoch: 5})
			store.Nodes.Put(tx, &model.Node{ID: "again", KeyHash: "other"})
			store.Nodes.Put(tx, &model.Node{ID: "busy", KeyHash: "k", Epoch: 5, Connected: true, Declaration: model.Declaration{Boot: "b1", Hostname: "h1"}})
		})
		for _, c := range []struct {
			node, boot string
			seen       nodelink.Seen
			words      string // of the refusal
		}{
			{"n1", "", nodelink.Seen{}, ""},
			{"n1", "", nodelink.Seen{Incarnation: "two", Epoch: 6}, ""},
			{"n1", "", nodelink.Seen{Incarnation: "one", Epoch: 900}, ""},
			{"n1", "", nodelink.Seen{Incarnation: "two", Epoch: 900}, "berth restore"},
			{"stranger", "", nodelink.Seen{}, "join again"},
			{"again", "", nodelink.Seen{}, "another key"},
			{"busy", "b2", nodelink.Seen{}, "berth node reset"},
			{"busy", "b1", nodelink.Seen{}, ""},
		} {
			_, err := book.Begin(w.ctx, nodelink.Opening{Caller: nodelink.Caller{Node: c.node, Key: "k"},
				Hello: nodelink.Hello{Declaration: model.Declaration{Boot: c.boot}, Seen: c.seen}})
			said, refused := errors.AsType[*nodelink.Refused](err)
			if refused != (c.words != "") || refused && !strings.Contains(said.Reason, c.words) || !refused && err != nil {
				t.Errorf("%+v: %v", c, err)
			}
		}
	})
}

// TestRefused: a node hears why it is refused and tries again, not sooner than it was told.
func TestRefused(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.update(func(tx store.Tx) { store.Nodes.Put(tx, &model.Node{ID: "n1", KeyHash: "k", Epoch: 1}) })
		w.key = "k"
		m := w.joinWith("n1", &kept{now: nodelink.Seen{Epoch: 9}})
		time.Sleep(time.Minute)
		synctest.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.dials < 3 || m.dials > 12 {
			t.Errorf("%d attempts in a minute", m.dials)
		}
		check(t, "connected", w.node("n1").Connected, false)
	})
}

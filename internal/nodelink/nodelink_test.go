package nodelink_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/store"
)

// TestAssignments: a node gets the whole set, then each change; a task is told to stop only when released, and leaves when ended.
func TestAssignments(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		ended := assigned("z", "n1")
		ended.Observed.Status = model.Stopped
		w.put(assigned("a", "n1"), assigned("x", "n2"), ended)
		m := w.join("n1")
		synctest.Wait()
		check(t, "first set", m.has(), "a ")
		n := w.node("n1")
		check(t, "node", []any{n.Connected, n.Epoch, n.Hostname, n.CPU}, []any{true, 1, "host-n1", 1024})

		w.put(assigned("b", "n1"))
		synctest.Wait()
		check(t, "one more", m.has(), "a b ")

		stopping := assigned("a", "n1")
		stopping.Desired = model.Stopped
		w.put(stopping)
		synctest.Wait()
		check(t, "not released yet", m.has(), "a b ")
		released := *stopping
		released.Released = true
		w.put(&released)
		synctest.Wait()
		check(t, "released", m.has(), "a(stop) b ")

		calls := m.calls
		w.put(assigned("other", "n2"))
		synctest.Wait()
		check(t, "calls after another node's change", m.calls, calls)

		m.Report(report("a", 1, model.Stopped))
		synctest.Wait()
		check(t, "ended", m.has(), "b ")
		w.update(func(tx store.Tx) { store.Tasks.Delete(tx, "b") })
		synctest.Wait()
		check(t, "deleted", m.has(), "")
	})
}

// TestReports: a report is stored at once; older and repeated ones, falling statuses and other nodes' tasks are dropped.
func TestReports(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.put(assigned("a", "n1"), assigned("x", "n2"))
		m := w.join("n1")
		synctest.Wait()
		steps := []struct {
			name    string
			report  model.Report
			task    string
			status  model.TaskStatus
			version int64
		}{
			{"first", report("a", 1, model.Pending), "a", model.Pending, 1}, // nothing that clients see
			{"running", report("a", 3, model.Running), "a", model.Running, 2},
			{"again", report("a", 3, model.Running), "a", model.Running, 2},
			{"older", report("a", 2, model.Stopped), "a", model.Running, 2},
			{"falls", report("a", 4, model.Pending), "a", model.Running, 2},
			{"another node's", report("x", 1, model.Running), "x", model.Pending, 1},
		}
		revision := func() (n uint64) {
			w.store.View(func(r store.Reader) { n = r.Revision() })
			return n
		}
		for _, s := range steps {
			before := revision()
			m.Report(s.report)
			synctest.Wait() // no timer has to fire for a report to arrive
			got := w.task(s.task)
			check(t, s.name+" is written", revision() > before, s.name == "first" || s.name == "running")
			check(t, s.name, []any{got.Observed.Status, got.Version}, []any{s.status, s.version})
		}
		m.Report(report("unknown", 1, model.Running))
		synctest.Wait()
		check(t, "session after a report of an unknown task", m.dials, 1)
	})
}

// TestEndByItself: a task that begins to end by itself is not wanted any more; released only once it has ended, because its
// targets are still to be drained.
func TestEndByItself(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.put(assigned("a", "n1"))
		m := w.join("n1")
		synctest.Wait()
		ending := report("a", 1, model.Stopping)
		ending.Observed.StopCode = types.TaskStopCodeEssentialContainerExited
		m.Report(ending)
		synctest.Wait()
		got := w.task("a")
		check(t, "ending", []any{got.Desired, got.Released, got.StoppingAt.IsZero()}, []any{model.Stopped, false, false})
		ended := ending
		ended.Observed.Seq, ended.Observed.Status = 2, model.Stopped
		m.Report(ended)
		synctest.Wait()
		check(t, "ended", []any{w.task("a").Ended(), m.has()}, []any{true, ""})
	})
}

// TestLostSession: while the session is lost the node is not Connected; what was reported meanwhile arrives after it comes back,
// the newest only, and what changed meanwhile is in the new full set.
func TestLostSession(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.put(assigned("a", "n1"), assigned("b", "n1"))
		m := w.join("n1")
		synctest.Wait()
		m.cut()
		synctest.Wait()
		if n := w.node("n1"); n.Connected || n.LostAt.IsZero() {
			t.Errorf("node of a lost session: %+v", n)
		}
		m.Report(report("a", 1, model.Activating))
		m.Report(report("a", 2, model.Running))
		w.update(func(tx store.Tx) { store.Tasks.Delete(tx, "b") })
		w.put(assigned("c", "n1"))
		time.Sleep(longer)
		check(t, "while lost", w.task("a").Observed.Status, model.Pending)
		m.heal()
		time.Sleep(longer)
		synctest.Wait()
		check(t, "after", []any{w.task("a").Observed.Status, w.task("a").Version, m.has()}, []any{model.Running, 2, "a c "})
		n := w.node("n1")
		check(t, "node", []any{n.Connected, n.LostAt.IsZero(), n.Epoch}, []any{true, true, 2})
	})
}

// TestSilentNode: a session that says nothing is lost after LostAfter, and one whose client lives is not.
func TestSilentNode(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		m := w.join("alive")
		began := time.Now()
		_ = w.ended(w.open("mute"))
		check(t, "lost after", time.Since(began), 15*time.Second)
		synctest.Wait() // the client hears of the end before it is noted
		check(t, "mute is connected", w.node("mute").Connected, false)
		time.Sleep(5 * time.Minute)
		check(t, "alive", []any{w.node("alive").Connected, w.node("alive").Epoch, m.dials}, []any{true, 1, 1})
	})
}

// TestEpochs: a second session of a node ends the first, whose late reports are refused and whose end does not make the node lost.
func TestEpochs(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.put(assigned("a", "n1"))
		first := w.open("n1")
		synctest.Wait()
		second := w.open("n1")
		if err := w.ended(first); err == nil {
			t.Error("the first session ended without an error")
		}
		synctest.Wait()
		check(t, "node", []any{w.node("n1").Connected, w.node("n1").Epoch}, []any{true, 2})

		stale := nodelink.Message{Reports: &nodelink.Reports{Epoch: 1, Batch: 1, Items: []model.Report{report("a", 1, model.Running)}}}
		if err := second.Send(w.ctx, stale); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		check(t, "task after a report of a stale epoch", w.task("a").Observed.Status, model.Pending)
	})
}

// TestForget: after the server restarts, nodes that it had sessions with are lost until they come back.
func TestForget(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		w.update(func(tx store.Tx) {
			store.Nodes.Put(tx, &model.Node{ID: "dead", Connected: true, Epoch: 3})
			store.Nodes.Put(tx, &model.Node{ID: "back", Connected: true, Epoch: 7})
		})
		if err := w.server.Forget(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.join("back")
		synctest.Wait()
		check(t, "dead", []any{w.node("dead").Connected, w.node("dead").LostAt.IsZero()}, []any{false, false})
		check(t, "back", []any{w.node("back").Connected, w.node("back").Epoch}, []any{true, 8})
	})
}

// TestShutdownIsNoLoss: a server that stops leaves its nodes as they are; their tasks go on.
func TestShutdownIsNoLoss(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		c := w.open("n1")
		synctest.Wait()
		w.stop()
		_ = w.ended(c)
		synctest.Wait()
		check(t, "connected", w.node("n1").Connected, true)
	})
}

// TestManyReports: more reports than one message carries all arrive.
func TestManyReports(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world) {
		var ids []string
		for k := range 1000 {
			ids = append(ids, string([]byte{byte('a' + k/100), byte('a' + k/10%10), byte('a' + k%10)}))
			w.put(assigned(ids[k], "n1"))
		}
		m := w.join("n1")
		for _, id := range ids {
			m.Report(report(id, 1, model.Running))
		}
		synctest.Wait()
		for _, id := range ids {
			if w.task(id).Observed.Status != model.Running {
				t.Fatalf("the report of %s is missing", id)
			}
		}
	})
}

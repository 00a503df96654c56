package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/control"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// traps is a store that measures transactions, refuses those that are too large, and in which one service is cursed: reading its
// deployments panics.
type traps struct {
	store.Store
	cursed  string
	refuse  string // a transaction that writes a task of this service fails
	full    bool   // the disk is
	largest int    // in bytes of JSON
	most    int    // rows
}

const limit = 4 << 20

func (s *traps) View(f func(store.Reader)) {
	s.Store.View(func(r store.Reader) { f(trapReader{r, s}) })
}

func (s *traps) Update(ctx context.Context, f func(store.Tx) error) error {
	if s.full && !store.IsFreeing(ctx) {
		return fmt.Errorf("cannot store: %w", store.ErrFull)
	}
	return s.Store.Update(ctx, func(tx store.Tx) error {
		trap := &trapTx{trapReader: trapReader{tx, s}, tx: tx, rows: map[string]int{}}
		if err := f(trap); err != nil {
			return err
		}
		size := 0
		for _, n := range trap.rows {
			size += n
		}
		s.largest, s.most = max(s.largest, size), max(s.most, len(trap.rows))
		if size > limit {
			return fmt.Errorf("a transaction of %d bytes is too large", size)
		}
		return trap.refused
	})
}

type trapReader struct {
	store.Reader
	s *traps
}

func (r trapReader) ScanRows(table, prefix string) iter.Seq[any] {
	if table == store.Deployments.Name() && r.s.cursed != "" && prefix == r.s.cursed+"/" {
		panic("the planner trips over this service")
	}
	return r.Reader.ScanRows(table, prefix)
}

type trapTx struct {
	trapReader
	tx      store.Tx
	rows    map[string]int
	refused error
}

func (t *trapTx) PutRow(table, key string, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	t.rows[table+"|"+key] = len(data)
	if task, ok := value.(*model.Task); ok && t.s.refuse != "" && task.Cluster+"/"+task.Service == t.s.refuse {
		t.refused = errors.New("the store refuses the row")
	}
	t.tx.PutRow(table, key, value)
}

func (t *trapTx) DeleteRow(table, key string) {
	t.rows[table+"|"+key] = 0
	t.tx.DeleteRow(table, key)
}

// trapped is a world whose control sees the store through traps, on a machine without bounds.
func trapped(t *testing.T) (*world, *traps) {
	w := newWorld(t)
	s := &traps{Store: w.st}
	w.c = control.New(control.Config{Store: s, Scope: scope, Now: func() time.Time { return w.now }, Pace: model.PaceFast,
		NewID: w.id, Log: slog.New(slog.DiscardHandler)})
	w.update(func(tx store.Tx) {
		n, _ := store.Nodes.Get(tx, "n1")
		large := *n
		large.CPU, large.Memory = 1<<40, 1<<40
		store.Nodes.Put(tx, &large)
	})
	return w, s
}

// named asks for a service.
func (w *world) named(name string, count int32, tags []types.Tag) {
	w.update(func(tx store.Tx) {
		id := fmt.Sprintf("%019d", 1000+w.ids.Add(1))
		s := &model.Service{Cluster: "default", Name: name, Status: "ACTIVE", CreatedAt: w.now, DesiredCount: count, RevisionID: id,
			Tags: tags, PropagateTags: types.PropagateTagsService}
		store.Services.Put(tx, s)
		store.ServiceRevisions.Put(tx, &model.ServiceRevision{ID: id, Cluster: "default", Service: name,
			TaskDefinition: scope.TaskDefinitionARN("web", 1), LaunchType: types.LaunchTypeEc2})
		store.Deployments.Put(tx, &model.Deployment{ID: "ecs-svc/" + id, Cluster: "default", Service: name, RevisionID: id,
			Status: model.DeploymentPrimary, CreatedAt: w.now, UpdatedAt: w.now})
	})
}

// live counts a service's tasks that are placed and not to end.
func (w *world) live(name string) (n int) {
	for t := range store.Tasks.By(w.view(), store.ByService, "default/"+name) {
		if t.NodeID != "" && !t.Ended() && t.Desired == model.Running {
			n++
		}
	}
	return n
}

func (w *world) eventsOf(name string) string {
	s, _ := store.Services.Get(w.view(), "default/"+name)
	var all []string
	for _, e := range store.EventsOf(w.view(), s) {
		all = append(all, *e.Message)
	}
	return strings.Join(all, "\n")
}

// TestOneServicesTroubleIsItsOwn: a planner that panics and a store that refuses one service's rows are told to that service's user
// once, tried again ever more slowly, and stop no other service.
func TestOneServicesTroubleIsItsOwn(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(s *traps, service string)
		says  string
	}{
		{"panic", func(s *traps, service string) { s.cursed = service },
			"could not be looked after: a fault in Berth itself (the planner trips over this service). Berth tries again."},
		{"refusal", func(s *traps, service string) { s.refuse = service },
			"could not be looked after: the store refuses the row. Berth tries again."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, s := trapped(t)
			c.plant(s, "default/bad")
			for _, name := range []string{"a", "bad", "c"} {
				w.named(name, 3, nil)
			}
			retries := 0
			for range 60 {
				before := w.now
				next, err := w.c.Step(context.Background())
				if err != nil {
					retries++
				}
				if w.live("a") != 3 || w.live("c") != 3 || w.live("bad") != 0 {
					t.Fatalf("%d, %d and %d tasks live, want 3, 0, 3", w.live("a"), w.live("bad"), w.live("c"))
				}
				if w.now = w.now.Add(time.Second); next.Before(before) {
					t.Fatalf("next look at %s, it is %s", next, before)
				}
			}
			if retries < 4 || retries > 8 {
				t.Errorf("%d attempts in a minute, want them at 0, 1, 3, 7, 15, 31, 61 s", retries)
			}
			if n := strings.Count(w.eventsOf("bad"), c.says); n != 1 {
				t.Errorf("said %d times:\n%s", n, w.eventsOf("bad"))
			}
			w.named("late", 2, nil)
			w.c.Step(context.Background())
			if w.live("late") != 2 {
				t.Error("a new service is not looked after")
			}
			c.plant(s, "")
			w.now = w.now.Add(time.Minute)
			w.step()
			if w.live("bad") != 3 {
				t.Errorf("%d tasks live after the trouble was over", w.live("bad"))
			}
		})
	}
}

// TestFullDisk: while the disk is full what is asked to stop stops and services scale in, but nothing starts; then all goes on.
func TestFullDisk(t *testing.T) {
	w, s := trapped(t)
	w.named("a", 3, nil)
	w.named("b", 3, nil)
	w.step()
	w.agent()
	s.full = true
	scale := func(name string, count int32) {
		w.update(func(tx store.Tx) {
			old, _ := store.Services.Get(tx, "default/"+name)
			changed := *old
			changed.DesiredCount = count
			store.Services.Put(tx, &changed)
		})
	}
	scale("a", 1)
	scale("b", 5)
	for range 5 {
		w.now = w.now.Add(10 * time.Second)
		w.c.Step(context.Background())
		w.agent()
	}
	if w.live("a") != 1 || w.live("b") != 3 {
		t.Errorf("a has %d tasks and b %d, want 1 and still 3", w.live("a"), w.live("b"))
	}
	ended := 0
	for task := range store.Tasks.By(w.view(), store.ByService, "default/a") {
		if task.Ended() {
			ended++
		}
	}
	if ended != 2 {
		t.Errorf("%d tasks of a have ended, want 2", ended)
	}
	s.full = false
	w.now = w.now.Add(time.Minute)
	w.step()
	if w.live("b") != 5 {
		t.Errorf("b has %d tasks after the disk has room again", w.live("b"))
	}
}

// TestAfterAFullDisk: who was only freed from while the disk was full is looked at again soon, though nothing of it changes and the repair is
// far away.
func TestAfterAFullDisk(t *testing.T) {
	w, s := trapped(t)
	w.c = control.New(control.Config{Store: s, Scope: scope, Now: func() time.Time { return w.now }, Pace: model.PaceFast,
		NewID: w.id, Repair: 100 * time.Hour, Log: slog.New(slog.DiscardHandler)})
	w.named("a", 2, nil)
	w.step()
	w.agent()
	w.step()
	s.full = true
	w.update(func(tx store.Tx) {
		for task := range store.Tasks.By(tx, store.ByService, "default/a") {
			changed := *task
			changed.StopRequest = &model.StopRequest{Code: types.TaskStopCodeUserInitiated, Reason: "Task stopped by user", At: w.now}
			store.Tasks.Put(tx, &changed)
			return
		}
	})
	w.c.Step(context.Background()) // it cannot do all
	w.agent()
	w.now = w.now.Add(timeouts.ControlRetry)
	w.c.Step(context.Background())
	s.full = false
	w.now = w.now.Add(2 * timeouts.ControlRetry)
	w.step()
	if w.live("a") != 2 {
		t.Errorf("a has %d tasks", w.live("a"))
	}
}

// large makes TestLargeServices' services as large as they are meant, which takes a minute.
var large = flag.Bool("large", false, "test with 20,000 tasks, and with 5,000 of 50 tags")

// TestLargeServices: whatever the size of a service, no transaction exceeds its bound, and another one's tasks do not wait for all of
// the large one's.
func TestLargeServices(t *testing.T) {
	var tags []types.Tag
	for k := range 50 {
		tags = append(tags, types.Tag{Key: new(fmt.Sprintf("%0128d", k)), Value: new(strings.Repeat("v", 256))})
	}
	for _, c := range []struct {
		name  string
		count int
		tags  []types.Tag
	}{{"many", 20_000, nil}, {"heavy", 5_000, tags}} {
		if !*large {
			c.count /= 5
		}
		t.Run(c.name, func(t *testing.T) {
			w, s := trapped(t)
			w.named("large", int32(c.count), c.tags)
			w.named("small", 1, nil)
			w.step()
			if w.live("large") != c.count || w.live("small") != 1 {
				t.Fatalf("%d and %d tasks live", w.live("large"), w.live("small"))
			}
			for range 4 {
				w.agent()
				w.now = w.now.Add(time.Second)
				w.step()
			}
			if svc, _ := store.Services.Get(w.view(), "default/large"); !svc.Steady {
				t.Errorf("the service is not steady")
			}
			w.update(func(tx store.Tx) {
				svc, _ := store.Services.Get(tx, "default/large")
				none := *svc
				none.DesiredCount = 0
				store.Services.Put(tx, &none)
			})
			for range 3 {
				w.step()
				w.agent()
				w.now = w.now.Add(time.Second)
			}
			w.step()
			if w.live("large") != 0 {
				t.Errorf("%d tasks live after the service was scaled to none", w.live("large"))
			}
			for task := range store.Tasks.By(w.view(), store.ByService, "default/large") {
				if !task.Ended() || !task.Accounted {
					t.Fatalf("task %s is %s, accounted %t", task.ID, task.Observed.Status, task.Accounted)
				}
			}
			if s.most > 1100 || s.largest > limit {
				t.Errorf("the largest transaction has %d rows and %d bytes", s.most, s.largest)
			}
			t.Logf("the largest transactions: %d rows, %d bytes", s.most, s.largest)
		})
	}
}

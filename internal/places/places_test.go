package places

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/placement"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

var errNo = errors.New("no")

// cluster is a store with n nodes on each of which ten tasks have room.
func cluster(n int) *mem.Store {
	st := mem.New(store.Schema())
	_ = st.Update(ctx, func(tx store.Tx) error {
		store.Clusters.Put(tx, &model.Cluster{Name: "c", Status: "ACTIVE"})
		for k := range n {
			store.Nodes.Put(tx, node(k))
		}
		return nil
	})
	return st
}

func node(k int) *model.Node {
	return &model.Node{ID: fmt.Sprint("n", k), Connected: true,
		Declaration: model.Declaration{CPU: 1000, Memory: 1000, Attributes: map[string]string{"ecs.availability-zone": fmt.Sprint(k % 3)}}}
}

func task(id string) *model.Task {
	return &model.Task{ID: id, Cluster: "c", Group: "g", Service: "s", Needs: model.Resources{CPU: 100, Memory: 100}}
}

// put stores the task where it was placed.
func put(tx store.Tx, t *model.Task, d placement.Decision) {
	placed := *t
	placed.NodeID, placed.InstanceID = d.NodeID, d.InstanceID
	store.Tasks.Put(tx, &placed)
}

// TestKeeperIsExact: whatever Updates do, store what they placed or not, fail or panic, or change what there is, a Keeper that
// followed them decides as one that looks for the first time.
func TestKeeperIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := cluster(3)
		k := New(st)
		next := 0
		for range rapid.IntRange(1, 15).Draw(t, "updates") {
			outcome := rapid.SampledFrom([]string{"", "", "", "error", "panic"}).Draw(t, "outcome")
			step(st, outcome == "panic", func(tx store.Tx) error {
				for range rapid.IntRange(0, 5).Draw(t, "steps") {
					change(t, k, tx, &next)
				}
				switch outcome {
				case "error":
					return errNo
				case "panic":
					panic("asked for")
				}
				return nil
			})
			var kept, fresh []placement.Decision
			for keeper, out := range map[*Keeper]*[]placement.Decision{k: &kept, New(st): &fresh} {
				step(st, false, func(tx store.Tx) error {
					for n := range 31 {
						*out = append(*out, keeper.Place(tx, task(fmt.Sprint("q", n))))
					}
					return errNo
				})
			}
			if !reflect.DeepEqual(kept, fresh) {
				t.Fatalf("the keeper says    %+v\na fresh one says   %+v", kept, fresh)
			}
		}
	})
}

// step runs an Update of which the outcome does not matter.
func step(st store.Store, panics bool, f func(store.Tx) error) {
	defer func() {
		if p := recover(); p != nil && !panics {
			panic(p)
		}
	}()
	_ = st.Update(ctx, f)
}

func change(t *rapid.T, k *Keeper, tx store.Tx, next *int) {
	some := func() *model.Task {
		var all []*model.Task
		for one := range store.Tasks.Scan(tx, "") {
			all = append(all, one)
		}
		if len(all) == 0 {
			return nil
		}
		return rapid.SampledFrom(all).Draw(t, "task")
	}
	switch rapid.IntRange(0, 8).Draw(t, "change") {
	case 0, 1, 2, 3:
		*next++
		one := task(fmt.Sprintf("t%03d", *next))
		if d := k.Place(tx, one); d.NodeID != "" && rapid.IntRange(0, 4).Draw(t, "store it") > 0 {
			put(tx, one, d)
		}
	case 4:
		if old := some(); old != nil {
			ended := *old
			ended.Observed.Status = model.Stopped
			store.Tasks.Put(tx, &ended)
		}
	case 5:
		if old := some(); old != nil {
			store.Tasks.Delete(tx, old.ID)
		}
	case 6:
		n := node(rapid.IntRange(0, 3).Draw(t, "node"))
		n.Connected = rapid.Bool().Draw(t, "connected")
		store.Nodes.Put(tx, n)
	case 7:
		store.Nodes.Delete(tx, fmt.Sprint("n", rapid.IntRange(0, 3).Draw(t, "node")))
	case 8:
		i := &model.Instance{ID: "i", Cluster: "c", NodeID: "n1", Status: rapid.SampledFrom([]string{"ACTIVE", "DRAINING"}).Draw(t, "status")}
		if rapid.Bool().Draw(t, "delete") {
			store.Instances.Delete(tx, i.Key())
		} else {
			store.Instances.Put(tx, i)
		}
	}
}

// TestNoPlaceIsTakenTwice has many callers run tasks at once, of which some fail after they have placed, on machines that have room
// for just as many as do not fail.
func TestNoPlaceIsTakenTwice(t *testing.T) {
	const nodes, callers = 10, 8
	st := cluster(nodes)
	k := New(st)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range 40 {
				_ = st.Update(ctx, func(tx store.Tx) error {
					one := task(fmt.Sprint(c, "-", n))
					d := k.Place(tx, one)
					if d.NodeID == "" {
						return nil
					}
					put(tx, one, d)
					if n%3 == 0 {
						return errNo
					}
					return nil
				})
			}
		})
	}
	wg.Wait()
	on := map[string]int{}
	st.View(func(r store.Reader) {
		for one := range store.Tasks.Scan(r, "") {
			on[one.NodeID]++
		}
	})
	if len(on) != nodes {
		t.Errorf("tasks are on %d machines: %v", len(on), on)
	}
	for id, n := range on {
		if n != 10 {
			t.Errorf("%s has %d tasks, and room for 10", id, n)
		}
	}
}

// TestUndoneUpdatesLeaveNoReservation: what a store told and then takes back, since it could not be made durable, holds no place.
func TestUndoneUpdatesLeaveNoReservation(t *testing.T) {
	st := cluster(1)
	k := New(st)
	changes := []store.Change{}
	for n := range 10 {
		one := task(fmt.Sprint(n))
		one.NodeID, one.InstanceID = "n0", "i"
		changes = append(changes, store.Change{Table: store.Tasks.Name(), Key: one.ID, New: one})
	}
	var f store.Followers
	st.View(func(r store.Reader) { f.Add(k, r) })
	f.Apply(changes)
	place := func() (d placement.Decision) {
		step(st, false, func(tx store.Tx) error { d = k.Place(tx, task("new")); return errNo })
		return d
	}
	if d := place(); d.Reason != "RESOURCE:CPU" {
		t.Fatalf("the machine is full, but: %+v", d)
	}
	f.Undo(changes)
	if d := place(); d.NodeID != "n0" {
		t.Fatalf("the machine is empty again, but: %+v", d)
	}
}

// TestKeeperKnowsLoadBalancers: a listener's port is taken from when it is made until it is deleted, also for a Keeper that comes later.
func TestKeeperKnowsLoadBalancers(t *testing.T) {
	st := cluster(1)
	early := New(st)
	asks := func(k *Keeper) (d placement.Decision) {
		step(st, false, func(tx store.Tx) error {
			one := task("t")
			one.Needs.Ports = []model.HostPort{{Port: 80, Protocol: "tcp"}}
			d = k.Place(tx, one)
			return errNo
		})
		return d
	}
	is := func(what string, free bool) {
		t.Helper()
		for name, k := range map[string]*Keeper{"early": early, "late": New(st)} {
			if d := asks(k); (d.NodeID != "") != free {
				t.Errorf("%s, %s: %+v", what, name, d)
			}
			if got := k.Balanced("n0"); slices.Contains(got, 80) == free || len(got) > 1 {
				t.Errorf("%s, %s: load balancers have %v", what, name, got)
			}
		}
	}
	is("no listener", true)
	change := func(f func(tx store.Tx)) {
		t.Helper()
		if err := st.Update(ctx, func(tx store.Tx) error { f(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	change(func(tx store.Tx) {
		store.Listeners.Put(tx, &model.Listener{ARN: "l", Listener: elbtypes.Listener{Port: new(int32(80))}})
	})
	is("a listener", false)
	change(func(tx store.Tx) {
		n := node(0)
		n.KeyHash, n.Attributes[model.AttributeBalancer] = "k", "false"
		store.Nodes.Put(tx, n)
	})
	is("a machine that serves none", true)
	change(func(tx store.Tx) { store.Servers.Put(tx, &model.Server{ID: "n0"}) })
	is("a server's machine", false)
	change(func(tx store.Tx) { store.Listeners.Delete(tx, "l") })
	is("the listener is gone", true)
}

package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// TestEventsOfAnOlderBerth: events that are stored in the service are shown, move into the table at the first look, and stay in order
// behind newer ones.
func TestEventsOfAnOlderBerth(t *testing.T) {
	w := newWorld(t)
	w.service(1, 1)
	w.update(func(tx store.Tx) {
		old, _ := store.Services.Get(tx, "default/web")
		s := *old
		for k := range 3 {
			s.Events = append(s.Events, types.ServiceEvent{Id: new(fmt.Sprint(3 - k)), Message: new(fmt.Sprintf("(service web) event %d", 3-k)),
				CreatedAt: new(w.now.Add(-time.Duration(k) * time.Minute))})
		}
		s.CreatedAt = w.now.Add(-time.Hour)
		store.Services.Put(tx, &s)
	})
	const old = "(service web) event 3\n(service web) event 2\n(service web) event 1"
	if got := w.events(); got != old {
		t.Errorf("before the first look:\n%s", got)
	}
	w.step()
	if got := w.events(); got[len(got)-len(old):] != old || len(got) == len(old) {
		t.Errorf("after the first look:\n%s", got)
	}
	if s, _ := store.Services.Get(w.view(), "default/web"); len(s.Events) > 0 {
		t.Errorf("%d events are still in the service", len(s.Events))
	}
}

// TestEventsAreBounded: the newest hundred are kept, and a service that is made again under a name does not show its forerunner's.
func TestEventsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.service(0, 1)
	w.update(func(tx store.Tx) {
		s, _ := store.Services.Get(tx, "default/web")
		for k := range 150 {
			store.AddEvent(tx, s, types.ServiceEvent{Id: new(fmt.Sprint(k)), Message: new(fmt.Sprint(k)), CreatedAt: &s.CreatedAt})
		}
	})
	s, _ := store.Services.Get(w.view(), "default/web")
	events := store.EventsOf(w.view(), s)
	if len(events) != model.KeepEvents || *events[0].Message != "149" || *events[99].Message != "50" {
		t.Fatalf("%d events, the newest is %s", len(events), *events[0].Message)
	}
	rows := 0
	for range store.ServiceEvents.Scan(w.view(), "") {
		rows++
	}
	if rows != model.KeepEvents {
		t.Errorf("%d rows are stored", rows)
	}
	again := *s
	again.CreatedAt = again.CreatedAt.Add(time.Second)
	if events := store.EventsOf(w.view(), &again); len(events) != 0 {
		t.Errorf("a new service shows %d events of an older one", len(events))
	}
}

// TestStuckContainersAreTold: a container that cannot be stopped is told of once, however often it is looked at, also when its task
// has ended meanwhile.
func TestStuckContainersAreTold(t *testing.T) {
	for name, status := range map[string]model.TaskStatus{"stopping": model.Stopping, "stopped before anybody looked": model.Stopped} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.service(1, 1)
			w.turn(4)
			var id string
			w.update(func(tx store.Tx) {
				for old := range store.Tasks.By(tx, store.ByService, "default/web") {
					stuck := *old
					id = old.ID
					stuck.Observed.Status = status
					stuck.Observed.Containers = []model.Container{{Name: "c", Status: model.Stopped,
						Reason: "CannotStopContainerError: 1 of its processes did not end 5s after SIGKILL: 7 (nfsd)"}, {Name: "d", Reason: "other"}}
					store.Tasks.Put(tx, &stuck)
				}
			})
			w.turn(4)
			want := fmt.Sprintf(`(service web) (task %s) container "c" cannot be stopped: 1 of its processes did not end 5s after SIGKILL: 7 (nfsd). `+
				"Berth tries again until it ends.", id)
			if got := strings.Count(w.events(), want); got != 1 || strings.Count(w.events(), "cannot be stopped") != 1 {
				t.Errorf("told %d times:\n%s", got, w.events())
			}
		})
	}
}

// TestSilentContainersAreTold: a shim that does not answer is told of once.
func TestSilentContainersAreTold(t *testing.T) {
	w := newWorld(t)
	w.service(1, 1)
	w.turn(4)
	w.update(func(tx store.Tx) {
		for old := range store.Tasks.By(tx, store.ByService, "default/web") {
			silent := *old
			silent.Observed.Containers = []model.Container{{Name: "c", Status: model.Running, Silent: true}, {Name: "d", Status: model.Running}}
			store.Tasks.Put(tx, &silent)
		}
	})
	w.turn(4)
	if got := strings.Count(w.events(), `container "c" runs on, but the shim that holds it does not answer`); got != 1 {
		t.Errorf("told %d times:\n%s", got, w.events())
	}
}

// TestARegionWithoutMachinesIsNamed: a service there is told where the machines are.
func TestARegionWithoutMachinesIsNamed(t *testing.T) {
	w := newWorld(t)
	w.c.NoMachines = "The region eu-west-1 has no machines: Berth's are in us-east-1."
	w.service(1, 1)
	w.update(func(tx store.Tx) {
		for n := range store.Nodes.Scan(tx, "") {
			store.Nodes.Delete(tx, n.Key())
		}
	})
	w.turn(4)
	if want := "(service web) was unable to place a task because no container instance met all of its requirements. Reason: " + w.c.NoMachines; !strings.Contains(w.events(), want) {
		t.Errorf("the events are\n%s", w.events())
	}
}

package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/control"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// world is a store with one node, a clock that stands still, and a control loop that is stepped by hand.
type world struct {
	t   testing.TB
	st  store.Store
	now time.Time
	c   *control.Control
	ids atomic.Int64 // control may be running
}

var scope = model.Scope{Account: "000000000000", Region: "us-east-1"}

func newWorld(t testing.TB) *world {
	w := &world{t: t, st: mem.New(store.Schema()), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.c = control.New(control.Config{Store: w.st, Scope: scope, Now: func() time.Time { return w.now }, Pace: model.PaceFast,
		NewID: w.id, Log: slog.New(slog.DiscardHandler)})
	w.update(func(tx store.Tx) {
		store.Clusters.Put(tx, &model.Cluster{Name: "default", ARN: scope.ClusterARN("default"), Status: "ACTIVE"})
		store.Nodes.Put(tx, &model.Node{ID: "n1", Connected: true, Epoch: 1,
			Declaration: model.Declaration{CPU: 2048, Memory: 4096, Attributes: map[string]string{}}})
		for rev, image := range map[int]string{1: "good", 2: "bad"} {
			store.TaskDefinitions.Put(tx, &model.TaskDefinition{Family: "web", Revision: rev, Definition: types.TaskDefinition{
				Family: new("web"), NetworkMode: types.NetworkModeBridge, Status: types.TaskDefinitionStatusActive,
				ContainerDefinitions: []types.ContainerDefinition{{Name: new("c"), Image: &image, Memory: new(int32(100)), Essential: new(true)}}}})
		}
	})
	return w
}

func (w *world) id() string { return fmt.Sprintf("%032x", w.ids.Add(1)) }

func (w *world) update(f func(tx store.Tx)) {
	w.t.Helper()
	if err := w.st.Update(context.Background(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) view() (r store.Reader) {
	w.st.View(func(v store.Reader) { r = v })
	return r
}

// service asks for a service, or for a new revision of it.
func (w *world) service(count int32, revision int) {
	w.update(func(tx store.Tx) {
		id := fmt.Sprintf("%019d", 1000+int64(revision)+w.ids.Load())
		s := &model.Service{Cluster: "default", Name: "web", Status: "ACTIVE", CreatedAt: w.now}
		if old, ok := store.Services.Get(tx, "default/web"); ok {
			c := *old
			s = &c
		}
		s.DesiredCount, s.RevisionID = count, id
		s.DeploymentConfiguration = types.DeploymentConfiguration{MaximumPercent: new(int32(200)), MinimumHealthyPercent: new(int32(100)),
			DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}}
		for d := range store.Deployments.Scan(tx, "default/web/") {
			if d.Status == model.DeploymentPrimary {
				c := *d
				c.Status = model.DeploymentActive
				store.Deployments.Put(tx, &c)
			}
		}
		store.Services.Put(tx, s)
		store.ServiceRevisions.Put(tx, &model.ServiceRevision{ID: id, Cluster: "default", Service: "web",
			TaskDefinition: scope.TaskDefinitionARN("web", revision), LaunchType: types.LaunchTypeEc2})
		store.Deployments.Put(tx, &model.Deployment{ID: "ecs-svc/" + id, Cluster: "default", Service: "web", RevisionID: id,
			Status: model.DeploymentPrimary, RolloutState: types.DeploymentRolloutStateInProgress,
			State: types.ServiceDeploymentStatusInProgress, CreatedAt: w.now, UpdatedAt: w.now})
	})
}

// agent does what a node would: images called bad end at once, all others run until they are to stop.
func (w *world) agent() {
	w.update(func(tx store.Tx) {
		for _, old := range slices.Collect(store.Tasks.By(tx, store.ByNode, "n1")) {
			if old.Ended() {
				continue
			}
			t := *old
			o := &t.Observed
			switch {
			case t.Desired == model.Stopped && t.Released:
				o.Status, o.StoppedAt = model.Stopped, w.now
			case o.Status.Before(model.Running):
				o.Status, o.StartedAt = model.Running, w.now
				if t.Revision == 2 {
					o.Status, o.StoppedAt, t.Desired = model.Stopped, w.now, model.Stopped
					o.StopCode, o.StoppedReason = types.TaskStopCodeEssentialContainerExited, "Essential container in task exited"
				}
			}
			store.Tasks.Put(tx, &t)
		}
	})
}

// turn lets a second pass: the loop, the node, and the loop again.
func (w *world) turn(n int) {
	w.t.Helper()
	for range n {
		for range 3 {
			if _, err := w.c.Step(context.Background()); err != nil {
				w.t.Fatal(err)
			}
			w.agent()
		}
		w.now = w.now.Add(time.Second)
	}
}

func (w *world) running() (revisions []int) {
	for t := range store.Tasks.By(w.view(), store.ByService, "default/web") {
		if t.Observed.Status == model.Running {
			revisions = append(revisions, t.Revision)
		}
	}
	return revisions
}

func (w *world) events() string {
	s, _ := store.Services.Get(w.view(), "default/web")
	var all []string
	for _, e := range store.EventsOf(w.view(), s) {
		all = append(all, *e.Message)
	}
	return strings.Join(all, "\n")
}

func TestServiceReachesSteadyStateAndThenNothingIsWritten(t *testing.T) {
	w := newWorld(t)
	w.service(3, 1)
	w.turn(6)
	if got := w.running(); !slices.Equal(got, []int{1, 1, 1}) {
		t.Fatalf("running %v\n%s", got, w.events())
	}
	if !strings.Contains(w.events(), "(service web) has reached a steady state.") {
		t.Errorf("events:\n%s", w.events())
	}
	before := w.view().Revision()
	if _, err := w.c.Step(context.Background()); err != nil {
		t.Fatal(err)
	}
	if after := w.view().Revision(); after != before {
		t.Errorf("a pass over a steady state wrote something: revision %d, then %d", before, after)
	}
	w.service(1, 1)
	w.turn(8)
	if got := w.running(); len(got) != 1 {
		t.Errorf("running %v after scaling down", got)
	}
}

func TestBadDeploymentIsRolledBack(t *testing.T) {
	w := newWorld(t)
	w.service(2, 1)
	w.turn(6)
	w.service(2, 2)
	for range 120 {
		w.turn(1)
		if good := len(w.running()); good < 2 {
			t.Fatalf("only %d healthy tasks during a bad deployment\n%s", good, w.events())
		}
	}
	if got := w.running(); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("running %v\n%s", got, w.events())
	}
	for _, text := range []string{"deployment failed: tasks failed to start.", "rolling back to deployment"} {
		if !strings.Contains(w.events(), text) {
			t.Errorf("no event says %q:\n%s", text, w.events())
		}
	}
}

func TestTaskThatNobodyHoldsEndsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx store.Tx) {
		store.Tasks.Put(tx, &model.Task{ID: "t", Cluster: "default", Family: "web", Revision: 1, Desired: model.Running,
			StopRequest: &model.StopRequest{Code: types.TaskStopCodeUserInitiated, Reason: "changed my mind"},
			Observed:    model.Observed{Status: model.Pending}})
	})
	w.c.Step(context.Background())
	got, _ := store.Tasks.Get(w.view(), "t")
	if !got.Ended() || got.StoppedReason() != "changed my mind" || got.StopCode() != types.TaskStopCodeUserInitiated {
		t.Errorf("%s %q %s", got.Observed.Status, got.StoppedReason(), got.StopCode())
	}
}

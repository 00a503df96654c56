package store_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var scope = model.Scope{Account: "000000000000", Region: "us-east-1"}

const nodeA, nodeB, nodeC = "0000000000000000000000000000000a", "0000000000000000000000000000000b", "0000000000000000000000000000000c"

// TestInstancesByMembership: a node is an instance of every active cluster, or of those it names, without a row for each; a row,
// once there is one, is what counts, under the id that it has.
func TestInstancesByMembership(t *testing.T) {
	s := mem.New(store.Schema())
	change := func(f func(tx store.Tx)) store.Reader {
		if err := s.Update(context.Background(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
			t.Fatal(err)
		}
		var r store.Reader
		s.View(func(v store.Reader) { r = v })
		return r
	}
	cluster := func(tx store.Tx, name, status string) {
		store.Clusters.Put(tx, &model.Cluster{Name: name, ARN: scope.ClusterARN(name), Status: status})
	}
	list := func(r store.Reader, cluster string) (out []string) {
		for _, i := range store.InstancesOf(r, cluster) {
			found, ok := store.InstanceByID(r, cluster, i.ID)
			on, ok2 := store.InstanceOn(r, cluster, i.NodeID)
			if !ok || !ok2 || found.ARN != i.ARN || on.ID != i.ID || i.ARN != scope.InstanceARN(cluster, i.ID) || len(i.ID) != 32 {
				t.Errorf("instance %+v of %s is found as %+v by its id and as %+v by its node", i, cluster, found, on)
			}
			out = append(out, i.NodeID[31:]+" "+i.Status)
		}
		return out
	}
	is := func(what string, got []string, want string) {
		t.Helper()
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %v, want %s", what, got, want)
		}
	}
	r := change(func(tx store.Tx) {
		cluster(tx, "default", "ACTIVE")
		cluster(tx, "other", "ACTIVE")
		cluster(tx, "gone", "INACTIVE")
		store.Nodes.Put(tx, &model.Node{ID: nodeA})
		store.Nodes.Put(tx, &model.Node{ID: nodeB, Declaration: model.Declaration{Clusters: []string{"other"}}})
		store.Nodes.Put(tx, &model.Node{ID: nodeC, Declaration: model.Declaration{Clusters: []string{}}})
	})
	is("default", list(r, "default"), "a ACTIVE")
	is("other", list(r, "other"), "a ACTIVE, b ACTIVE")
	is("gone", list(r, "gone"), "")
	is("unknown", list(r, "unknown"), "")
	if rows := slices.Collect(store.Instances.Scan(r, "")); len(rows) != 0 {
		t.Errorf("%d rows are stored", len(rows))
	}
	a, _ := store.InstanceOn(r, "other", nodeA)
	b, _ := store.InstanceOn(r, "default", nodeA)
	if a.ID == b.ID {
		t.Error("one id in two clusters")
	}
	const old = "11111111111111111111111111111111"
	r = change(func(tx store.Tx) {
		drained := *a
		drained.Status = "DRAINING"
		store.Instances.Put(tx, &drained)
		store.Instances.Put(tx, &model.Instance{ID: old, ARN: scope.InstanceARN("default", old), Cluster: "default", NodeID: nodeA, Status: "INACTIVE"})
		store.Instances.Put(tx, &model.Instance{ID: old, ARN: scope.InstanceARN("default", old), Cluster: "default", NodeID: nodeC, Status: "ACTIVE"})
	})
	is("drained", list(r, "other"), "a DRAINING, b ACTIVE")
	is("no member any more", list(r, "default"), "a ACTIVE")
	r = change(func(tx store.Tx) {
		store.Instances.Put(tx, &model.Instance{ID: old, ARN: scope.InstanceARN("default", old), Cluster: "default", NodeID: nodeA, Status: "INACTIVE"})
	})
	is("deregistered under the id of an older Berth", list(r, "default"), "a INACTIVE")
	if _, ok := store.InstanceByID(r, "default", b.ID); ok {
		t.Error("an instance has two ids")
	}
	if _, ok := store.InstanceByID(r, "default", "x"); ok {
		t.Error("x is an instance")
	}
}

package ecs

import (
	"fmt"
	"iter"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// countingStore counts the rows that Views list.
type countingStore struct {
	store.Store
	rows int
}

func (s *countingStore) View(f func(store.Reader)) {
	s.Store.View(func(r store.Reader) { f(countingReader{r, s}) })
}

type countingReader struct {
	store.Reader
	s *countingStore
}

func (r countingReader) count(rows iter.Seq[any]) iter.Seq[any] {
	return func(yield func(any) bool) {
		for row := range rows {
			if r.s.rows++; !yield(row) {
				return
			}
		}
	}
}

func (r countingReader) ScanRows(table, prefix string) iter.Seq[any] {
	return r.count(r.Reader.ScanRows(table, prefix))
}

func (r countingReader) IndexRows(table, index, value string) iter.Seq[any] {
	return r.count(r.Reader.IndexRows(table, index, value))
}

// TestListTasksReadsWhatItLists: a listing by service, instance or family reads those tasks, and not the whole cluster.
func TestListTasksReadsWhatItLists(t *testing.T) {
	r := newRig(t)
	err := r.api.store.Update(r.ctx(), func(tx store.Tx) error {
		store.Services.Put(tx, &model.Service{Cluster: "default", Name: "s1", Status: active})
		store.Nodes.Put(tx, &model.Node{ID: "n1"})
		store.Instances.Put(tx, &model.Instance{ID: "i1", Cluster: "default", NodeID: "n1", Status: active})
		for i := range 200 {
			k := i % 20
			store.Tasks.Put(tx, &model.Task{ID: fmt.Sprintf("%032x", i), ARN: fmt.Sprint("arn-", i), Cluster: "default", Family: fmt.Sprint("f", k),
				Service: fmt.Sprint("s", k), NodeID: fmt.Sprint("n", k), InstanceID: fmt.Sprint("i", k), Desired: model.Running,
				Observed: model.Observed{Status: model.Running}})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	counting := &countingStore{Store: r.api.store}
	r.api.store = counting
	for name, in := range map[string]*sdk.ListTasksInput{"family": {Family: new("f1")}, "service": {ServiceName: new("s1")},
		"instance": {ContainerInstance: new("i1")}} {
		counting.rows = 0
		out := ok(r.listTasks(r.ctx(), in))(t)
		if len(out.TaskArns) != 10 || counting.rows > 20 {
			t.Errorf("%s: %d tasks are listed, %d rows were read", name, len(out.TaskArns), counting.rows)
		}
	}
}

package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// step is an operation on one register: a write of value, or a read.
type step struct {
	key   string
	write bool
	value int
}

// registers are what families' numbers are to their clients.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			byKey[op.Input.(step).key] = append(byKey[op.Input.(step).key], op)
		}
		var all [][]porcupine.Operation
		for _, ops := range byKey {
			all = append(all, ops)
		}
		return all
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(step); in.write {
			return true, in.value
		}
		return output.(int) == state.(int), state
	},
}

// record collects what clients asked and were told.
type record struct {
	mu    sync.Mutex
	ops   []porcupine.Operation
	began time.Time
	acked int
	gap   time.Duration // the longest between two acknowledged writes
	last  time.Time
}

// client reads and writes registers at whichever server says that it leads, until done.
func (h *record) client(id int, servers func() []*Store, done <-chan struct{}) {
	for n := 1; ; n++ {
		select {
		case <-done:
			return
		default:
		}
		op := step{key: fmt.Sprint("r", rand.IntN(3)), write: rand.IntN(2) == 0, value: id*1_000_000 + n}
		for _, s := range servers() {
			if role, _ := s.Role(); role.Leading {
				h.do(id, s, op)
			}
		}
		time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
	}
}

func (h *record) do(id int, s *Store, op step) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	called, got, known := time.Since(h.began), 0, true
	if op.write {
		known = s.Update(ctx, func(tx store.Tx) error {
			store.Families.Put(tx, &model.Family{Name: op.key, LatestRevision: op.value})
			return nil
		}) == nil
	} else {
		if s.Confirm(ctx) != nil {
			return // a read without an answer says nothing
		}
		s.View(func(r store.Reader) {
			if f, ok := store.Families.Get(r, op.key); ok {
				got = f.LatestRevision
			}
		})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	returned := time.Since(h.began)
	if !known {
		returned = 24 * time.Hour // it may happen at any time, or never
	} else if op.write {
		h.acked++
		h.gap = max(h.gap, time.Since(h.last))
		h.last = time.Now()
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: id, Input: op, Call: int64(called), Output: got, Return: int64(returned)})
}

// TestAcknowledgedWritesAreLinearizable: five clients read and write while leaders are killed, cut off and asked to hand over; what they
// were told must have an order in which it is all true.
func TestAcknowledgedWritesAreLinearizable(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	h := &record{began: time.Now(), last: time.Now()}
	var mu sync.Mutex // guards f.up
	servers := func() (all []*Store) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range f.up {
			all = append(all, s)
		}
		return all
	}
	done := make(chan struct{})
	var clients sync.WaitGroup
	for id := range 5 {
		clients.Go(func() { h.client(id, servers, done) })
	}
	moved := func(old string) {
		f.eventually("another leads", func() error {
			for name, s := range f.up {
				if role, _ := s.Role(); role.Leading && name != old {
					return nil
				}
			}
			return fmt.Errorf("%s was the last", old)
		})
		time.Sleep(200 * time.Millisecond)
	}
	for _, harm := range []string{"kill", "cut", "transfer"} {
		name := f.leaderName()
		switch harm {
		case "kill":
			s := f.up[name]
			mu.Lock()
			delete(f.up, name)
			mu.Unlock()
			f.end(name, s)
			moved(name)
			mu.Lock()
			f.start(name, nil)
			mu.Unlock()
		case "cut":
			f.cut(name, true)
			moved(name)
			f.cut(name, false)
		case "transfer":
			if err := f.up[name].Transfer(ctx); err != nil {
				t.Log(err) // it may have lost its office meanwhile
			}
			moved(name)
		}
	}
	close(done)
	clients.Wait()
	t.Logf("%d operations, %d acknowledged writes, the longest pause between two %v", len(h.ops), h.acked, h.gap)
	if got := porcupine.CheckOperationsTimeout(registers, h.ops, time.Minute); got != porcupine.Ok {
		t.Errorf("the history is %v", got)
	}
}

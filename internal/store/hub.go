package store

import (
	"context"
	"fmt"
	"sync"
)

// Hub brings changes to the watchers who asked for them. It belongs to the implementations of Store. A change costs a look-up for each
// index of its table that anybody watches, and then its watchers only.
type Hub struct {
	indexes map[string][]Index // by table

	mu       sync.Mutex
	closed   bool
	watchers map[Interest]map[*Watcher]struct{}
	indexed  map[Interest]int // interests by table and index; Value is left empty
	forget   map[*Watcher]func()
}

// everything is the interest of those who named none.
var everything = Interest{}

// NewHub makes a hub of the tables.
func NewHub(kinds []Kind) *Hub {
	h := &Hub{indexes: map[string][]Index{}, watchers: map[Interest]map[*Watcher]struct{}{}, indexed: map[Interest]int{},
		forget: map[*Watcher]func(){}}
	for _, kind := range kinds {
		h.indexes[kind.Name] = kind.Indexes
	}
	return h
}

// Watch is Store.Watch. It panics when a table or an index is not declared.
func (h *Hub) Watch(ctx context.Context, interests ...Interest) *Watcher {
	for _, i := range interests {
		h.mustBeDeclared(i)
	}
	if len(interests) == 0 {
		interests = []Interest{everything}
	}
	w := newWatcher()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || ctx.Err() != nil {
		w.close()
		return w
	}
	for _, i := range interests {
		h.enlist(i, w)
	}
	stop := context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(w)
	})
	h.forget[w] = func() {
		stop()
		for _, i := range interests {
			h.delist(i, w)
		}
	}
	return w
}

// Notify tells those whom the changes concern and does not wait for them. Call it after the new state can be read.
func (h *Hub) Notify(changes []Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range changes {
		if BaseTable(c.Table) == c.Table { // the home region's
			h.tell(everything, c)
		}
		h.tell(Interest{Table: c.Table}, c)
		if h.watched(c.Table, ByKey) {
			h.tell(Interest{c.Table, ByKey, c.Key}, c)
		}
		for _, index := range h.indexes[BaseTable(c.Table)] {
			if h.watched(c.Table, index.Name) {
				h.tellBy(index, c)
			}
		}
	}
}

// NotifyAll tells every watcher that everything may have changed.
func (h *Hub) NotifyAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.forget {
		w.addAll()
	}
}

// Close closes every watcher's channel, and those of later watchers.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.forget {
		h.drop(w)
	}
}

// The following need mu.

func (h *Hub) tellBy(index Index, c Change) {
	var old, new string
	if c.Old != nil {
		old = index.Value(c.Old)
	}
	if c.New != nil {
		new = index.Value(c.New)
	}
	if old != "" {
		h.tell(Interest{c.Table, index.Name, old}, c)
	}
	if new != "" && new != old {
		h.tell(Interest{c.Table, index.Name, new}, c)
	}
}

func (h *Hub) tell(i Interest, c Change) {
	if len(h.watchers[i]) == 0 {
		return
	}
	c.Table = BaseTable(c.Table) // who watches a region knows its tables by their own names
	for w := range h.watchers[i] {
		w.add(c)
	}
}

func (h *Hub) watched(table, index string) bool {
	return h.indexed[Interest{Table: table, Index: index}] > 0
}

func (h *Hub) enlist(i Interest, w *Watcher) {
	if h.watchers[i] == nil {
		h.watchers[i] = map[*Watcher]struct{}{}
	}
	h.watchers[i][w] = struct{}{}
	h.indexed[Interest{Table: i.Table, Index: i.Index}]++
}

func (h *Hub) delist(i Interest, w *Watcher) {
	if delete(h.watchers[i], w); len(h.watchers[i]) == 0 {
		delete(h.watchers, i)
	}
	index := Interest{Table: i.Table, Index: i.Index}
	if h.indexed[index]--; h.indexed[index] <= 0 {
		delete(h.indexed, index)
	}
}

func (h *Hub) drop(w *Watcher) {
	if forget, there := h.forget[w]; there {
		delete(h.forget, w)
		forget()
		w.close()
	}
}

// mustBeDeclared panics on an interest that can never be met: a fault in Berth's own code.
func (h *Hub) mustBeDeclared(i Interest) {
	indexes, ok := h.indexes[BaseTable(i.Table)]
	if !ok {
		panic(fmt.Sprintf("store: nobody can watch table %q: it is not declared", i.Table))
	}
	if i.Index == "" || i.Index == ByKey {
		return
	}
	for _, index := range indexes {
		if index.Name == i.Index {
			return
		}
	}
	panic(fmt.Sprintf("store: nobody can watch index %q of table %q: it is not declared", i.Index, i.Table))
}

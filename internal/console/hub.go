package console

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/store"
)

// How often the hub looks at the store at most, and how often it looks though nothing changed: sentences grow old ("it waits for 30 s").
const (
	lookPause = 50 * time.Millisecond
	lookAgain = 5 * time.Second
)

// hub finds what changed and tells the viewers. Stored values are never changed in place, so a row whose values are the same pointers is
// the same: one goroutine compares, draws each row that changed once for all viewers, and marks it for each. Without viewers it sleeps.
type hub struct {
	s   *Console
	ctx context.Context

	mu     sync.Mutex
	feeds  map[string]*feed // by what was asked for
	woken  chan struct{}    // holds one notice: there is something to look at anew
	asleep bool
	looks  int // for tests
}

// feed is one topic with its parameters, and its rows as they were last drawn.
type feed struct {
	name   string
	source source
	rows   map[string]*drawn
	subs   map[*sub]struct{}
	rev    uint64
	looked bool
}

// drawn is a row as it is sent, and the values that it was drawn from.
type drawn struct {
	deps []any
	data json.RawMessage
	mark int
}

// source is where a topic's rows come from.
type source struct {
	tables []string // a change of others concerns it not
	list   func(r store.Reader, now time.Time, yield func(item))
}

// item is a row before it is drawn. moving rows are drawn at each look: time alone changes them.
type item struct {
	key    string
	deps   []any
	moving bool
	draw   func() any
}

// sub is what one viewer wants: keys that changed, not a queue, so a slow viewer gets the newest state and takes bounded memory.
type sub struct {
	id     int
	viewer *viewer
	feed   *feed
	whole  bool // the next message is a snapshot
	dirty  map[string]struct{}
}

func newHub(ctx context.Context, s *Console) *hub {
	h := &hub{s: s, ctx: ctx, feeds: map[string]*feed{}, woken: make(chan struct{}, 1), asleep: true}
	return h
}

// add subscribes a viewer; its snapshot comes with the next look.
func (h *hub) add(v *viewer, id int, name string, src source) *sub {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[name]
	if f == nil {
		f = &feed{name: name, source: src, rows: map[string]*drawn{}, subs: map[*sub]struct{}{}}
		h.feeds[name] = f
	}
	one := &sub{id: id, viewer: v, feed: f, whole: true, dirty: map[string]struct{}{}}
	f.subs[one] = struct{}{}
	if f.looked {
		v.tell()
	}
	if h.asleep {
		h.asleep = false
		go h.run()
	}
	h.wake()
	return one
}

func (h *hub) drop(one *sub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(one.feed.subs, one)
	if len(one.feed.subs) == 0 {
		delete(h.feeds, one.feed.name)
	}
	h.wake()
}

func (h *hub) wake() {
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

// recheck has every viewer's session looked at: one may have ended.
func (h *hub) recheck() {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	for v := range h.s.leaves {
		v.recheck()
	}
}

// run looks while somebody watches.
func (h *hub) run() {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	w := h.s.c.Store.Watch(ctx)
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		changed, all := map[string]bool{}, false
		select {
		case <-h.woken:
		case <-again.C:
			all = true
			h.recheck()
		case _, ok := <-w.C():
			if !ok {
				h.mu.Lock()
				h.asleep = true
				h.mu.Unlock()
				return
			}
			batch := w.Take()
			all = batch.All
			for _, c := range batch.Changes {
				changed[c.Table] = true
			}
		}
		if !h.look(changed, all) {
			return
		}
		pause.Reset(lookPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// look draws what changed; false: nobody watches any more, and the hub sleeps.
func (h *hub) look(changed map[string]bool, all bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.feeds) == 0 {
		h.asleep = true
		return false
	}
	h.looks++
	now := h.s.c.Now()
	h.s.c.Store.View(func(r store.Reader) {
		for _, f := range h.feeds {
			if !f.looked || all || slices.ContainsFunc(f.source.tables, func(t string) bool { return changed[t] }) {
				f.look(r, now, h.looks)
			}
		}
	})
	return true
}

// look compares one feed with the store. mark tells the rows of this look from those that are gone.
func (f *feed) look(r store.Reader, now time.Time, mark int) {
	f.rev = r.Revision()
	var touched []string
	f.source.list(r, now, func(i item) {
		old := f.rows[i.key]
		if old != nil {
			old.mark = mark
			if !i.moving && same(old.deps, i.deps) {
				return
			}
		}
		data, err := json.Marshal(i.draw())
		if err != nil {
			return // a row that cannot be drawn is left out
		}
		if old != nil && bytes.Equal(old.data, data) {
			old.deps = i.deps
			return
		}
		f.rows[i.key] = &drawn{deps: i.deps, data: data, mark: mark}
		touched = append(touched, i.key)
	})
	for key, row := range f.rows {
		if row.mark != mark {
			delete(f.rows, key)
			touched = append(touched, key)
		}
	}
	first := !f.looked
	f.looked = true
	if len(touched) == 0 && !first {
		return
	}
	for s := range f.subs {
		if !s.whole {
			for _, key := range touched {
				s.dirty[key] = struct{}{}
			}
		}
		s.viewer.tell()
	}
}

func same(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// message is what a viewer is sent of a topic.
type message struct {
	Sub   int               `json:"sub"`
	Rev   uint64            `json:"rev,omitempty"`
	Snap  bool              `json:"snap,omitempty"`
	Set   []json.RawMessage `json:"set,omitempty"`
	Del   []string          `json:"del,omitempty"`
	Error *refusal          `json:"error,omitempty"`
	Lines []line            `json:"lines,omitempty"`
	More  bool              `json:"more,omitempty"` // there are older lines
	Done  bool              `json:"done,omitempty"`
	// Series are those of a chart, whole each time.
	Series []points `json:"series,omitempty"`
}

// take returns what a sub has not been sent yet; false: nothing.
func (h *hub) take(one *sub) (m message, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := one.feed
	if !f.looked || !one.whole && len(one.dirty) == 0 {
		return m, false
	}
	m = message{Sub: one.id, Rev: f.rev, Snap: one.whole}
	if one.whole {
		for _, row := range f.rows {
			m.Set = append(m.Set, row.data)
		}
	}
	for key := range one.dirty {
		if row := f.rows[key]; row != nil {
			m.Set = append(m.Set, row.data)
		} else {
			m.Del = append(m.Del, key)
		}
	}
	one.whole = false
	clear(one.dirty)
	return m, true
}

package mirror

import (
	"context"
	"sync"
)

// Hub tells watchers that tables changed. The zero Hub is ready.
type Hub struct {
	mu       sync.Mutex
	closed   bool
	watchers map[*watcher]struct{}
}

type watcher struct {
	notices chan struct{}   // holds one notice: further ones say nothing new
	tables  map[string]bool // nil: all
	forget  func() bool
}

// Watch returns a channel as store.Store.Watch promises it.
func (h *Hub) Watch(ctx context.Context, tables ...string) <-chan struct{} {
	w := &watcher{notices: make(chan struct{}, 1)}
	if len(tables) > 0 {
		w.tables = make(map[string]bool, len(tables))
		for _, table := range tables {
			w.tables[table] = true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || ctx.Err() != nil {
		close(w.notices)
		return w.notices
	}
	if h.watchers == nil {
		h.watchers = map[*watcher]struct{}{}
	}
	h.watchers[w] = struct{}{}
	w.forget = context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(w)
	})
	return w.notices
}

// Notify tells the watchers of the tables, and does not wait for them. Call it after the new state can be read.
func (h *Hub) Notify(tables map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if !w.wants(tables) {
			continue
		}
		select {
		case w.notices <- struct{}{}:
		default:
		}
	}
}

// Close closes every watcher's channel, and those of later watchers.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		w.forget()
		h.drop(w)
	}
}

// drop needs mu.
func (h *Hub) drop(w *watcher) {
	if _, there := h.watchers[w]; there {
		delete(h.watchers, w)
		close(w.notices)
	}
}

func (w *watcher) wants(tables map[string]bool) bool {
	if w.tables == nil {
		return len(tables) > 0
	}
	for table := range tables {
		if w.tables[table] {
			return true
		}
	}
	return false
}

package store

import "sync"

// Interest names what a watcher wants of a table: all rows (Index is ""), or those that Index lists under Value; ByKey is the index
// of a row's own key. A row that leaves the value concerns the watcher as one that enters it does.
type Interest struct{ Table, Index, Value string }

// All is the interest in every row of the table.
func (t Table[T, P]) All() Interest { return Interest{Table: t.name} }

// Where is the interest in the rows that the index lists under value; ByKey lists the one row of that key.
func (t Table[T, P]) Where(index, value string) Interest {
	return Interest{Table: t.name, Index: index, Value: value}
}

// Change is one row that changed: Old is nil when it was made, New nil when it was deleted. The values are shared, as a Reader's.
type Change struct {
	Table, Key string
	Old, New   any
}

// Batch is what changed since the last Take, oldest first, one entry a row: Old is from before the first of its changes that concern
// the watcher, New from after the last. A row that was made and deleted again is left out, so a batch may be empty. All: too much
// changed to list, or the state was loaded anew; look at everything.
type Batch struct {
	All     bool
	Changes []Change
}

// maxPending is how many rows a watcher's list holds; more become All.
const maxPending = 16384

// Watcher collects changes until somebody takes them. Its methods may be called by any goroutine.
type Watcher struct {
	notices chan struct{} // holds one notice: further ones say nothing new

	mu      sync.Mutex
	closed  bool
	all     bool
	changes []Change
	places  map[rowID]int // of a row in changes
}

type rowID struct{ table, key string }

func newWatcher() *Watcher {
	return &Watcher{notices: make(chan struct{}, 1), places: map[rowID]int{}}
}

// C receives after changes that concern the watcher, and is closed when the watcher's context is done or the store closes. Notices are
// coalesced: one notice may stand for many changes. What a batch tells of can be read by any View after the notice.
func (w *Watcher) C() <-chan struct{} { return w.notices }

// Take returns what changed since the last Take and empties the list. A View after it shows all of the batch, and perhaps changes
// that come with the next.
func (w *Watcher) Take() Batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := Batch{All: w.all}
	for _, c := range w.changes {
		if c.Old != nil || c.New != nil {
			b.Changes = append(b.Changes, c)
		}
	}
	w.all, w.changes = false, nil
	clear(w.places)
	return b
}

// add notes a change and tells the receiver.
func (w *Watcher) add(c Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch id := (rowID{c.Table, c.Key}); {
	case w.all:
	case w.known(id):
		w.changes[w.places[id]].New = c.New
	case len(w.changes) >= maxPending:
		w.overflow()
	default:
		w.places[id] = len(w.changes)
		w.changes = append(w.changes, c)
	}
	w.tell()
}

// addAll notes that everything may have changed and tells the receiver.
func (w *Watcher) addAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overflow()
	w.tell()
}

// close closes C, once.
func (w *Watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.notices)
	}
}

// The following need mu.

func (w *Watcher) known(id rowID) bool { _, ok := w.places[id]; return ok }

func (w *Watcher) overflow() {
	w.all, w.changes = true, nil
	clear(w.places)
}

func (w *Watcher) tell() {
	if w.closed {
		return
	}
	select {
	case w.notices <- struct{}{}:
	default:
	}
}

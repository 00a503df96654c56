package control

import (
	"cmp"
	"container/heap"
	"sync"
	"time"
)

// owner is who is looked at by itself: its rows are read and written in transactions of its own.
type owner struct {
	kind kind
	key  string
}

// kind is what an owner is.
type kind uint8

const (
	ofCluster     kind = iota // by name: what clients said of its instances
	ofNode                    // by id: the tasks of one that is lost
	ofService                 // by <cluster>/<name>: its deployments, tasks and targets
	ofTask                    // by id: a task of no service
	ofDefinitions             // task definitions that are being deleted
	ofGarbage                 // what nobody will ask for any more
	ofWaiting                 // all that have tasks that fit nowhere
	ofRepair                  // everything, a little at a time
)

var kindNames = [...]string{"cluster", "node", "service", "task", "task definitions", "garbage", "waiting tasks", "repair"}

func (o owner) String() string { return kindNames[o.kind] + " " + o.key }

// queue holds the owners that are to be looked at: now, in the order in which they were asked for, or at a time. One that is being
// looked at is not given to anybody else; asked for meanwhile, it comes again.
type queue struct {
	mu      sync.Mutex
	entries map[owner]*entry
	ready   []*entry // first come, first served
	head    int      // of ready
	later   schedule
	changed chan struct{} // holds one notice: there may be something to take, or an earlier time to wait for
}

// entry is what the queue knows of one owner. Entries of which nothing is to be known are dropped.
type entry struct {
	owner
	queued   bool
	busy     bool
	again    bool      // asked for while busy
	at       time.Time // of the next look; zero: none
	place    int       // in later, -1 when not there
	failures int       // in a row: it is not looked at before at
	limit    int       // of rows a transaction, lowered by failures; 0: the usual one
	streak   int       // looks that wrote since the time of began
	began    time.Time
}

func newQueue() *queue {
	return &queue{entries: map[owner]*entry{}, changed: make(chan struct{}, 1)}
}

// add asks for a look now. One that failed waits for its time.
func (q *queue) add(owners ...owner) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, o := range owners {
		e := q.entry(o)
		if e.failures == 0 {
			q.push(e)
		}
	}
	q.notify()
}

// addAt asks for a look at that time, unless an earlier one is due.
func (q *queue) addAt(o owner, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entry(o)
	if e.at.IsZero() || at.Before(e.at) {
		q.schedule(e, at)
	}
	q.notify()
}

// take gives out the next owner whose time has come; ok is false when there is none, and next is then when there will be one, zero for
// never. Whoever takes an owner gives it back with done.
func (q *queue) take(now time.Time) (e *entry, next time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.later) > 0 && !q.later[0].at.After(now) {
		due := q.later[0]
		q.schedule(due, time.Time{})
		q.push(due)
	}
	if q.head < len(q.ready) {
		e = q.ready[q.head]
		q.ready[q.head] = nil
		if q.head++; 2*q.head >= len(q.ready) {
			q.ready, q.head = append(q.ready[:0], q.ready[q.head:]...), 0
		}
		e.queued, e.busy = false, true
		q.schedule(e, time.Time{}) // the look says anew when the next one is due
		return e, time.Time{}, true
	}
	if len(q.later) > 0 {
		next = q.later[0].at
	}
	return nil, next, false
}

// done gives an owner back: next is when it wants to be looked at though nothing changes, zero for never. After failures it is not
// looked at before that time.
func (q *queue) done(e *entry, next time.Time, failures int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.busy, e.failures = false, failures
	if e.at.IsZero() || !next.IsZero() && next.Before(e.at) { // else somebody asked for an earlier look meanwhile
		q.schedule(e, next)
	}
	if e.again {
		e.again = false
		if e.failures == 0 {
			q.push(e)
		}
	}
	if !e.queued && e.place < 0 && e.failures == 0 {
		delete(q.entries, e.owner)
	}
	q.notify()
}

// The following need mu.

func (q *queue) entry(o owner) *entry {
	e := q.entries[o]
	if e == nil {
		e = &entry{owner: o, place: -1}
		q.entries[o] = e
	}
	return e
}

func (q *queue) push(e *entry) {
	switch {
	case e.busy:
		e.again = true
	case !e.queued:
		e.queued = true
		q.ready = append(q.ready, e)
	}
}

func (q *queue) schedule(e *entry, at time.Time) {
	e.at = at
	switch {
	case at.IsZero() && e.place >= 0:
		heap.Remove(&q.later, e.place)
	case !at.IsZero() && e.place >= 0:
		heap.Fix(&q.later, e.place)
	case !at.IsZero():
		heap.Push(&q.later, e)
	}
}

func (q *queue) notify() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// schedule is a heap of entries by time, and by owner at one time, so that one script of changes gives one order.
type schedule []*entry

func (s schedule) Len() int { return len(s) }
func (s schedule) Less(i, j int) bool {
	a, b := s[i], s[j]
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key)) < 0
}

func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	e := x.(*entry)
	e.place = len(*s)
	*s = append(*s, e)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	old := *s
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	e.place = -1
	return e
}

package store

import "slices"

// Follower keeps something that is at all times what the next Update's function will see. Its methods are called one at a time and
// never while an Update's function runs; they must be quick and not call the store.
type Follower interface {
	// Reset says what there is, whatever was told before. It is called first, and when the state was loaded anew.
	Reset(r Reader)
	// Apply says what an Update has changed, one entry a row, or that changes are undone that were told but could not be made
	// durable: then Old is what was taken back, New what is again, and a row may come more than once, the last entry true.
	Apply(changes []Change)
}

// Followers are those of one store. Whoever runs its Updates calls them, holding what keeps Updates one after another.
type Followers struct{ all []Follower }

// Add adds a follower and shows it what there is.
func (f *Followers) Add(one Follower, r Reader) {
	one.Reset(r)
	f.all = append(f.all, one)
}

// Apply tells what an Update has changed.
func (f *Followers) Apply(changes []Change) {
	for _, one := range f.all {
		one.Apply(changes)
	}
}

// Undo tells that changes, of which the oldest comes first, are not to be.
func (f *Followers) Undo(changes []Change) {
	if len(f.all) == 0 {
		return
	}
	undone := make([]Change, 0, len(changes))
	for _, c := range slices.Backward(changes) {
		undone = append(undone, Change{Table: c.Table, Key: c.Key, Old: c.New, New: c.Old})
	}
	f.Apply(undone)
}

// Reset tells that the state was loaded anew.
func (f *Followers) Reset(r Reader) {
	for _, one := range f.all {
		one.Reset(r)
	}
}

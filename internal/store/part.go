package store

import "github.com/berthdev/berth/internal/model"

// Part is a piece of a table's rows that is stored for itself, because it changes more often than the rest: an update writes only the
// pieces that it changed. In memory a row is always whole.
type Part struct {
	// Split returns a copy of the row without the part, and the part; both can be encoded as JSON and compared.
	Split func(row any) (rest, part any)
	// Decode makes a part from its JSON.
	Decode func([]byte) (part any, err error)
	// Join gives a row, which nobody has seen yet, its part.
	Join func(row, part any)
}

// observation is the part of a task that agents' reports change.
type observation struct {
	Observed model.Observed
	Version  int64
}

// observed keeps what agents see of tasks apart from what was asked and decided.
var observed = &Part{
	Split: func(row any) (rest, part any) {
		t := *row.(*model.Task)
		part = &observation{t.Observed, t.Version}
		t.Observed, t.Version = model.Observed{}, 0
		return &t, part
	},
	Decode: func(data []byte) (any, error) {
		o := &observation{}
		return o, model.DecodeJSON(data, o)
	},
	Join: func(row, part any) {
		t, o := row.(*model.Task), part.(*observation)
		t.Observed, t.Version = o.Observed, o.Version
	},
}

package model

import "time"

// Sample is one thing measured. Samples of the same metric (namespace, name and dimensions) add up to its statistics: what is written twice
// counts twice.
type Sample struct {
	Namespace, Name string
	Dimensions      map[string]string `json:",omitempty"`
	Unit            string            `json:",omitempty"` // as CloudWatch names them; "" is None
	Time            time.Time
	Value           float64 `json:",omitempty"` // read when Count is 0 and there are no Values
	// Count, Sum, Min and Max are a statistic set, when Count is not 0.
	Count, Sum, Min, Max float64 `json:",omitempty"`
	// Values, which have Counts beside them or occur once each, are a distribution: percentiles are known.
	Values, Counts []float64 `json:",omitempty"`
	Grain          Grain     `json:",omitempty"`
}

// Grain says for which periods a sample counts. Who measures more often than once a minute may tell apart what is for quick readers from
// the one statistic set a minute that AWS has.
type Grain int

// The grains.
const (
	GrainAll    Grain = iota
	GrainFine         // periods below a minute
	GrainCoarse       // periods of a minute and more
)

// Usage is what the tasks of a node used since the node's last word, or since they began.
type Usage struct {
	Tasks []TaskUsage
}

// TaskUsage is what all containers of a task used together.
type TaskUsage struct {
	TaskID string
	Over   time.Duration // the time that CPU, Received and Sent are of
	CPU    time.Duration
	Memory uint64 `json:",omitempty"` // bytes that cannot be freed by dropping caches
	// Received and Sent are bytes at the task's own interfaces; 0 where it has none.
	Received, Sent uint64 `json:",omitempty"`
}

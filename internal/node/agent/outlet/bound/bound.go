// Package bound is what the agent tells a container's shim about its log, and what the shim tells the agent.
package bound

// Annotation is the key under which a container's OCI spec has its Bound as JSON.
const Annotation = "berth.dev/log"

// Dropped is the name of the file, beside the log's, that holds the sum of what was lost, as JSON.
const Dropped = "dropped"

// Least is the smallest bound that an outlet works with.
const Least = 1 << 20

// Bound says how much of a container's output may wait on the disk to be carried away.
type Bound struct {
	Bytes    int64 `json:"bytes"` // of both outputs together; 0 means no bound
	Blocking bool  `json:"blocking,omitempty"`
}

// Lost is output that was dropped because it did not fit.
type Lost struct {
	Lines int64 `json:"lines"`
	Bytes int64 `json:"bytes"`
}

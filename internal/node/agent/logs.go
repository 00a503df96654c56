package agent

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// Logs carries what containers write, from the files that the shim appends to, to where their log configuration says.
// agent/logdriver is the real one; agent/fake keeps the lines in memory. Every call is idempotent.
type Logs interface {
	// Open makes the container's log stream and files ready and begins to carry lines. It must return before the container
	// starts. Errors: *Error named ResourceInitializationError.
	Open(ctx context.Context, spec LogSpec) (LogFiles, error)
	// Finish is called after the container has exited. It returns when every line was carried, or when ctx ends: the rest then
	// follows in the background. A container that was never opened is no error.
	Finish(ctx context.Context, id string) error
}

// LogSpec is one container's log.
type LogSpec struct {
	ID        string // the runtime's id of the container
	TaskID    string
	Container string
	Dir       string                  // of this container's log files; deleted with the task's record
	Config    *types.LogConfiguration // nil: json-file
	// Firelens is how the lines reach the task's log router; nil when they go elsewhere.
	Firelens *FirelensSpec
	// Resume says that the container was opened before this agent started: its stream exists and must not be asked for.
	Resume bool
}

// LogFiles are the files that the container's output is appended to, and how much of it they may hold.
type LogFiles struct {
	Stdout, Stderr string
	Bound          bound.Bound
}

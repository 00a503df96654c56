package model

// TaskError is a failure of a task or of one of its containers, with the name that users of ECS know, such as
// CannotPullContainerError or ResourceInitializationError. It becomes a stoppedReason or a container's reason.
type TaskError struct {
	Name    string
	Message string
}

// Error implements error: "<Name>: <Message>".
func (e *TaskError) Error() string { return e.Name + ": " + e.Message }

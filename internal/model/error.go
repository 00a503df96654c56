package model

import (
	"errors"
	"fmt"
)

// Error is a refusal that a client may see: an AWS error name and its text. Everything else that a handler returns is an
// internal fault: it is logged whole, and the client sees only that something failed.
type Error struct {
	// Code is the error's name as the service's model spells it, such as "ClusterNotFoundException".
	Code string
	// Message is the sentence for the client.
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf makes an Error with a formatted message.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ErrorCode returns the code of the first Error in err's chain, or "".
func ErrorCode(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

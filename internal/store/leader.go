package store

import "errors"

// ErrNotLeader is in the error of an Update on a server that does not lead: another does, or none at the moment. Nothing happened.
// The error is a *NotLeaderError.
var ErrNotLeader = errors.New("this server does not lead")

// ErrUnknown is in the error of an Update of which nobody knows whether it happened, or will: the leader lost its office, or its disk did
// not answer. Who tries again must be able to tell what has happened already.
var ErrUnknown = errors.New("the outcome is unknown")

// NotLeaderError names the leader; errors.Is finds ErrNotLeader in it.
type NotLeaderError struct{ Leader string } // the server's id, "" while there is none

// Error implements error.
func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return "no server leads: too few of them reach each other, or they are electing one; try again"
	}
	return "this server does not lead; " + e.Leader + " does"
}

// Is implements the interface of errors.Is.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

package model

import "time"

// ConsoleSession is somebody logged in to the console. Of its two halves, the cookie and the key, the store has hashes only. Written by
// the console: Used every few minutes while it is.
type ConsoleSession struct {
	ID      string // hexadecimal SHA-256 of the cookie
	KeyHash string // hexadecimal SHA-256 of the key
	// Account, ARN, UserID and AccessKeyID are whose it is: those of whoever logged in; Grant what bounds temporary credentials.
	Account, ARN, UserID, AccessKeyID string
	Grant                             *Grant
	Agent                             string // the browser, as it calls itself
	Address                           string // from where it was made
	CreatedAt, UsedAt                 time.Time
}

// Key is its id.
func (s *ConsoleSession) Key() string { return s.ID }

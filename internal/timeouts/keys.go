package timeouts

import "time"

// Keys and secrets.
const (
	// MasterKey bounds the command that prints the master key; MasterRetry is the pause between two attempts to have the cluster's.
	MasterKey   = 10 * time.Second
	MasterRetry = 5 * time.Second
	// KeysDue is the longest pause between two looks at keys and secrets whose time to be deleted or rotated may have come.
	KeysDue = time.Minute
)

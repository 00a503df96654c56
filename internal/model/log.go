package model

import "time"

// LogEvent is one line that was written to a log stream.
type LogEvent struct {
	At      time.Time
	Message string
}

package logstore

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Position is the place of an event among all events of its group: by time, then stream, then order of arrival.
type Position struct {
	At     int64  // Unix milliseconds
	Stream uint64 // the stream's ID
	N      uint64 // the event's number in its stream, not the same for two of one time
}

// Event is a stored event.
type Event struct {
	Position
	StreamName string
	Ingested   int64 // Unix milliseconds
	Message    string
}

// ID is the event's name: 56 digits as in AWS, the same on every read.
func (p Position) ID() string { return fmt.Sprintf("%016d%020d%020d", p.At, p.Stream, p.N) }

// Compare orders positions.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.At, q.At), cmp.Compare(p.Stream, q.Stream), cmp.Compare(p.N, q.N))
}

// String encodes the position for a token; ParsePosition reads it.
func (p Position) String() string {
	return strconv.FormatInt(p.At, 36) + "-" + strconv.FormatUint(p.Stream, 36) + "-" + strconv.FormatUint(p.N, 36)
}

// ParsePosition reads what String made; ok is false for anything else.
func ParsePosition(s string) (p Position, ok bool) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return p, false
	}
	var errs [3]error
	p.At, errs[0] = strconv.ParseInt(parts[0], 36, 64)
	p.Stream, errs[1] = strconv.ParseUint(parts[1], 36, 64)
	p.N, errs[2] = strconv.ParseUint(parts[2], 36, 64)
	return p, errs == [3]error{} && p.At >= 0 && p.At < math.MaxInt64
}

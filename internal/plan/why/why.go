// Package why says in a sentence why a task, a deployment, a service, a target or a node is as it is, and what cures it. It is pure and
// table-driven: what happened goes in (stop code, reason, exit code, health, refusals), cause and cures come out. The same sentences
// serve `berth ps`, `berth why` and the console. A test walks Berth's source for every error name and reason that it can make, and fails
// on one that has no cure here.
package why

import (
	"slices"
	"time"
)

// Level is how bad a finding is. Higher is worse.
type Level int

// The levels.
const (
	Fine    Level = iota // as it should be
	Going                // under way: nothing to do yet
	Warning              // it goes on, and something is not as it should be
	Bad                  // something is broken
)

// String is the level's name, as in JSON.
func (l Level) String() string { return [...]string{"fine", "going", "warn", "bad"}[l] }

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Finding is one thing that is to be known, with its cause.
type Finding struct {
	// Name tells findings apart, for programs: an error's own name where it has one, such as CannotPullContainerError.
	Name  string `json:"name"`
	Level Level  `json:"level"`
	Cause string `json:"cause"` // a sentence
	Cures []Cure `json:"cures,omitempty"`
	// Container is the container that it is about, "" for the whole.
	Container string    `json:"container,omitempty"`
	Since     time.Time `json:"since,omitzero"`
}

// Cure is one thing that helps.
type Cure struct {
	Text string `json:"text"` // a sentence in the imperative
	// Do is what a program can do about it: memory, image, revision, stopTimeout, port, scale, drain, logs, login; "" when only people can.
	Do    string `json:"do,omitempty"`
	Value string `json:"value,omitempty"` // what to do it with, such as the MiB
	// Command is a command line that does it or shows more, "" when there is none.
	Command string `json:"command,omitempty"`
}

// Sentence is the finding in one line: the cause and the first cure.
func (f Finding) Sentence() string {
	if len(f.Cures) == 0 {
		return f.Cause
	}
	return f.Cause + " " + f.Cures[0].Text
}

// Worst sorts findings, the worst first; those of one level stay as they are: causes before what follows from them.
func Worst(fs []Finding) []Finding {
	slices.SortStableFunc(fs, func(a, b Finding) int { return int(b.Level - a.Level) })
	return fs
}

// cure is a Cure of words alone.
func cure(text string) Cure { return Cure{Text: text} }

package model

import (
	"time"
)

// Delivery is something that is to be told or done elsewhere, once whoever wants it is stored: the leader does it, and does it again until it
// is done or Until has come. Written by serve/outbox, from what others put into it in their own transactions.
type Delivery struct {
	ID string // of who put it: the same thing has the same id
	// Queue: those of one queue are done one after another, in the order of Created; "" is none.
	Queue  string `json:",omitempty"`
	Kind   string // of the handler: http, aws, logs
	Target string // an ARN or a URL
	Body   string `json:",omitempty"`
	// Headers are those of an HTTP request.
	Headers map[string]string `json:",omitempty"`
	// Parameters are the handler's own.
	Parameters map[string]string `json:",omitempty"`
	Source     string            `json:",omitempty"` // who wants it, for the log: an ARN
	Created    time.Time
	Until      time.Time // not tried again after this
	Most       int       `json:",omitempty"` // attempts at most; 0: as many as there is time for
	Attempts   int
	Next       time.Time `json:",omitzero"`  // not tried before this
	Failure    string    `json:",omitempty"` // of the last attempt
}

// Key is the id.
func (d *Delivery) Key() string { return d.ID }

// Package nodelink is the session between the server and a node: assignments go down, observations come up. The node opens it
// and says what it is; the server answers with the whole set of assignments and then with changes, each with a rising
// revision; the node reports what it sees until the server acknowledges it. Nothing here is a queue: after a lost session
// both sides say again what is true.
package nodelink

import (
	"context"

	"github.com/berthdev/berth/internal/model"
)

// Conn carries messages between the two halves. Pipe makes one inside a process; a gRPC stream is the other one to come.
type Conn interface {
	Send(ctx context.Context, m Message) error
	Recv(ctx context.Context) (Message, error)
	Close() error
}

// Message is one message; exactly one field is set.
type Message struct {
	Hello       *Hello       // node -> server, first
	Welcome     *Welcome     // server -> node, answer to Hello
	Assignments *Assignments // server -> node
	Reports     *Reports     // node -> server
	Ack         *Ack         // server -> node, answer to Reports
	Heartbeat   *Heartbeat   // node -> server
}

// Hello says what the node is. Which node it is, only the transport can tell.
type Hello struct {
	model.Declaration
}

// Welcome accepts the node. A message of an older epoch is refused.
type Welcome struct {
	Epoch int64
}

// Assignments changes what the node must have. A Full one replaces everything.
type Assignments struct {
	Revision uint64 // rises; the same revision means the same set
	Full     bool
	Put      []model.Assignment
	Remove   []string // task ids
}

// Reports carries observations, the newest of each task.
type Reports struct {
	Epoch int64
	Batch uint64
	Items []model.Report
}

// Ack says that every report up to Batch is stored.
type Ack struct {
	Batch uint64
}

// Heartbeat says that the node lives and how far it has come.
type Heartbeat struct {
	Epoch    int64
	Revision uint64
}

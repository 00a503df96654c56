// Package nodelink is the session between the server and a node: assignments go down, observations come up. The node opens it
// and says what it is; the server answers with the whole set of assignments and then with changes, each with a rising
// revision; the node reports what it sees until the server acknowledges it. Nothing here is a queue: after a lost session
// both sides say again what is true.
//
// The halves know neither transport nor protocol: a Conn is a pipe inside a process or nodelink/grpc's stream between machines. An adapter
// for another agent (Amazon's, which speaks ACS and TCS) is one more Conn that Server.Serve is given.
package nodelink

import (
	"context"
	"fmt"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// Conn carries messages between the two halves. A message that was handed to Send or came from Recv is not changed afterwards. Several
// goroutines may Send at once. A call whose ctx ends may close the Conn.
type Conn interface {
	Send(ctx context.Context, m Message) error
	Recv(ctx context.Context) (Message, error)
	Close() error
}

// Message is one message; exactly one field is set.
type Message struct {
	Hello       *Hello              // node -> server, first
	Welcome     *Welcome            // server -> node, answer to Hello
	Refused     *Refused            // server -> node, the other answer to Hello
	Servers     *Servers            // server -> node
	Assignments *Assignments        // server -> node
	Reports     *Reports            // node -> server
	Ack         *Ack                // server -> node, answer to Reports
	Heartbeat   *Heartbeat          // node -> server
	Addresses   *Addresses          // node -> server
	Blocks      *Blocks             // server -> node, answer to Addresses
	Peers       *Peers              // server -> node
	Groups      *model.GroupsChange // server -> node
	Usage       *model.Usage        // node -> server; a lost one is not said again
	Call        *Call               // server -> node
}

// Call asks the node to connect to a server, for a session in one of its containers. What else belongs to it is told there.
type Call struct {
	ID      string // a secret that only the server and this node know
	Server  string // the server's id
	Address string // of its cluster port; "" where only the node in its own process reaches it
}

// Hello says what the node is. Which node it is, only the transport can tell.
type Hello struct {
	model.Declaration
	Seen Seen
}

// Seen is the newest that a node was told of the cluster's state: a server whose state is older is none for it.
type Seen struct {
	Incarnation string // of the state; a restored backup is another one
	Epoch       int64  // of the last session within it
}

// Welcome accepts the node. A message of an older epoch is refused.
type Welcome struct {
	Seen
}

// Refused says why there is no session, in a sentence with its cure. As an error it ends a session.
type Refused struct {
	Reason string
	// RetryAfter is when the node is to try again at the earliest.
	RetryAfter time.Duration
}

func (r *Refused) Error() string { return r.Reason }

func refused(retry time.Duration, format string, args ...any) *Refused {
	return &Refused{Reason: fmt.Sprintf(format, args...), RetryAfter: retry}
}

// Servers says which servers there are.
type Servers struct {
	Addresses []string // host:port of their cluster ports
	// Spread is the time over which all nodes together do what a change of servers leads to.
	Spread time.Duration
}

// Assignments changes what the node must have. A Full one replaces everything.
type Assignments struct {
	Revision uint64 // rises; the same revision means the same set
	Full     bool
	Put      []model.Assignment
	Remove   []string // task ids
	// More: the set is whole only with the next message.
	More bool
	// Keep: the state was put back from a backup, and people have not confirmed it yet: tasks that the node was told of by the state before,
	// and that this one does not know, go on.
	Keep bool `json:",omitempty"`
}

// Kept is such a task.
type Kept struct {
	Task, Cluster string
	Group         string // as in DescribeTasks: family:… or service:…
	Definition    string // ARN
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
	Kept     []Kept `json:",omitempty"` // see Assignments.Keep
	NoBeats  bool   // no server answers the node's beats: it is to be judged by its session
}

package model

import "time"

// Verdict is what the leader has found of a node's life.
type Verdict string

// The verdicts. A task's connectivity and an instance's agentConnected follow from its node's: see Node.Lost and Node.Agent.
const (
	NodeAlive    Verdict = ""
	NodeAway     Verdict = "AWAY"     // the agent is not there, the machine is: its tasks run
	NodeImpaired Verdict = "IMPAIRED" // it keeps what it runs and is given nothing more
	NodeLost     Verdict = "LOST"     // the machine is dead, or nobody can reach it
)

// Life is the verdict of a node. Written by internal/life on the leader: one row tells of all tasks of the node.
type Life struct {
	Verdict Verdict   `json:",omitzero"`
	Cause   string    `json:",omitzero"` // tells verdicts of one kind apart, for programs
	Reason  string    `json:",omitzero"` // a sentence
	Since   time.Time `json:",omitzero"` // by the leader's wall clock
	// Heard is when the node last gave a sign of life, by the leader's wall clock, when the verdict was made.
	Heard time.Time `json:",omitzero"`
}

// Lost tells that the node is dead or out of reach. A nil node, one that nobody knows, is not.
func (n *Node) Lost() bool { return n != nil && n.Life.Verdict == NodeLost }

// Agent tells whether the node's agent is there and takes orders: agentConnected as clients see it.
func (n *Node) Agent() bool {
	return n != nil && n.Connected && n.Life.Verdict != NodeLost && n.Life.Verdict != NodeAway
}

// Takes tells whether tasks may be placed on the node.
func (n *Node) Takes() bool { return n.Agent() && n.Life.Verdict != NodeImpaired }

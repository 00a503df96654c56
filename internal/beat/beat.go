// Package beat tells who lives, over UDP and apart from sessions: nodes send a packet of 64 bytes to each server every period, servers
// answer, and whoever is silent is asked ("do you live?") by servers and, at their word, by other nodes.
//
// A beat counts only when it is signed with the node's own key, carries the cookie that the server gave to this boot of the node, and
// was sent later than the last one that counted: what is replayed, reordered, or kept from before a restart of either side is nothing.
// A node's send times are its kernel's clock since boot (CLOCK_BOOTTIME), which goes on over restarts of its processes and is no wall
// clock. The same clock makes its lease: the send time of its last answered beat, less the answering server's own age of contact.
//
// Port is one socket, which a server, a node, or both of one process share.
package beat

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// ID is a node's id: the 16 bytes that its 32 hexadecimal digits spell.
type ID [16]byte

// ParseID reads a node's id as the store has it.
func ParseID(s string) (id ID, err error) {
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("%q is no node id: want 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("%q is no node id: want 32 hexadecimal digits", s)
	}
	return id, nil
}

// String is the id as the store has it.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Key signs the packets of one node, in both directions. Each node has its own (pki.NodeBeatKey): no node can speak for another.
type Key [sha256.Size]byte

// Health is what is wrong with a machine, in bits; 0 is well.
type Health uint8

// The bits of Health.
const (
	// Away: the agent is not there; the keeper beats and answers in its place. It is no fault of the machine.
	Away Health = 1 << iota
	// Disk: the machine's disk does not finish writes.
	Disk
	// Runtime: containerd does not answer.
	Runtime
	// Bye: the machine is shutting down. It is in the last beats.
	Bye
	// Full: the machine's disk has hardly any room.
	Full
	// Memory: the machine has hardly any memory left.
	Memory
)

// Impaired are the bits of a machine that runs what it has, and should be given nothing more.
const Impaired = Disk | Runtime | Full | Memory

// Words say what is wrong, in the order of the bits.
func (h Health) Words() (out []string) {
	if h&Disk != 0 {
		out = append(out, "its disk does not finish writes")
	}
	if h&Runtime != 0 {
		out = append(out, "its containerd does not answer")
	}
	if h&Full != 0 {
		out = append(out, "its disk is full")
	}
	if h&Memory != 0 {
		out = append(out, "its memory is used up")
	}
	return out
}

// Settings are what a server tells a node of beats, in its session.
type Settings struct {
	Servers []string // addresses and UDP ports of all servers; at most MaxServers count
	Key     []byte   // the node's own
	Period  time.Duration
	Epoch   int64 // of the session
}

// MaxServers is how many servers a node beats to.
const MaxServers = 16

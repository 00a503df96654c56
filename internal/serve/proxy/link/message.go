package link

import (
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
)

// Message is one frame. Of its fields one is set, but for Ready.
type Message struct {
	Hello    *Hello               `json:",omitempty"`
	Sockets  *Sockets             `json:",omitempty"`
	Ready    bool                 `json:",omitempty"` // all sockets have been named; from a successor: it serves
	Apply    *Apply               `json:",omitempty"`
	Health   []model.TargetHealth `json:",omitempty"`
	Problems map[string]string    `json:",omitempty"` // why listeners' ports are not served, "" for those that are
	Busy     *Busy                `json:",omitempty"`
	Count    uint64               `json:",omitempty"` // asks for the counters, under a number of the asker's
	Counted  *Counted             `json:",omitempty"`
	Beat     uint64               `json:",omitempty"` // is sent back as it came
	Quit     bool                 `json:",omitempty"` // end: finish what is in flight, give the ports back
}

// Role is what the side that connects wants.
type Role string

// The roles. Look is told what there is; Feed besides gives the table and gets the reports, and one at a time does; Succeed is a new
// process that takes over.
const (
	Look    Role = "look"
	Feed    Role = "feed"
	Succeed Role = "succeed"
)

// Hello is the first message of either side.
type Hello struct {
	Role        Role   `json:",omitempty"`
	Fingerprint string `json:",omitempty"` // of the proxy's program and config
	Version     string `json:",omitempty"`
	PID         int    `json:",omitempty"`
	// Epoch and Seq are those of the last change that the proxy took.
	Epoch string `json:",omitempty"`
	Seq   uint64 `json:",omitempty"`
}

// Sockets are listening sockets, which come as descriptors in the order of Names, and the names of those that are closed.
type Sockets struct {
	All    bool     `json:",omitempty"` // what was named before is gone
	Names  []string // such as 127.0.0.1:80
	Closed []string `json:",omitempty"`
}

// Apply is a change of the table, or a part of one. The sequence rises within an epoch, which begins with a whole table; what has come
// already is not taken again.
type Apply struct {
	Epoch string
	Seq   uint64
	More  bool `json:",omitempty"` // the next message belongs to it
	Delta proxy.Delta
}

// Busy are the targets that drain and still have requests in flight, as of a change.
type Busy struct {
	Seq  uint64
	Keys []string
}

// Counted answers Count.
type Counted struct {
	Number   uint64
	Snapshot proxy.Snapshot
}

// Parts cuts a delta into messages of bearable size.
func Parts(epoch string, seq uint64, d proxy.Delta) (all []*Apply) {
	for _, part := range d.Parts() {
		all = append(all, &Apply{Epoch: epoch, Seq: seq, More: true, Delta: part})
	}
	all[len(all)-1].More = false
	return all
}

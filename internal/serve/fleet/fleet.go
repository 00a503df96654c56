// Package fleet says what people see of the machines of a cluster: its servers, its nodes, and in one sentence what is odd about each.
package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// The states of a node.
const (
	Active   = "ACTIVE"
	Draining = "DRAINING"                 // in every cluster of which it is a container instance: nothing is placed on it
	Impaired = string(model.NodeImpaired) // it keeps what it runs and is given nothing more
	Lost     = string(model.NodeLost)     // it is held for dead
)

// Report is the state of a cluster's machines at a moment.
type Report struct {
	Cluster string    `json:"cluster"` // its id
	Region  string    `json:"region"`
	Level   int       `json:"level"`
	At      time.Time `json:"at"`
	Backup  time.Time `json:"backup,omitzero"` // the newest of this server's own; zero for none
	Servers []Server  `json:"servers"`
	Nodes   []Node    `json:"nodes"`
}

// Server is one of those that vote.
type Server struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Address string        `json:"address"`
	Version string        `json:"version"`
	Leader  bool          `json:"leader"`
	Joining bool          `json:"joining,omitempty"` // it is brought up to date and does not vote yet
	Since   time.Time     `json:"since,omitzero"`    // it leads
	Heard   time.Time     `json:"heard,omitzero"`    // it answered this server last; zero for this server itself
	Away    bool          `json:"away,omitempty"`    // it does not answer
	Fsync   time.Duration `json:"fsync,omitempty"`   // the 99th percentile of its disk's; 0 for unknown
	Behind  int64         `json:"behind"`            // revisions that it has not applied yet; -1 for unknown
}

// Node is a machine that runs tasks.
type Node struct {
	ID         string            `json:"id"`
	Host       string            `json:"host"`
	Address    string            `json:"address"`
	Zone       string            `json:"zone"`
	State      string            `json:"state"`
	Agent      bool              `json:"agent"`          // its session is open
	Heard      time.Time         `json:"heard,omitzero"` // the last sign of life; zero for unknown
	Tasks      int               `json:"tasks"`          // that have not ended
	UsedCPU    int64             `json:"usedCpu"`        // CPU units
	CPU        int64             `json:"cpu"`
	UsedMemory int64             `json:"usedMemory"` // MiB
	Memory     int64             `json:"memory"`
	Network    string            `json:"network,omitempty"` // what carries its tasks' traffic to other machines; "" while there is nothing
	Note       string            `json:"note,omitempty"`    // what is odd about it
	Version    string            `json:"version"`
	Runtime    string            `json:"runtime"`
	Arch       string            `json:"arch"`
	Boot       string            `json:"boot,omitempty"`
	Clusters   []string          `json:"clusters,omitempty"` // nil for all
	Attributes map[string]string `json:"attributes,omitempty"`
	Registered time.Time         `json:"registered"`
	Since      time.Time         `json:"since"` // its session was opened or lost
}

// Sources are what a report knows beside the stored rows. Each may be nil.
type Sources struct {
	// Free is what tasks leave free of a node, in CPU units and MiB.
	Free func(node string) (cpu, memory int64)
	// Heard is when a node gave its last sign of life.
	Heard func(node string) (time.Time, bool)
	// Servers completes what is stored of servers, or names the one there is.
	Servers func([]Server) []Server
	// Network names what carries the tasks' traffic of a node to other machines.
	Network func(node string) string
}

// Look makes the report of a moment.
func Look(r store.Reader, region string, src Sources, now time.Time) Report {
	out := Report{Region: region, At: now}
	if s, ok := store.ClusterSettings.Get(r, model.SettingsKey); ok {
		out.Cluster, out.Level = s.ClusterID, s.Level
	}
	for s := range store.Servers.Scan(r, "") {
		out.Servers = append(out.Servers, Server{ID: s.ID, Name: s.Name, Address: s.Address, Version: s.Version, Behind: -1})
	}
	if src.Servers != nil {
		out.Servers = src.Servers(out.Servers)
	}
	slices.SortFunc(out.Servers, func(a, b Server) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for n := range store.Nodes.Scan(r, "") {
		out.Nodes = append(out.Nodes, look(r, n, src, now))
	}
	slices.SortFunc(out.Nodes, func(a, b Node) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID)) })
	return out
}

func look(r store.Reader, n *model.Node, src Sources, now time.Time) Node {
	out := Node{ID: n.ID, Host: n.Hostname, Address: n.Address, Agent: n.Agent(), State: Active, Heard: n.Life.Heard, Note: n.Life.Reason, CPU: n.CPU, Memory: n.Memory,
		Version: n.Version, Runtime: n.RuntimeVersion, Arch: n.Arch, Boot: n.Boot, Clusters: n.Clusters, Attributes: n.Attributes,
		Registered: n.RegisteredAt, Since: n.ConnectedAt}
	out.Zone, _ = n.Attribute(nil, "ecs.availability-zone")
	for t := range store.Tasks.By(r, store.ByNode, n.ID) {
		if !t.Ended() {
			out.Tasks++
		}
	}
	if src.Free != nil {
		cpu, memory := src.Free(n.ID)
		out.UsedCPU, out.UsedMemory = n.CPU-cpu, n.Memory-memory
	}
	if src.Heard != nil {
		if at, ok := src.Heard(n.ID); ok {
			out.Heard = at
		}
	}
	if src.Network != nil {
		out.Network = src.Network(n.ID)
	}
	if draining(r, n) {
		out.State = Draining
	}
	if v := n.Life.Verdict; v == model.NodeLost || v == model.NodeImpaired {
		out.State = string(v)
	}
	if !out.Agent {
		out.Since = n.LostAt
		if n.Connected {
			out.Since = n.Life.Since
		}
		if out.Note == "" {
			out.Note = away(out.Tasks, now.Sub(out.Since))
		}
	}
	return out
}

// draining tells whether the node is DRAINING in every active cluster of which it is a container instance.
func draining(r store.Reader, n *model.Node) bool {
	found := false
	for c := range store.Clusters.Scan(r, "") {
		if i, ok := store.InstanceOn(r, c.Name, n.ID); ok {
			if found = true; i.Status != Draining {
				return false
			}
		}
	}
	return found
}

func away(tasks int, d time.Duration) string {
	note := "agent away " + Ago(d)
	if tasks > 0 {
		note += "; tasks run"
	}
	return note
}

// Ago spells how long something has been: 0.2 s, 12 s, 40 min, 3 h, 2 d.
func Ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// Find returns the node that a person means by a word: its id or the beginning of one, its host or its address. The error names the
// choices when there is not exactly one.
func (r Report) Find(word string) (Node, error) {
	var found []Node
	for _, n := range r.Nodes {
		if n.ID == word {
			return n, nil
		}
		if n.Host == word || n.Address == word || len(word) >= 4 && strings.HasPrefix(n.ID, word) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return Node{}, fmt.Errorf("no node has the id, host or address %q; see: berth node ls", word)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, n := range found {
		ids = append(ids, n.ID)
	}
	return Node{}, fmt.Errorf("%q is %d nodes; say which by its id: %s", word, len(found), strings.Join(ids, ", "))
}

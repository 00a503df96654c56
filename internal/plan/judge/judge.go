// Package judge decides which nodes live. It is pure: what was heard of each node, when and where, and what it was asked, are values;
// verdicts with their reasons, the nodes to ask and the time of the next look come out. It trusts one clock only, the judge's own
// monotonic one, by which all times of an Input are.
//
// A node that beats is suspect when all servers have heard nothing for a few periods; then it is asked, and is lost when nobody gets
// an answer. So a wrong verdict needs more than lost packets. What remains are machines that stand still, which get more patience, and
// judges that do, who hold their verdicts; and when most nodes are silent at once it is more likely that the judge's own network is
// broken, so that people are asked first.
package judge

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// The limits (machines.md, section 5).
const (
	silentPeriods     = 3    // without a beat until a node is suspect
	silentPeriodsMany = 2    // in a fleet of more than Many nodes, whose periods are longer
	Many              = 3000 // nodes from which on they beat more slowly

	// Probing is how long a suspect has to answer. It is asked twice within that.
	Probing = 300 * time.Millisecond
	// Streaming is the limit of nodes that cannot be asked, or whose beats come in their sessions, once a second.
	Streaming = 5 * time.Second
	// patience bounds what a machine that tends to stand still gets: one and a half times its longest pause.
	patience = 5 * time.Second
	// keeperless is how long a machine whose kernel answers, and nothing else of it, is waited for; away is when people are told of an
	// agent that is away.
	keeperless = time.Minute
	away       = time.Minute
	// late is how late a judge's own timers may run; hold is how long verdicts wait when most nodes are silent.
	late = 200 * time.Millisecond
	hold = 30 * time.Second
	// settling is what nodes have to find a server that has just begun to listen; those that only have sessions have settlingStream.
	settling       = 5 * time.Second
	settlingStream = 30 * time.Second
)

// Input is everything that Judge looks at.
type Input struct {
	Now    time.Time
	Began  time.Time     // when this server began to listen: it knows of no silence before
	Period time.Duration // of beats
	// Servers are the names of those whose hearing is in Node.Heard, the judge's own first.
	Servers []string
	Nodes   []Node
	// Late is how late the judge's own timer ran the last time that it ran late, and LateAt when that was.
	Late   time.Duration
	LateAt time.Time
	Hold   Hold
}

// Node is one node and what is known of it. Times are zero for never.
type Node struct {
	ID string
	// What stands: the stored verdict, its cause, and since when it stands as far as this judge knows.
	Verdict model.Verdict
	Cause   string
	Since   time.Time
	Told    bool // people were told that its agent is away

	Local bool // it is in the judge's own process, and lives as long as that
	// NAT: nobody can send it anything but answers, so that it cannot be asked.
	NAT bool

	Heard   []time.Time // when its last beat came to each of Input.Servers
	Away    bool        // its last beat was its keeper's
	Bye     bool        // its last beat said that the machine shuts down
	Ill     string      // what its last beat said is wrong with the machine, "" nothing
	Pause   time.Duration
	Session time.Time // when something came in its session last
	Stream  time.Time // when its session last said that beats do not get through

	Asked  time.Time // when it was asked last
	Agent  time.Time // when its agent last answered, to whomever
	Keeper time.Time // when its keeper did
	Kernel time.Time // when its kernel did
}

// Hold is a pause of all verdicts because most nodes are silent.
type Hold struct {
	Since     time.Time // zero: there is none
	Confirmed bool      // people said that they are really lost
	// Ended is when the last one ended because most were heard again: the others' silence before it, and what they did not answer until
	// then, say nothing of them.
	Ended time.Time
}

// Output is what Judge decides.
type Output struct {
	Verdicts []Verdict // that differ from what stands
	Ask      []string  // nodes that are to be asked now, by everybody who can
	Notes    []Note    // what people are to be told besides
	Hold     Hold      // from now on
	Next     time.Time // when to look again though nothing is heard
}

// Verdict is a node's new one.
type Verdict struct {
	Node   string
	Is     model.Verdict
	Cause  string
	Reason string
	Heard  time.Time // its last sign of life; zero: none since Began
}

// Note is a sentence for people; Node is "" when it is about all of them.
type Note struct {
	Node string
	Text string
}

// The causes.
const (
	CauseUnheard  = "unreachable-from-server" // alive; followed by ":" and the server's name
	CauseKeeper   = "agent-away"
	CauseKernel   = "kernel-only"
	CauseIll      = "impaired"
	CauseSilent   = "silent"
	CauseBye      = "shut-down"
	CauseNoKeeper = "no-keeper"
)

// Judge decides. The same Input gives the same Output, in the order of Input.Nodes.
func Judge(in Input) Output {
	j := judge{in: in, out: Output{Hold: in.Hold}, limit: silentPeriods * in.Period}
	if len(in.Nodes) > Many {
		j.limit = silentPeriodsMany * in.Period
	}
	j.holds()
	for i := range in.Nodes {
		j.node(&in.Nodes[i])
	}
	return j.out
}

type judge struct {
	in    Input
	out   Output
	limit time.Duration // of silence, for most nodes
	held  time.Time     // nobody is declared lost before
}

// at asks for a look at that time.
func (j *judge) at(t time.Time) {
	if t.After(j.in.Now) && (j.out.Next.IsZero() || t.Before(j.out.Next)) {
		j.out.Next = t
	}
}

func (j *judge) note(node, format string, args ...any) {
	j.out.Notes = append(j.out.Notes, Note{node, fmt.Sprintf(format, args...)})
}

// holds decides whether verdicts wait: the judge itself was late, has just begun, or most nodes are silent.
func (j *judge) holds() {
	if j.in.Late > late {
		j.held = j.in.LateAt.Add(j.in.Late)
	}
	if t := j.in.Began.Add(settling); t.After(j.held) {
		j.held = t
	}
	silent, all := 0, 0
	for i := range j.in.Nodes {
		n := &j.in.Nodes[i]
		if n.Verdict == model.NodeLost || n.Bye {
			continue
		}
		all++
		if !n.Local && j.since(n.sign(j.in.Now)) > j.limitOf(n)*2/3 {
			silent++
		}
	}
	h := &j.out.Hold
	switch most := 2*silent > all; {
	case !most && !h.Since.IsZero():
		early := !h.Confirmed && j.in.Now.Before(h.Since.Add(hold)) // else they were lost
		*h = Hold{}
		if early {
			h.Ended = j.in.Now
			j.note("", "Most nodes are heard again (%d of %d): nodes are judged as usual.", all-silent, all)
		}
	case most && h.Since.IsZero():
		*h = Hold{Since: j.in.Now}
		j.note("", "%d of %d nodes are silent at once, which rather means that this server's network is broken: none of them is replaced for %s. "+
			"If they are lost, say so: berth node confirm-lost", silent, all, hold)
	}
	if h.Since.IsZero() || h.Confirmed {
		return
	}
	if t := h.Since.Add(hold); t.After(j.held) {
		j.held = t
	}
}

// since is how long ago something was, at most since the judge began to listen.
func (j *judge) since(t time.Time) time.Duration {
	if t.Before(j.in.Began) {
		t = j.in.Began
	}
	return j.in.Now.Sub(t)
}

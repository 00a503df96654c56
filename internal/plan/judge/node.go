package judge

import (
	"fmt"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// beaten is when the node's last beat came to any server.
func (n *Node) beaten() (last time.Time) {
	for _, t := range n.Heard {
		last = latest(last, t)
	}
	return last
}

// streams tells that the node is judged by its session: it has never beaten, or says that its beats do not get through.
func (n *Node) streams(now time.Time) bool {
	beaten := n.beaten()
	return beaten.IsZero() || n.Stream.After(beaten) && now.Sub(n.Stream) < Streaming
}

// sign is the last sign of life of agent or keeper. What comes in a session counts when there is nothing else, or when it comes after
// the node was asked: else the last words of a machine that died would be taken for more than its silence.
func (n *Node) sign(now time.Time) time.Time {
	last := latest(n.beaten(), n.Agent, n.Keeper)
	if n.streams(now) || n.Session.After(n.Asked) && !n.Asked.IsZero() && n.Asked.After(last) {
		last = latest(last, n.Session, n.Stream)
	}
	return last
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// limitOf is how long a node may be silent.
func (j *judge) limitOf(n *Node) time.Duration {
	if n.NAT || n.streams(j.in.Now) {
		return Streaming
	}
	return max(j.limit, min(n.Pause*3/2, patience))
}

// node judges one node.
func (j *judge) node(n *Node) {
	if n.Local {
		j.alive(n)
		return
	}
	if n.Bye {
		j.say(n, model.NodeLost, CauseBye, n.beaten(), func() string { return "it said that it shuts down" })
		return
	}
	sign, limit := n.sign(j.in.Now), j.limitOf(n)
	if silent := j.since(sign); silent < limit {
		j.at(j.in.Now.Add(limit - silent))
		j.lives(n, sign)
		return
	}
	if n.Verdict == model.NodeLost {
		return // until it is heard
	}
	j.suspect(n, sign, limit)
}

// lives judges a node of which something was heard.
func (j *judge) lives(n *Node, sign time.Time) {
	if sign.IsZero() {
		return // nothing is known yet: what stands, stands
	}
	keeper := n.Keeper.After(n.Agent) && n.Keeper.After(n.beaten()) || n.Away && !n.Agent.After(n.beaten())
	if keeper && !n.Session.After(sign) {
		j.say(n, model.NodeAway, CauseKeeper, sign, func() string { return "its agent is not there, but the machine is; its tasks run" })
		j.tellAway(n)
		return
	}
	j.alive(n)
}

// alive judges a node whose agent is there.
func (j *judge) alive(n *Node) {
	if n.Ill != "" {
		j.say(n, model.NodeImpaired, CauseIll, n.beaten(), func() string { return n.Ill + "; it is given no tasks" })
		return
	}
	for k, t := range n.Heard {
		if len(n.Heard) > 1 && !n.Local && j.since(t) >= j.limitOf(n) && j.since(n.beaten()) < j.limitOf(n) {
			server := j.in.Servers[k]
			j.say(n, model.NodeAlive, CauseUnheard+":"+server, n.beaten(), func() string { return "its beats do not arrive at " + server })
			return
		}
	}
	j.say(n, model.NodeAlive, "", n.sign(j.in.Now), func() string { return "it is heard" })
}

// tellAway tells people of an agent that stays away.
func (j *judge) tellAway(n *Node) {
	if n.Verdict != model.NodeAway || n.Told {
		return
	}
	if at := n.Since.Add(away); j.in.Now.Before(at) {
		j.at(at)
		return
	}
	j.note(n.ID, "Its agent has been away for %s. Its tasks run on, and nothing is replaced.", away)
}

// suspect judges a node of which nothing was heard for too long.
func (j *judge) suspect(n *Node, sign time.Time, limit time.Duration) {
	if wait := j.in.Began.Add(settlingStream); n.streams(j.in.Now) && j.in.Now.Before(wait) {
		j.at(wait) // its session finds the server later than beats do
		return
	}
	from := latest(sign, j.in.Began, j.out.Hold.Ended)
	if wait := from.Add(limit); j.in.Now.Before(wait) {
		j.at(wait) // most are heard again, and so may this one be
		return
	}
	// What was asked before the silence was long enough was another question: its answer may be the last sign.
	asked := !n.Asked.IsZero() && !n.Asked.Before(from.Add(limit))
	if !n.NAT && (!asked || n.Kernel.After(n.Asked) && j.in.Now.Sub(n.Asked) >= limit) {
		j.out.Ask = append(j.out.Ask, n.ID)
		j.at(j.in.Now.Add(Probing))
		if asked {
			j.kernel(n, sign)
		}
		return
	}
	if at := n.Asked.Add(Probing); !n.NAT && j.in.Now.Before(at) {
		j.at(at)
		return
	}
	if !n.NAT && !n.Kernel.Before(n.Asked) {
		j.at(n.Asked.Add(limit))
		j.kernel(n, sign)
		return
	}
	if j.in.Now.Before(j.held) {
		j.at(j.held)
		return
	}
	j.say(n, model.NodeLost, CauseSilent, sign, func() string {
		if n.NAT {
			return fmt.Sprintf("nothing was heard of it for %s, and it cannot be asked", round(j.since(sign)))
		}
		return fmt.Sprintf("nothing was heard of it for %s, and it answers nobody", round(j.since(sign)))
	})
}

// kernel judges a machine whose kernel answers and nothing else.
func (j *judge) kernel(n *Node, sign time.Time) {
	since := latest(sign, j.in.Began).Add(keeperless)
	if j.in.Now.Before(since) || j.in.Now.Before(j.held) {
		j.at(latest(since, j.held))
		j.say(n, model.NodeAway, CauseKernel, sign, func() string {
			return fmt.Sprintf("neither its agent nor its keeper is there, but its kernel answers; its tasks are replaced %s after its last sign of life", keeperless)
		})
		return
	}
	j.say(n, model.NodeLost, CauseNoKeeper, sign, func() string {
		return fmt.Sprintf("neither its agent nor its keeper has been there for %s, though its kernel answers", keeperless)
	})
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// say pronounces a verdict, unless it stands.
func (j *judge) say(n *Node, is model.Verdict, cause string, heard time.Time, reason func() string) {
	if n.Verdict != is || n.Cause != cause {
		j.out.Verdicts = append(j.out.Verdicts, Verdict{Node: n.ID, Is: is, Cause: cause, Reason: reason(), Heard: heard})
	}
}

package judge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const period = 300 * time.Millisecond

func ago(d time.Duration) time.Time { return now.Add(-d) }

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// court is a judge of one server that has listened for an hour, with nodes around the one that a case is about.
func court(n Node, change ...func(*Input)) Input {
	n.ID = "n"
	in := Input{Now: now, Began: ago(time.Hour), Period: period, Servers: []string{"s1"}, Nodes: []Node{n}}
	for k := range 4 {
		in.Nodes = append(in.Nodes, Node{ID: fmt.Sprintf("other%d", k), Local: true})
	}
	for _, c := range change {
		c(&in)
	}
	return in
}

func beaten(d time.Duration) Node { return Node{Heard: []time.Time{ago(d)}} }

func (n Node) with(f func(*Node)) Node { f(&n); return n }

// script spells an output: what is said of nodes, who is asked, when to look again.
func script(in Input) string {
	out := Judge(in)
	var words []string
	for _, v := range out.Verdicts {
		words = append(words, fmt.Sprintf("%s %q %s", v.Node, v.Is, v.Cause))
	}
	for _, id := range out.Ask {
		words = append(words, "ask "+id)
	}
	for _, n := range out.Notes {
		words = append(words, "note "+n.Node)
	}
	if d := out.Next.Sub(in.Now); !out.Next.IsZero() {
		words = append(words, "+"+d.String())
	}
	return strings.Join(words, ", ")
}

func TestOneNode(t *testing.T) {
	lost := func(n *Node) { n.Verdict, n.Cause = model.NodeLost, CauseSilent }
	awayFor := func(d time.Duration) func(*Node) {
		return func(n *Node) { n.Away, n.Verdict, n.Cause, n.Since = true, model.NodeAway, CauseKeeper, ago(d) }
	}
	for _, c := range []struct {
		name string
		in   Input
		want string
	}{
		{"heard just now", court(beaten(ms(300))), "+600ms"},
		{"a beat was lost", court(beaten(ms(620))), "+280ms"},
		{"silent for three periods: it is asked", court(beaten(ms(900))), "ask n, +300ms"},
		{"and has time to answer", court(beaten(ms(1000)).with(func(n *Node) { n.Asked = ago(ms(100)) })), "+200ms"},
		{"its agent answered somebody", court(beaten(ms(1000)).with(func(n *Node) { n.Asked, n.Agent = ago(ms(100)), ago(ms(50)) })), "+850ms"},
		{"its session said something since", court(beaten(ms(1000)).with(func(n *Node) { n.Asked, n.Session = ago(ms(100)), ago(ms(50)) })), "+850ms"},
		{"its session's last words do not count", court(beaten(ms(1300)).with(func(n *Node) { n.Asked, n.Session = ago(ms(350)), ago(ms(1100)) })),
			`n "LOST" silent`},
		{"its keeper answered", court(beaten(ms(1000)).with(func(n *Node) { n.Asked, n.Keeper = ago(ms(100)), ago(ms(50)) })),
			`n "AWAY" agent-away, +850ms`},
		{"nobody got an answer", court(beaten(ms(1200)).with(func(n *Node) { n.Asked = ago(ms(300)) })), `n "LOST" silent`},
		{"it was asked before it was silent for long: that was another question", court(beaten(ms(1200)).with(func(n *Node) { n.Asked = ago(ms(700)) })),
			"ask n, +300ms"},
		{"an old answer is none", court(beaten(ms(1200)).with(func(n *Node) { n.Asked, n.Agent = ago(ms(300)), ago(ms(5000)) })), `n "LOST" silent`},
		{"lost and silent, nothing more happens", court(beaten(time.Minute).with(lost)), ""},
		{"lost and heard again", court(beaten(ms(100)).with(lost)), `n "" , +800ms`},

		{"the keeper beats in its agent's place", court(beaten(ms(100)).with(func(n *Node) { n.Away = true })), `n "AWAY" agent-away, +800ms`},
		{"which is told after a minute", court(beaten(ms(100)).with(awayFor(ms(59_500)))), "+500ms"},
		{"once", court(beaten(ms(100)).with(awayFor(time.Minute))), "note n, +800ms"},
		{"and not twice", court(beaten(ms(100)).with(awayFor(time.Hour)).with(func(n *Node) { n.Told = true })), "+800ms"},
		{"the agent is back", court(beaten(ms(100)).with(awayFor(time.Minute)).with(func(n *Node) { n.Away = false })), `n "" , +800ms`},
		{"a keeper dies with its machine as an agent does", court(beaten(ms(1200)).with(awayFor(time.Minute)).with(func(n *Node) { n.Asked = ago(ms(300)) })),
			`n "LOST" silent`},

		{"only the kernel answers", court(beaten(ms(1200)).with(func(n *Node) { n.Asked, n.Kernel = ago(ms(300)), ago(ms(250)) })),
			`n "AWAY" kernel-only, +600ms`},
		{"it is asked again and again", court(beaten(ms(5000)).with(func(n *Node) {
			n.Asked, n.Kernel, n.Verdict, n.Cause = ago(ms(900)), ago(ms(850)), model.NodeAway, CauseKernel
		})), "ask n, +300ms"},
		{"until a minute has passed", court(beaten(time.Minute).with(func(n *Node) {
			n.Asked, n.Kernel, n.Verdict, n.Cause = ago(ms(300)), ago(ms(250)), model.NodeAway, CauseKernel
		})), `n "LOST" no-keeper, +600ms`},
		{"or the kernel is gone too", court(beaten(ms(5000)).with(func(n *Node) {
			n.Asked, n.Kernel, n.Verdict, n.Cause = ago(ms(300)), ago(ms(1200)), model.NodeAway, CauseKernel
		})), `n "LOST" silent`},

		{"it shuts down", court(beaten(ms(10)).with(func(n *Node) { n.Bye = true })), `n "LOST" shut-down`},
		{"its disk hangs", court(beaten(ms(100)).with(func(n *Node) { n.Ill = "its disk does not finish writes" })), `n "IMPAIRED" impaired, +800ms`},
		{"and is well again", court(beaten(ms(100)).with(func(n *Node) { n.Verdict, n.Cause = model.NodeImpaired, CauseIll })), `n "" , +800ms`},

		{"a machine that stood still for 2 s gets 3", court(beaten(ms(2900)).with(func(n *Node) { n.Pause = 2 * time.Second })), "+100ms"},
		{"and is asked then", court(beaten(ms(3000)).with(func(n *Node) { n.Pause = 2 * time.Second })), "ask n, +300ms"},
		{"no machine gets more than 5 s", court(beaten(ms(5000)).with(func(n *Node) { n.Pause = time.Minute })), "ask n, +300ms"},

		{"one that cannot be asked has 5 s", court(beaten(ms(4900)).with(func(n *Node) { n.NAT = true })), "+100ms"},
		{"and is lost then", court(beaten(ms(5000)).with(func(n *Node) { n.NAT = true })), `n "LOST" silent`},
		{"one that only has a session has 5 s", court(Node{Session: ago(ms(4900))}), "+100ms"},
		{"and is asked then", court(Node{Session: ago(ms(5000))}), "ask n, +300ms"},
		{"UDP broke, and the session says so", court(beaten(ms(3000)).with(func(n *Node) { n.Stream = ago(ms(700)) })), "+4.3s"},
		{"and then says nothing", court(beaten(ms(9000)).with(func(n *Node) { n.Stream, n.Asked = ago(ms(5300)), ago(ms(300)) })), `n "LOST" silent`},
		{"never heard, in a judge's first seconds: what stands, stands", court(Node{}.with(lost), func(in *Input) { in.Began = ago(ms(500)) }), "+4.5s"},
		{"never heard: its session may need time to find the server", court(Node{}, func(in *Input) { in.Began = ago(10 * time.Second) }), "+20s"},
		{"never heard at all", court(Node{}), "ask n, +300ms"},
		{"in the judge's own process", court(Node{Local: true}), ""},
		{"also after a restart", court(Node{Local: true}.with(lost)), `n "" `},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := script(c.in); got != c.want {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestHolds(t *testing.T) {
	doomed := beaten(ms(1300)).with(func(n *Node) { n.Asked = ago(ms(400)) })
	silent := func(n int) func(*Input) {
		return func(in *Input) {
			for k := range n {
				in.Nodes[1+k] = doomed.with(func(o *Node) { o.ID = in.Nodes[1+k].ID })
			}
		}
	}
	held := func(d time.Duration, confirmed bool) func(*Input) {
		return func(in *Input) { in.Hold = Hold{Since: ago(d), Confirmed: confirmed} }
	}
	all := `n "LOST" silent, other0 "LOST" silent, other1 "LOST" silent`
	for _, c := range []struct {
		name string
		in   Input
		want string
	}{
		{"the judge was late: it may have missed beats", court(doomed, func(in *Input) { in.Late, in.LateAt = ms(500), ago(ms(100)) }), "+400ms"},
		{"a little late", court(doomed, func(in *Input) { in.Late, in.LateAt = ms(150), now }), `n "LOST" silent`},
		{"the judge has just begun", court(doomed, func(in *Input) { in.Began = ago(4 * time.Second) }), "+1s"},
		{"most nodes are silent", court(doomed, silent(2)), "note , +30s"},
		{"half of them are not most", court(doomed, silent(1), func(in *Input) { in.Nodes = in.Nodes[:4] }), `n "LOST" silent, other0 "LOST" silent`},
		{"for 30 s", court(doomed, silent(2), held(29*time.Second, false)), "+1s"},
		{"and then they are lost", court(doomed, silent(2), held(30*time.Second, false)), all},
		{"or when people say so", court(doomed, silent(2), held(time.Second, true)), all},
		{"they are heard again", court(beaten(ms(100)), held(time.Second, false)), "note , +800ms"},
		{"then the others get the time in which they would be heard", court(doomed, held(time.Second, false)), "note , +900ms"},
		{"and are asked anew", court(doomed, func(in *Input) { in.Hold.Ended = ago(ms(900)) }), "ask n, +300ms"},
		{"before they are lost", court(beaten(ms(2500)).with(func(n *Node) { n.Asked = ago(ms(300)) }), func(in *Input) { in.Hold.Ended = ago(ms(1200)) }), `n "LOST" silent`},
		{"a hold does not keep the living from being judged", court(beaten(ms(100)).with(func(n *Node) { n.Bye = true }), silent(3), held(time.Second, false)),
			`n "LOST" shut-down, +29s`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := script(c.in); got != c.want {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestServers: a node that one server hears lives, and it is said which do not hear it.
func TestServers(t *testing.T) {
	in := court(Node{Heard: []time.Time{ago(time.Minute), ago(ms(100))}}, func(in *Input) {
		in.Servers = []string{"s1", "s2"}
		for k := range in.Nodes[1:] {
			in.Nodes[1+k].Heard = []time.Time{ago(ms(100)), ago(ms(100))}
		}
	})
	if got, want := script(in), `n "" unreachable-from-server:s1, +800ms`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if out := Judge(in); out.Verdicts[0].Reason != "its beats do not arrive at s1" {
		t.Errorf("the reason is %q", out.Verdicts[0].Reason)
	}
	in.Nodes[0].Heard[1] = ago(ms(1300))
	if got, want := script(in), "ask n, +300ms"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestManyNodes: above 3,000 nodes a node is suspect after two periods.
func TestManyNodes(t *testing.T) {
	in := court(beaten(ms(1000)), func(in *Input) {
		in.Period = 500 * time.Millisecond
		for range Many {
			in.Nodes = append(in.Nodes, beaten(ms(100)))
		}
	})
	if out := Judge(in); !slices.Equal(out.Ask, []string{"n"}) || len(out.Verdicts) > 0 {
		t.Errorf("%v %v", out.Ask, out.Verdicts)
	}
}

// TestProperties: nobody is lost who was heard within its limit, answered, or was not asked; a judge that holds loses nobody; what is
// said is not said again; and a node of which nothing is ever heard is lost in the end.
func TestProperties(t *testing.T) {
	when := func(t *rapid.T, name string) time.Time {
		if rapid.Bool().Draw(t, name+" ever") {
			return ago(time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, name)))
		}
		return time.Time{}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := court(Node{})
		in.Began = ago(time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "began")))
		if rapid.Bool().Draw(t, "late") {
			in.Late, in.LateAt = ms(rapid.IntRange(0, 1000).Draw(t, "by")), when(t, "late at")
		}
		for k := range in.Nodes {
			n := &in.Nodes[k]
			n.Heard, n.Local = []time.Time{when(t, "heard")}, false
			n.Asked, n.Agent, n.Keeper, n.Kernel = when(t, "asked"), when(t, "agent"), when(t, "keeper"), when(t, "kernel")
			n.Session, n.Stream = when(t, "session"), when(t, "stream")
			n.NAT, n.Away, n.Bye = rapid.Bool().Draw(t, "nat"), rapid.Bool().Draw(t, "away"), rapid.IntRange(0, 9).Draw(t, "bye") == 0
			n.Pause = ms(rapid.IntRange(0, 4000).Draw(t, "pause"))
		}
		out := Judge(in)
		for _, v := range out.Verdicts {
			n := &in.Nodes[slices.IndexFunc(in.Nodes, func(n Node) bool { return n.ID == v.Node })]
			if v.Is != model.NodeLost || n.Bye {
				continue
			}
			last := latest(n.Heard[0], n.Agent, n.Keeper)
			switch {
			case now.Sub(last) < silentPeriods*period:
				t.Fatalf("lost %s after its last sign", now.Sub(last))
			case !n.NAT && (n.Asked.IsZero() || now.Sub(n.Asked) < Probing || n.Asked.Sub(last) < silentPeriods*period):
				t.Fatalf("lost unasked: %+v", n)
			case n.NAT && now.Sub(latest(last, in.Began)) < Streaming:
				t.Fatalf("lost too early: %+v", n)
			case in.Late > late && now.Before(in.LateAt.Add(in.Late)), now.Sub(in.Began) < settling, !out.Hold.Since.IsZero():
				t.Fatalf("lost while verdicts wait: %+v", out)
			}
		}
		if again := Judge(in); fmt.Sprint(again) != fmt.Sprint(out) {
			t.Fatal("the same input gave another output")
		}
		follow(t, in, out)
	})
}

// follow carries the output out, and lets time pass in which nothing more is heard.
func follow(t *rapid.T, in Input, out Output) {
	for range 60 {
		for _, v := range out.Verdicts {
			for k := range in.Nodes {
				if n := &in.Nodes[k]; n.ID == v.Node {
					n.Verdict, n.Cause, n.Since = v.Is, v.Cause, in.Now
				}
			}
		}
		for _, id := range out.Ask {
			for k := range in.Nodes {
				if in.Nodes[k].ID == id {
					in.Nodes[k].Asked = in.Now
				}
			}
		}
		for _, n := range out.Notes {
			for k := range in.Nodes {
				in.Nodes[k].Told = in.Nodes[k].Told || in.Nodes[k].ID == n.Node
			}
		}
		in.Hold = out.Hold
		if again := Judge(in); len(again.Verdicts)+len(again.Notes) > 0 {
			t.Fatalf("said again at once: %+v", again)
		}
		if out.Next.IsZero() {
			break
		}
		in.Now = out.Next
		out = Judge(in)
	}
	for _, n := range in.Nodes {
		if n.Verdict != model.NodeLost {
			t.Fatalf("nothing is heard of %s, and it is not lost: %+v", n.ID, n)
		}
	}
}

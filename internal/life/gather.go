package life

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/judge"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Port is that of the cluster, for beats too.
const Port = 4567

// introduce tells the beats' server of a node. mu is held.
func (l *Life) introduce(n *node) {
	if l.hearing.Beats == nil || !n.named || n.row.ID == l.Local {
		return
	}
	at, err := netip.ParseAddr(n.row.Address)
	var to netip.AddrPort
	if err == nil && !at.IsLoopback() {
		to = netip.AddrPortFrom(at, Port)
	}
	l.hearing.Beats.Put(n.id, l.hearing.Key(n.row.ID), to)
}

// period is that of beats, which a fleet's size decides. mu is held.
func (l *Life) period() time.Duration {
	period := timeouts.Beat
	if len(l.order) > judge.Many {
		period = timeouts.BeatMany
	}
	if l.hearing.Beats != nil {
		l.hearing.Beats.SetPeriod(period)
	}
	return period
}

// gather puts together what is known. mu is held; what it returns is good until it is called again.
func (l *Life) gather() judge.Input {
	in := judge.Input{Now: l.Now(), Began: latest(l.began, l.heardAt), Period: l.period(), Servers: []string{l.Name}, Late: l.late, LateAt: l.lateAt, Hold: l.hold}
	var others []Other
	if l.hearing.Others != nil {
		others = l.hearing.Others()
	}
	for _, o := range others {
		in.Servers = append(in.Servers, o.Name())
	}
	l.input, l.times = l.input[:0], l.times[:0]
	if need := len(l.order) * len(in.Servers); cap(l.times) < need {
		l.times = make([]time.Time, 0, need+need/4)
	}
	for _, n := range l.order {
		l.input = append(l.input, l.describe(n, in.Servers, in.Now))
	}
	in.Nodes = l.input
	return in
}

// describe is one node as the judge sees it.
func (l *Life) describe(n *node, servers []string, now time.Time) judge.Node {
	row := n.row
	out := judge.Node{ID: row.ID, Verdict: row.Life.Verdict, Cause: row.Life.Cause, Since: n.since, Told: n.told, Local: row.ID == l.Local,
		NAT: row.Attributes[model.AttributeReachable] == "false", Session: n.session, Stream: n.stream, Asked: n.asked, Kernel: n.kernel}
	at := len(l.times)
	var newest time.Time
	var health beat.Health
	for k, server := range servers {
		h := n.others[server]
		if k == 0 && l.hearing.Beats != nil && n.named {
			if here, ok := l.hearing.Beats.Heard(n.id); ok {
				h = heard{beat: here.Last, agent: here.Agent, keeper: here.Keeper, health: here.Health}
				out.Pause = here.Pause
			}
		}
		l.times = append(l.times, h.beat)
		out.Agent, out.Keeper = latest(out.Agent, h.agent), latest(out.Keeper, h.keeper)
		if h.beat.After(newest) {
			newest, health = h.beat, h.health
		}
	}
	for k, server := range servers { // what was not asked lately is no sign of silence, and nobody beats to itself
		if k > 0 && (server == row.ID || now.Sub(n.others[server].said) > 2*timeouts.LifeMost) {
			l.times[at+k] = newest
		}
	}
	if out.Local && l.Health != nil {
		health = l.Health() &^ (beat.Away | beat.Bye)
	}
	out.Heard = l.times[at:len(l.times):len(l.times)]
	out.Away, out.Bye, out.Ill = health&beat.Away != 0, health&beat.Bye != 0, words(health)
	return out
}

// ask asks nodes whether they live: by packets, by other nodes, by other servers, and their kernels. mu is held.
func (l *Life) ask(ctx context.Context, ids []string) {
	if len(ids) == 0 {
		return
	}
	now := l.Now()
	for _, id := range ids {
		n := l.nodes[id]
		n.asked = now
		l.probe(n)
		l.askKernel(ctx, n)
	}
	time.AfterFunc(judge.Probing/2, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range ids {
			if n := l.nodes[id]; n != nil && ctx.Err() == nil {
				l.probe(n)
			}
		}
	})
	if l.hearing.Others == nil {
		return
	}
	for _, o := range l.hearing.Others() {
		go l.askOther(ctx, o, ids)
	}
}

// probe sends one round of probes. mu is held.
func (l *Life) probe(n *node) {
	if l.hearing.Beats != nil && n.named {
		l.hearing.Beats.Probe(n.id, l.carriers(n))
	}
}

// carriers are the nodes that carry a probe: one of the same zone, two of others, as far as there are.
func (l *Life) carriers(of *node) (ids []beat.ID) {
	zone, same, other := zoneOf(of), 0, 0
	start := rand.N(len(l.order))
	for k := range min(len(l.order), 64) {
		n := l.order[(start+k)%len(l.order)]
		if n == of || !n.named || n.row.Life.Verdict != model.NodeAlive || n.row.ID == l.Local {
			continue
		}
		count, most := &other, 2
		if zoneOf(n) == zone {
			count, most = &same, 1
		}
		if *count < most {
			*count++
			ids = append(ids, n.id)
		}
	}
	return ids
}

func zoneOf(n *node) string { return n.row.Attributes["ecs.availability-zone"] }

// maxDialing bounds the kernels that are asked at a time: when more nodes are silent at once, that is not what tells them apart.
const maxDialing = 64

func (l *Life) askKernel(ctx context.Context, n *node) {
	if n.row.Address == "" || l.dialing >= maxDialing {
		return
	}
	l.dialing++
	id, address := n.row.ID, n.row.Address
	go func() {
		ctx, cancel := context.WithTimeout(ctx, judge.Probing)
		defer cancel()
		answers := l.Kernel(ctx, address)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dialing--
		if n := l.nodes[id]; n != nil && answers {
			n.kernel = l.Now()
		}
	}()
}

// dialKernel tells whether anything answers at the cluster port: a refusal does as well.
func dialKernel(ctx context.Context, address string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(Port)))
	if err == nil {
		_ = conn.Close()
	}
	return err == nil || errors.Is(err, unix.ECONNREFUSED)
}

// askOther takes in what another server knows.
func (l *Life) askOther(ctx context.Context, o Other, ids []string) {
	ctx, cancel := context.WithTimeout(ctx, judge.Probing)
	defer cancel()
	signs, err := o.Hear(ctx, ids)
	if err != nil {
		l.Log.Debug("another server does not say what it hears", "server", o.Name(), "error", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.Now()
	ago := func(d time.Duration) time.Time {
		if d < 0 {
			return time.Time{}
		}
		return now.Add(-d)
	}
	for _, id := range ids {
		n := l.nodes[id]
		if n == nil {
			continue
		}
		h := n.others[o.Name()]
		if s, ok := signs[id]; ok {
			h = heard{beat: ago(s.Beat), agent: ago(s.Agent), keeper: ago(s.Keeper), health: s.Health}
		}
		h.said = now
		n.others[o.Name()] = h
	}
}

// askOfLost asks the other servers, now and then, of nodes that are lost: they may hear them first. mu is held.
func (l *Life) askOfLost(ctx context.Context, in judge.Input) {
	if len(in.Servers) == 1 || in.Now.Sub(l.asked) < timeouts.LifeMost {
		return
	}
	l.asked = in.Now
	var lost []string
	for i := range in.Nodes {
		if in.Nodes[i].Verdict == model.NodeLost {
			lost = append(lost, in.Nodes[i].ID)
		}
	}
	if len(lost) > 0 {
		for _, o := range l.hearing.Others() {
			go l.askOther(ctx, o, lost)
		}
	}
}

// Hear is what this server knows of nodes of which another one hears nothing. It probes them, and waits a little for their answers.
func (l *Life) Hear(ctx context.Context, ids []string) map[string]Signs {
	l.mu.Lock()
	for _, id := range ids[:min(len(ids), maxDialing)] { // a question of more is of a third of the fleet: packets would be lost
		if n := l.nodes[id]; n != nil {
			l.probe(n)
		}
	}
	l.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(judge.Probing / 2):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, out := l.Now(), map[string]Signs{}
	for _, id := range ids {
		n := l.nodes[id]
		if n == nil || !n.named || l.hearing.Beats == nil {
			continue
		}
		if h, ok := l.hearing.Beats.Heard(n.id); ok {
			out[id] = Signs{Beat: age(now, h.Last), Agent: age(now, h.Agent), Keeper: age(now, h.Keeper), Health: h.Health}
		}
	}
	return out
}

func age(now, t time.Time) time.Duration {
	if t.IsZero() {
		return -1
	}
	return now.Sub(t)
}

// verdictsAtATime bounds a transaction.
const verdictsAtATime = 1000

// pronounce stores verdicts: one row a node.
func (l *Life) pronounce(ctx context.Context, all []judge.Verdict) error {
	var g errgroup.Group
	for some := range slices.Chunk(all, verdictsAtATime) {
		g.Go(func() error { // side by side, so that one commit has them all
			return l.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
				for _, v := range some {
					l.write(tx, v)
				}
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, v := range all {
		l.Log.Info("verdict", "node", v.Node, "is", string(v.Is), "cause", v.Cause, "reason", v.Reason)
	}
	return nil
}

func (l *Life) write(tx store.Tx, v judge.Verdict) {
	old, ok := store.Nodes.Get(tx, v.Node)
	if !ok || old.Life.Verdict == v.Is && old.Life.Cause == v.Cause {
		return
	}
	row := *old
	row.Life = model.Life{Verdict: v.Is, Cause: v.Cause, Reason: v.Reason, Since: l.Now().Round(0), Heard: v.Heard.Round(0)}
	if v.Is == model.NodeAlive && v.Cause == "" {
		row.Life = model.Life{}
	}
	store.Nodes.Put(tx, &row)
}

package life

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/beat/beattest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var seedFlag = flag.Uint64("seed", 0, "of the simulation; 0: several")

var secret = []byte("the cluster's")

// world is servers and machines on a network in memory, in a bubble.
type world struct {
	t        *testing.T
	ctx      context.Context
	net      *beattest.Net
	store    store.Store
	servers  []*server
	machines []*machine
	began    time.Time

	mu  sync.Mutex
	cut map[[2]string]bool // by names, one way
}

type server struct {
	name string
	life *Life
	beat *beat.Server
}

// machine is a node and its keeper.
type machine struct {
	w      *world
	id     string
	addr   netip.AddrPort
	node   *beat.Node // whoever has the port
	stop   context.CancelFunc
	boot   uint64
	dead   time.Time     // when the power was cut; zero: it is on
	asleep time.Duration // until when it stands still, since the world began
	mu     sync.Mutex
}

func keyOf(node string) beat.Key {
	return beat.Key(sha256.Sum256(append(slices.Clone(secret), node...)))
}

func newWorld(t *testing.T, seed uint64, servers, machines int) *world {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, net: beattest.NewNet(seed), store: mem.New(store.Schema()), began: time.Now().Add(-time.Hour), cut: map[[2]string]bool{}}
	w.net.Cut(func(from, to netip.AddrPort) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.cut[[2]string{from.Addr().String(), to.Addr().String()}]
	})
	for k := range servers {
		s := &server{name: fmt.Sprintf("s%d", k+1)}
		s.life = New(Config{Store: w.store, Name: s.name, Leads: func() bool { return s == w.servers[0] }, Kernel: func(context.Context, string) bool { return false }})
		s.beat = beat.NewServer(beat.ServerConfig{OnBye: s.life.Bye})
		w.servers = append(w.servers, s)
		go func() { _ = beat.NewPort(w.net.Listen(w.server(k)), s.beat, nil).Run(ctx) }()
	}
	for k, s := range w.servers {
		s.life.Listen(Hearing{Beats: s.beat, Key: keyOf, Others: func() (all []Other) {
			for i, o := range w.servers {
				if o != s {
					all = append(all, other{w, k, i})
				}
			}
			return all
		}})
		go func() { _ = s.life.Run(ctx) }()
	}
	for k := range machines {
		w.add(k)
	}
	return w
}

func (w *world) server(k int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(k + 1)}), Port)
}

// other is a server as another one asks it.
type other struct {
	w        *world
	from, to int
}

func (o other) Name() string { return o.w.servers[o.to].name }

func (o other) Hear(ctx context.Context, ids []string) (map[string]Signs, error) {
	if o.w.isCut(o.w.server(o.from), o.w.server(o.to)) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return o.w.servers[o.to].life.Hear(ctx, ids), nil
}

func (w *world) isCut(a, b netip.AddrPort) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut[[2]string{a.Addr().String(), b.Addr().String()}] || w.cut[[2]string{b.Addr().String(), a.Addr().String()}]
}

// sever cuts packets from a to b; mend lets all pass again.
func (w *world) sever(a, b netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]string{a.Addr().String(), b.Addr().String()}] = true
}

func (w *world) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
}

func (w *world) add(k int) {
	m := &machine{w: w, id: fmt.Sprintf("%032x", k+1), addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(k + 1)}), Port), boot: uint64(k + 1)}
	w.machines = append(w.machines, m)
	err := w.store.Update(w.ctx, func(tx store.Tx) error {
		store.Nodes.Put(tx, &model.Node{ID: m.id, Connected: true, Epoch: 1, Declaration: model.Declaration{Address: m.addr.Addr().String(),
			Attributes: map[string]string{"ecs.availability-zone": string(rune('a' + k%3))}}})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m.start(false)
}

// start has the agent, or the keeper, take the port.
func (m *machine) start(away bool) {
	if m.stop != nil {
		m.stop()
	}
	ctx, cancel := context.WithCancel(m.w.ctx)
	m.stop = cancel
	id, _ := beat.ParseID(m.id)
	key := keyOf(m.id)
	n := beat.NewNode(beat.NodeConfig{ID: id, Boot: m.boot, Away: away, Clock: m.clock})
	var names []string
	for k := range m.w.servers {
		names = append(names, m.w.server(k).String())
	}
	if err := n.Set(beat.Settings{Servers: names, Key: key[:]}); err != nil {
		m.w.t.Fatal(err)
	}
	m.node = n
	port := beat.NewPort(m.w.net.Listen(m.addr), nil, n)
	go func() { _ = port.Run(ctx) }()
	go n.Run(ctx)
}

// clock is the machine's; whoever asks while it stands still waits.
func (m *machine) clock() time.Duration {
	m.mu.Lock()
	until := m.asleep
	m.mu.Unlock()
	now := time.Since(m.w.began)
	if now < until {
		time.Sleep(until - now)
	}
	return time.Since(m.w.began)
}

func (m *machine) pause(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asleep = time.Since(m.w.began) + d
}

func (m *machine) powerOff() {
	if m.dead.IsZero() {
		m.stop()
		m.dead = time.Now()
	}
}

func (m *machine) powerOn() {
	if !m.dead.IsZero() {
		m.dead = time.Time{}
		m.boot += 1000
		m.start(false)
	}
}

func (m *machine) life() (l model.Life) {
	m.w.store.View(func(r store.Reader) {
		if n, ok := store.Nodes.Get(r, m.id); ok {
			l = n.Life
		}
	})
	return l
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestDeath: how long it takes, and what is said.
func TestDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1, 5)
		w.pass(10 * time.Second)
		m := w.machines[0]
		for _, x := range w.machines {
			if x.life().Verdict != model.NodeAlive {
				t.Fatalf("%s: %+v", x.id, x.life())
			}
		}
		m.powerOff()
		var lost time.Duration
		for m.life().Verdict != model.NodeLost && lost < 3*time.Second {
			w.pass(10 * time.Millisecond)
			lost += 10 * time.Millisecond
		}
		last := time.Since(m.life().Heard)
		if last < 1200*time.Millisecond || last > 1300*time.Millisecond {
			t.Errorf("lost %v after its last beat (%v after its death): %+v", last, lost, m.life())
		}
		m.powerOn()
		w.pass(time.Second)
		if m.life().Verdict != model.NodeAlive {
			t.Errorf("back: %+v", m.life())
		}
		m.start(true)
		w.pass(time.Second)
		if l := m.life(); l.Verdict != model.NodeAway || l.Reason == "" {
			t.Errorf("its agent is dead: %+v", l)
		}
		m.start(false)
		w.pass(time.Second)
		m.node.Bye(w.ctx)
		w.pass(10 * time.Millisecond)
		if l := m.life(); l.Verdict != model.NodeLost || l.Cause != "shut-down" {
			t.Errorf("it said bye: %+v", l)
		}
	})
}

// TestSession: a node that only has a session is judged by that, and the node of the own process is not judged at all.
func TestSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1, 3)
		l := w.servers[0].life
		w.pass(40 * time.Second)
		m := w.machines[0]
		m.stop()
		w.pass(900 * time.Millisecond) // it is being asked
		for range 20 {
			l.Session(m.id, true)
			w.pass(time.Second)
			if v := m.life().Verdict; v == model.NodeLost {
				t.Fatalf("lost though its session says that it lives: %+v", m.life())
			}
		}
		if at, ok := l.Heard(m.id); !ok || time.Since(at) > time.Second {
			t.Errorf("heard %v %v", at, ok)
		}
		w.pass(7 * time.Second)
		if m.life().Verdict != model.NodeLost {
			t.Errorf("its session is silent: %+v", m.life())
		}
		l.mu.Lock()
		l.Local = m.id
		l.mu.Unlock()
		l.wake()
		w.pass(time.Second)
		if m.life().Verdict != model.NodeAlive {
			t.Errorf("in this process: %+v", m.life())
		}
	})
}

// TestHold: when most are silent nobody is lost for 30 s, or until people say so.
func TestHold(t *testing.T) {
	for _, confirm := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, 1, 5)
			w.pass(10 * time.Second)
			lost := func() (n int) {
				for _, m := range w.machines {
					if m.life().Verdict == model.NodeLost {
						n++
					}
				}
				return n
			}
			for _, m := range w.machines[:3] {
				m.powerOff()
			}
			if w.pass(20 * time.Second); lost() != 0 {
				t.Fatalf("%d are lost, though most were silent at once", lost())
			}
			if confirm {
				if !w.servers[0].life.Confirm() {
					t.Fatal("there is nothing to confirm")
				}
				w.pass(time.Second)
			} else {
				w.pass(13 * time.Second)
			}
			if lost() != 3 || w.servers[0].life.Confirm() {
				t.Errorf("%d are lost", lost())
			}
		})
	}
}

// TestHarm: with two servers, lost and late packets, and machines that lose power, stand still, are cut off (also one way), lose their
// agents: who is there and can be reached is not lost; who is not, is; and when the harm ends all verdicts are right.
func TestHarm(t *testing.T) {
	seeds := []uint64{rand.Uint64() % 1e6, rand.Uint64() % 1e6, rand.Uint64() % 1e6}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			h := &harm{world: newWorld(t, seed, 2, 12), rng: rand.New(rand.NewPCG(seed, 1)), excused: map[*machine]time.Time{}}
			h.run()
			if t.Failed() {
				t.Logf("run again with -seed=%d:\n%s", seed, strings.Join(h.told, "\n"))
			}
		})
		t.Logf("seed %d", seed)
	}
}

// harm is a schedule.
type harm struct {
	*world
	rng     *rand.Rand
	told    []string
	excused map[*machine]time.Time // may be lost until then: it stood still for long, or could not be reached
}

func (h *harm) say(format string, args ...any) {
	h.told = append(h.told, fmt.Sprintf("%s "+format, append([]any{time.Since(h.began) - time.Hour}, args...)...))
}

// tolerance is more than any node may be silent without being lost: one that stood still has up to 5 s, half a second for its probes.
const tolerance = 5500 * time.Millisecond

func (h *harm) run() {
	h.net.Disturb(0.01, 20*time.Millisecond)
	h.pass(10 * time.Second)
	for range 60 {
		h.happen()
		for range 20 {
			h.pass(100 * time.Millisecond)
			h.check()
		}
	}
	h.mend()
	for _, m := range h.machines {
		if m.dead.IsZero() {
			m.start(false)
		}
	}
	h.pass(45 * time.Second)
	for _, m := range h.machines {
		want := model.NodeAlive
		if !m.dead.IsZero() {
			want = model.NodeLost
		}
		if m.life().Verdict != want {
			h.t.Errorf("in the end %s is %+v, want %q", m.addr, m.life(), want)
		}
	}
}

func (h *harm) happen() {
	m := h.machines[h.rng.IntN(len(h.machines))]
	off := 0
	for _, x := range h.machines {
		if !x.dead.IsZero() {
			off++
		}
	}
	switch h.rng.IntN(9) {
	case 0, 1:
		if off < 4 {
			h.say("power off %s", m.addr)
			m.powerOff()
		}
	case 2, 3:
		for _, x := range h.machines {
			if !x.dead.IsZero() {
				h.say("power on %s", x.addr)
				x.powerOn()
				break
			}
		}
	case 4:
		if m.dead.IsZero() {
			d := time.Duration(h.rng.Int64N(int64(3 * time.Second)))
			h.say("%s stands still for %v", m.addr, d)
			m.pause(d)
			h.excused[m] = time.Now().Add(d + 2*time.Second)
		}
	case 5:
		if m.dead.IsZero() {
			away := h.rng.IntN(2) == 0
			h.say("%s: agent away %v", m.addr, away)
			m.start(away)
		}
	case 6: // one server does not hear it, or it not the server: somebody else does
		a, b := m.addr, h.server(h.rng.IntN(2))
		if h.rng.IntN(2) == 0 {
			a, b = b, a
		}
		h.say("cut %s -> %s", a, b)
		h.sever(a, b)
	case 7, 8:
		h.say("mend")
		h.mend()
	}
}

// check compares verdicts with the truth.
func (h *harm) check() {
	for _, m := range h.machines {
		l := m.life()
		switch {
		case m.dead.IsZero() && l.Verdict == model.NodeLost && time.Now().After(h.excused[m]):
			if h.reached(m) {
				h.t.Errorf("%v: %s lives and is called %+v", time.Since(h.began)-time.Hour, m.addr, l)
				h.excused[m] = time.Now().Add(time.Hour)
			}
		case m.dead.IsZero():
		case l.Verdict != model.NodeLost && time.Since(m.dead) > tolerance:
			h.t.Errorf("%v: %s has been dead for %v and is called %+v", time.Since(h.began)-time.Hour, m.addr, time.Since(m.dead), l)
			m.dead = time.Now().Add(time.Hour)
		}
		if !m.dead.IsZero() {
			h.excused[m] = time.Now().Add(24 * time.Hour)
		} else if h.excused[m].After(time.Now().Add(23 * time.Hour)) {
			h.excused[m] = time.Now().Add(2 * time.Second) // it was switched on just now
		}
	}
}

// reached tells whether beats of the machine get to the leader, or to the other server which tells it.
func (h *harm) reached(m *machine) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := m.addr.Addr().String()
	for k := range h.servers {
		s := h.server(k).Addr().String()
		if !h.cut[[2]string{from, s}] && !h.cut[[2]string{s, from}] {
			return true
		}
	}
	return false
}

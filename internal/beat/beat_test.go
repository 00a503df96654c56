package beat

import (
	"net/netip"
	"testing"
	"time"
)

var one, two = ID{1}, ID{2}

func TestBeats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, ServerConfig{})
		n := c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		wait(time.Millisecond)
		if h := c.heard(one); h.Last.IsZero() || h.Boot != 5 || h.Epoch != 7 || h.Health != 0 || h.Pause != 0 {
			t.Fatalf("after the first beat and its cookie: %+v", h)
		}
		for range 20 {
			wait(time.Second)
			if s := c.silent(one); s > 330*time.Millisecond {
				t.Fatalf("silent for %v", s)
			}
		}
		if age, ok := n.Lease(); !ok || age > 330*time.Millisecond || !n.Passes() {
			t.Errorf("the lease is %v old (%v)", age, ok)
		}
		c.server.SetPeriod(500 * time.Millisecond)
		wait(2 * time.Second)
		before := c.sent()
		wait(10 * time.Second)
		if n := (c.sent() - before) / 2; n < 18 || n > 22 {
			t.Errorf("%d beats in 10 s, want 20: the server sets the period", n)
		}
		n.kill()
		wait(5 * time.Second)
		if s := c.silent(one); s < 4*time.Second {
			t.Errorf("a dead node was heard %v ago", s)
		}
	})
}

// TestLease: the lease is as old as the answering server's own contact with the leader, and a cut node's runs out.
func TestLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, ServerConfig{Age: func() time.Duration { return 700 * time.Millisecond }})
		n := c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		if _, ok := n.Lease(); ok {
			t.Error("a lease before any answer")
		}
		wait(time.Second)
		if age, ok := n.Lease(); !ok || age < 700*time.Millisecond || age > 1040*time.Millisecond {
			t.Errorf("the lease is %v old (%v)", age, ok)
		}
		c.cutOff(func(from, to netip.AddrPort) bool { return from.String() == serverAddr }) // one way
		wait(10 * time.Second)
		if age, _ := n.Lease(); age < 10*time.Second || n.Passes() {
			t.Errorf("cut off, the lease is %v old", age)
		}
		if s := c.silent(one); s > 330*time.Millisecond {
			t.Errorf("the other way is open, and the node is silent for %v", s)
		}
	})
}

// TestReplay: no packet that was once sent counts again: not in the same run of the server, not in the next, not after another boot.
func TestReplay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, ServerConfig{})
		c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5}).kill()
		n := c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		wait(3 * time.Second)
		n.kill()
		evil := c.listen("10.6.6.6:1")
		replay := func(what string) {
			t.Helper()
			before := c.heard(one)
			wait(10 * time.Second)
			for _, s := range c.all() {
				s.Addr = netip.MustParseAddrPort(serverAddr)
				evil.Write([]Datagram{s.Datagram})
			}
			wait(time.Second)
			if after := c.heard(one); after.Last != before.Last || after.Boot != before.Boot {
				t.Errorf("%s: heard %v later", what, after.Last.Sub(before.Last))
			}
		}
		replay("the same run")
		c.serve(ServerConfig{})
		c.server.Put(one, keyOf(secret, one), netip.AddrPort{})
		replay("the server's next run")
		n = c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 6})
		wait(3 * time.Second)
		if h := c.heard(one); h.Boot != 6 {
			t.Fatalf("the node's next boot: %+v", h)
		}
		n.kill()
		replay("the boot before")
	})
}

// TestRestart: an agent that is started again, and a keeper in its place, are heard with their first beats.
func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, ServerConfig{})
		n := c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		wait(time.Second)
		for _, away := range []bool{true, false} {
			n.kill()
			n = c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5, Away: away})
			wait(time.Millisecond)
			if h := c.heard(one); time.Since(h.Last) > time.Millisecond || (h.Health&Away != 0) != away {
				t.Errorf("away %v: %+v", away, h)
			}
		}
		n.kill()
		wait(2 * time.Second)
		n = c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 6})
		wait(time.Millisecond)
		if h := c.heard(one); time.Since(h.Last) > time.Millisecond || h.Boot != 6 {
			t.Errorf("after a reboot: %+v", h)
		}
		c.serve(ServerConfig{})
		c.server.Put(one, keyOf(secret, one), netip.AddrPort{})
		wait(400 * time.Millisecond)
		if s := c.silent(one); s > 330*time.Millisecond {
			t.Errorf("the server's next run has not heard the node for %v", s)
		}
	})
}

// TestClone: a second machine of the same id is noticed and not believed while the first one beats.
func TestClone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, ServerConfig{})
		n := c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		wait(time.Second)
		c.join("10.0.0.12:4567", NodeConfig{ID: one, Boot: 6})
		before := c.sent()
		wait(10 * time.Second)
		h := c.heard(one)
		if h.Boot != 5 || time.Since(h.Clone) > time.Second || c.silent(one) > 330*time.Millisecond {
			t.Errorf("with a clone: %+v", h)
		}
		if n := c.sent() - before; n > 160 {
			t.Errorf("%d packets in 10 s: a refused beat is answered by another", n)
		}
		n.kill()
		wait(3 * time.Second)
		if h := c.heard(one); h.Boot != 6 {
			t.Errorf("alone, the other is believed: %+v", h)
		}
	})
}

// TestPause: a machine that stood still says so, and one whose clock stood too is found out; a cut is neither.
func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, ServerConfig{})
		n := c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		wait(time.Second)
		c.cutOff(func(_, _ netip.AddrPort) bool { return true })
		wait(3 * time.Second)
		c.cutOff(nil)
		wait(time.Second)
		if p := c.heard(one).Pause; p != 0 {
			t.Errorf("a cut was taken for a pause of %v", p)
		}
		n.beat(c.clock(), 1200*time.Millisecond)
		wait(time.Millisecond)
		if p := c.heard(one).Pause; p != 1200*time.Millisecond {
			t.Errorf("a pause of 1.2 s was told as %v", p)
		}
		wait(11 * time.Minute)
		if p := c.heard(one).Pause; p != 0 {
			t.Errorf("11 minutes later it is told as %v", p)
		}
		n.kill()
		c.stall(2 * time.Second) // a snapshot of the machine goes on two seconds later
		wait(2100 * time.Millisecond)
		c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		wait(time.Second)
		if p := c.heard(one).Pause; p < 2*time.Second {
			t.Errorf("a clock that stood for two seconds was told as a pause of %v", p)
		}
	})
}

// TestProbes: a node whose beats do not arrive answers, itself or by way of another; a keeper answers as such; a stranger's asking is
// nothing.
func TestProbes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, ServerConfig{})
		n := c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		c.join("10.0.0.12:4567", NodeConfig{ID: two, Boot: 9})
		wait(time.Second)
		asked := func() (agent, keeper bool) {
			wait(time.Second)
			now := time.Now()
			c.server.Probe(one, []ID{two, {3}})
			wait(300 * time.Millisecond)
			h := c.heard(one)
			return !h.Agent.Before(now), !h.Keeper.Before(now)
		}
		if agent, keeper := asked(); !agent || keeper {
			t.Errorf("a live node answers: %v %v", agent, keeper)
		}
		a, s := netip.MustParseAddrPort("10.0.0.11:4567"), netip.MustParseAddrPort(serverAddr)
		c.cutOff(func(from, to netip.AddrPort) bool { return from == a && to == s || from == s && to == a })
		if agent, _ := asked(); !agent {
			t.Error("cut off from the server only, it does not answer by way of the other")
		}
		if s := c.silent(one); s < time.Second {
			t.Errorf("an answer was taken for a beat: %v", s)
		}
		n.kill()
		if agent, keeper := asked(); agent || keeper {
			t.Errorf("a dead node answers: %v %v", agent, keeper)
		}
		c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5, Away: true})
		if agent, keeper := asked(); agent || !keeper {
			t.Errorf("a keeper answers: %v %v", agent, keeper)
		}
	})
}

func TestBye(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var bye []ID
		c := newCluster(t, ServerConfig{OnBye: func(id ID) { bye = append(bye, id) }})
		n := c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		wait(time.Second)
		n.Bye(t.Context())
		wait(time.Millisecond)
		if h := c.heard(one); len(bye) != 3 || bye[0] != one || h.Health != Bye {
			t.Errorf("%v, %+v", bye, h)
		}
	})
}

func TestStrangers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, ServerConfig{})
		c.join("10.0.0.11:4567", NodeConfig{ID: one, Boot: 5})
		wait(time.Second)
		c.server.Drop(one)
		before := c.sent()
		wait(3 * time.Second)
		if n := c.sent() - before; n > 12 {
			t.Errorf("a node that is not known was answered: %d packets in 3 s", n)
		}
		if _, ok := c.server.Heard(one); ok {
			t.Error("and is heard")
		}
		if err := NewNode(NodeConfig{ID: one}).Set(Settings{Key: []byte("short")}); err == nil {
			t.Error("a key of another length was taken")
		}
		for _, id := range []string{"", "zz", "0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdeg"} {
			if _, err := ParseID(id); err == nil {
				t.Errorf("%q was taken for a node's id", id)
			}
		}
	})
}

package network

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

func TestFreeSubnet(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		name  string
		pool  string
		bits  int
		taken []string
		want  string // "" for none
	}{
		{"nothing taken", "172.31.0.0/16", 20, nil, "172.31.0.0/20"},
		{"the first taken", "172.31.0.0/16", 20, []string{"172.31.0.0/20"}, "172.31.16.0/20"},
		{"one address inside", "172.31.0.0/16", 20, []string{"172.31.3.7/32"}, "172.31.16.0/20"},
		{"a wider route", "172.31.0.0/16", 20, []string{"172.16.0.0/12"}, ""},
		{"all but the last", "172.31.0.0/16", 17, []string{"172.31.0.0/17"}, "172.31.128.0/17"},
		{"full", "172.31.0.0/16", 17, []string{"172.31.0.0/17", "172.31.128.0/17"}, ""},
		{"the end of the address space", "255.255.0.0/16", 17, []string{"255.255.0.0/16"}, ""},
		{"a pool smaller than the subnet", "172.31.0.0/24", 20, nil, ""},
	} {
		var taken []netip.Prefix
		for _, s := range c.taken {
			taken = append(taken, prefix(s))
		}
		got, ok := freeSubnet(prefix(c.pool), c.bits, taken)
		if ok != (c.want != "") || ok && got != prefix(c.want) {
			t.Errorf("%s: %v %v, want %q", c.name, got, ok, c.want)
		}
	}
}

func TestTheSubnetAvoidsTheMachinesOwn(t *testing.T) {
	prefixes := func(list ...string) (all []netip.Prefix) {
		for _, s := range list {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	for _, c := range []struct {
		name              string
		from, taken, near []netip.Prefix
		want              string // "" for none
	}{
		{"a machine at home", pools, prefixes("192.168.1.0/24"), prefixes("192.168.1.0/24", "192.168.1.1/32"), "172.31.0.0/20"},
		{"another instance", pools, prefixes("172.31.0.0/20"), nil, "172.31.16.0/20"},
		{"a machine of AWS's default VPC", pools, prefixes("172.31.16.0/20"), prefixes("172.31.16.0/20", "172.31.0.2/32"), "172.29.0.0/20"},
		{"a machine of a company", pools, prefixes("10.1.2.0/24"), prefixes("10.1.2.0/24"), "172.31.0.0/20"},
		{"near everywhere", pools, prefixes("172.31.0.0/20"), prefixes("172.31.0.0/20", "172.29.3.4/32", "10.0.0.1/32"), "172.31.16.0/20"},
		{"chosen", prefixes("10.7.0.0/16"), prefixes("10.7.0.0/24"), prefixes("10.7.0.0/24"), "10.7.16.0/20"},
		{"chosen, and small", prefixes("10.7.4.0/24"), nil, nil, "10.7.4.0/24"},
		{"chosen, and taken", prefixes("10.7.4.0/24"), prefixes("10.7.0.0/16"), nil, ""},
	} {
		got, ok := pick(c.from, c.taken, c.near)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s: %v %v, want %q", c.name, got, ok, c.want)
		}
	}
}

// Addresses are of the node's blocks, none of the reserved ones, unique, and not given again before all others were.
func TestAddressesGoRound(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n := memory(dir)
		if err := os.MkdirAll(n.recordDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		n.gateway = netip.MustParseAddr("10.9.8.1")
		n.setBlocks([]netip.Prefix{netip.MustParsePrefix("10.9.8.0/28"), netip.MustParsePrefix("10.9.9.32/28")}, nil)
		const usable = 2 * (16 - model.BlockReserved - 1)
		var order []netip.Addr
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				a, ok := n.allocate("x", "")
				if len(n.byAddr) < usable && !ok || ok && len(n.byAddr) > usable {
					t.Fatalf("%d of %d taken: %v %v", len(n.byAddr), usable, a, ok)
				}
				if !ok {
					return
				}
				if last := a.As4()[3] % 16; n.blockOf(a) == nil || last < model.BlockReserved || last == 15 {
					t.Fatalf("%v was given", a)
				}
				free := usable - len(n.byAddr) + 1
				for i := max(0, len(order)-free+1); i < len(order); i++ {
					if order[i] == a && free > 1 {
						t.Fatalf("%v was given again, %d takes later, while %d were free", a, len(order)-i, free)
					}
				}
				order = append(order, a)
			},
			"give back": func(t *rapid.T) {
				for a := range n.byAddr {
					n.vacate(a)
					break
				}
				order = nil // the property above is about takes in a row
			},
			"": func(t *rapid.T) {
				sum := 0
				for _, b := range n.blocks {
					sum += b.tasks
				}
				if sum != len(n.byAddr) {
					t.Fatalf("%d addresses in blocks, %d in all", sum, len(n.byAddr))
				}
			},
		})
	})
}

// memory is a Network that touches nothing but dir.
func memory(dir string) *Network {
	return &Network{wanted: map[string]int{}, byAddr: map[netip.Addr]string{}, resting: map[netip.Addr]time.Time{}, more: make(chan struct{}), changed: make(chan struct{}, 1),
		log: slog.New(slog.DiscardHandler), c: Config{RunDir: dir, StateDir: dir}}
}

func TestBlocksComeAndGo(t *testing.T) {
	p := netip.MustParsePrefix
	n := memory(t.TempDir())
	n.gateway = netip.MustParseAddr("172.31.0.1")
	n.setBlocks([]netip.Prefix{p("172.31.0.0/20")}, nil) // as an instance that has met no server
	n.occupy(netip.MustParseAddr("172.31.0.9"), "a")
	n.occupy(netip.MustParseAddr("172.31.3.70"), "b")
	says := func() (all []netip.Prefix) {
		for _, u := range n.Addresses().Has {
			all = append(all, u.Block)
		}
		return all
	}
	n.link, _ = netlink.NewHandle(unix.NETLINK_ROUTE)
	defer n.link.Close()
	if got := fmt.Sprint(says()); got != "[172.31.0.0/26 172.31.3.64/26]" {
		t.Errorf("it claims %s", got)
	}
	steps := []struct {
		told, avoid []netip.Prefix
		want        string
	}{
		{told: []netip.Prefix{p("172.31.0.0/26"), p("172.31.3.64/26")}, want: "[172.31.0.0/26 172.31.3.64/26]"},
		{told: []netip.Prefix{p("172.31.0.0/26"), p("172.31.3.64/26"), p("172.31.1.0/26")}, want: "[172.31.0.0/26 172.31.1.0/26 172.31.3.64/26]"},
		{told: []netip.Prefix{p("172.31.0.0/26")}, want: "[172.31.0.0/26 172.31.3.64/26]"}, // an empty one goes, one with a task stays for it
		{told: []netip.Prefix{p("172.31.0.0/26"), p("172.31.5.0/26")}, avoid: []netip.Prefix{p("172.31.5.8/32")}, want: "[172.31.0.0/26 172.31.3.64/26]"},
	}
	for i, s := range steps {
		n.merge(s.told, s.avoid)
		if got := fmt.Sprint(says()); got != s.want {
			t.Errorf("step %d: it says %s, want %s", i, got, s.want)
		}
	}
	for range 200 {
		if a, ok := n.allocate("x", ""); ok && p("172.31.3.64/26").Contains(a) {
			t.Fatalf("%s was given, and its block is to be returned", a)
		}
	}
	n.vacate(netip.MustParseAddr("172.31.3.70"))
	if n.merge(steps[2].told, nil); fmt.Sprint(says()) != "[172.31.0.0/26]" {
		t.Errorf("it says %v after its last task there has gone", says())
	}
}

// A start for which no address is free waits for the next block, and goes on as soon as it is there.
func TestAStartWaitsForTheNextBlock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := memory(dir)
		if err := os.MkdirAll(n.recordDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		n.gateway = netip.MustParseAddr("10.9.8.1")
		n.setBlocks([]netip.Prefix{netip.MustParsePrefix("10.9.8.0/26")}, nil)
		for {
			if _, ok := n.allocate("x", ""); !ok {
				break
			}
		}
		select {
		case <-n.AddressesChanged():
		default:
			t.Error("nobody was told that addresses run out")
		}
		began := time.Now()
		got := make(chan error)
		go func() {
			_, err := n.await(t.Context(), "y", "")
			got <- err
		}()
		synctest.Wait()
		if len(n.changed) != 1 || n.wanted[""] != 1 {
			t.Errorf("%d wait", n.wanted[""])
		}
		n.mu.Lock()
		n.merge([]netip.Prefix{netip.MustParsePrefix("10.9.8.0/26"), netip.MustParsePrefix("10.9.9.0/26")}, nil)
		n.freed()
		n.mu.Unlock()
		if err := <-got; err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		for {
			if _, ok := n.allocate("x", ""); !ok {
				break
			}
		}
		if _, err := n.await(t.Context(), "z", ""); err == nil || !strings.Contains(err.Error(), "no address is free") || time.Since(began) != timeouts.AddressWait {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestDeviceNamesFit(t *testing.T) {
	a, b := netip.MustParseAddr("172.31.15.250"), netip.MustParseAddr("172.30.15.250")
	for _, id := range []string{"a", "abcdef", "abcdefg"} {
		if got := BridgeName(id); len(got) > 15 {
			t.Errorf("the bridge's name %s is too long", got)
		}
		n := &Network{c: Config{ID: id}, gateway: netip.MustParseAddr("172.31.0.1")}
		if x, y := n.vethName(a), n.vethName(b); len(x) > 15 || x == y {
			t.Errorf("veth names %s and %s", x, y)
		}
		if x, y := n.vethName(a), n.vethName(netip.MustParseAddr("10.31.15.250")); len(y) > 15 || x == y || y == n.vethName(netip.MustParseAddr("10.31.15.251")) {
			t.Errorf("veth names of two VPCs: %s and %s", x, y)
		}
	}
	if _, err := open(Config{ID: "abcdefgh", StateDir: "x", RunDir: "y"}); err == nil {
		t.Error("an id of 8 characters was taken")
	}
}

// A task in a subnet of a user's VPC gets an address of that, waits until its node has a block there, and leaves the others' alone.
func TestAddressesOfSubnets(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := memory(dir)
		if err := os.MkdirAll(n.recordDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		p := netip.MustParsePrefix
		n.gateway = netip.MustParseAddr("172.31.0.1")
		n.setBlocks([]netip.Prefix{p("172.31.0.0/26")}, nil)
		got := make(chan netip.Addr)
		go func() {
			a, err := n.await(t.Context(), "t", "subnet-1")
			if err != nil {
				t.Error(err)
			}
			got <- a
		}()
		synctest.Wait()
		if n.wanted["subnet-1"] != 1 || n.wanted[""] != 0 {
			t.Errorf("it wants %v", n.wanted)
		}
		whole := p("10.0.1.0/27")
		told := map[string]model.SubnetBlocks{"subnet-1": {Range: whole, Blocks: []netip.Prefix{p("10.0.1.0/28"), p("10.0.1.16/28")}}}
		n.mu.Lock()
		n.merge([]netip.Prefix{p("172.31.0.0/26")}, nil)
		if !n.mergeIn(told, nil) || n.mergeIn(told, nil) {
			t.Error("blocks are new once")
		}
		n.freed()
		n.mu.Unlock()
		if a := <-got; a != netip.MustParseAddr("10.0.1.4") {
			t.Errorf("the first address is %s", a)
		}
		count := 1
		for ; ; count++ {
			a, ok := n.allocate(fmt.Sprint("x", count), "subnet-1")
			if !ok {
				break
			}
			if !whole.Contains(a) || a == netip.MustParseAddr("10.0.1.31") {
				t.Fatalf("%s was given", a)
			}
		}
		if count != 27 {
			t.Errorf("%d addresses of a /27", count)
		}
		if a, ok := n.allocate("y", ""); !ok || !p("172.31.0.0/26").Contains(a) {
			t.Errorf("%s, %v of the default VPC", a, ok)
		}
		if err := n.saveBlocks(); err != nil {
			t.Fatal(err)
		}
		if s, ok := readBlocks(dir); !ok || !reflect.DeepEqual(s.Subnets, told) || len(s.Blocks) != 1 {
			t.Errorf("remembered: %+v", s)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.mergeIn(nil, nil); len(n.blocks) != 3 {
			t.Error("blocks with tasks are gone")
		}
		for a, id := range maps.Clone(n.byAddr) {
			if whole.Contains(a) {
				n.vacate(a)
				_ = id
			}
		}
		if n.mergeIn(nil, nil); len(n.blocks) != 1 {
			t.Error("empty blocks stay")
		}
	})
}

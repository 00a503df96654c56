package network

import (
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"pgregory.net/rapid"
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

// Addresses are inside the subnet, none of the reserved ones, unique, and not given again before all others were.
func TestAddressesGoRound(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n := &Network{subnet: netip.MustParsePrefix("10.9.8.0/28"), byAddr: map[netip.Addr]string{}, log: slog.New(slog.DiscardHandler),
			c: Config{RunDir: dir}}
		if err := os.MkdirAll(n.recordDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		n.gateway = n.subnet.Addr().Next()
		const usable = 16 - reserved - 1
		var order []netip.Addr
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				a, err := n.allocate("x")
				if len(n.byAddr) < usable && err != nil || err == nil && len(n.byAddr) > usable {
					t.Fatalf("%d of %d taken: %v %v", len(n.byAddr), usable, a, err)
				}
				if err != nil {
					return
				}
				if !n.subnet.Contains(a) || a.As4()[3] < reserved || a.As4()[3] == 15 {
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
					delete(n.byAddr, a)
					break
				}
				order = nil // the property above is about takes in a row
			},
		})
	})
}

func TestDeviceNamesFit(t *testing.T) {
	a, b := netip.MustParseAddr("172.31.15.250"), netip.MustParseAddr("172.30.15.250")
	for _, id := range []string{"a", "abcdef", "abcdefg"} {
		if got := BridgeName(id); len(got) > 15 {
			t.Errorf("the bridge's name %s is too long", got)
		}
		if x, y := vethName(id, a), vethName(id, b); len(x) > 15 || x == y {
			t.Errorf("veth names %s and %s", x, y)
		}
	}
	if _, err := open(Config{ID: "abcdefgh", StateDir: "x", RunDir: "y"}); err == nil {
		t.Error("an id of 8 characters was taken")
	}
}

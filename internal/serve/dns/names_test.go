package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/serve/proxy"
)

var (
	inside, outside = netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.9.0.5")
	ranges          = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}
)

func instance(k int, change ...func(*proxy.Instance)) proxy.Instance {
	i := proxy.Instance{ID: fmt.Sprint("t", k), IPv4: netip.AddrFrom4([4]byte{10, 0, 1, byte(k)}), Port: uint16(8000 + k)}
	for _, f := range change {
		f(&i)
	}
	return i
}

func table() *names {
	n := &names{}
	sick := func(i *proxy.Instance) { i.Unhealthy = true }
	a, srv := []proxy.Record{{Type: "A", TTL: 10}}, []proxy.Record{{Type: "SRV", TTL: 20}}
	n.change(proxy.Delta{All: true, Names: []proxy.Name{
		{Key: "ns-1", Host: "shop.local", Zone: "shop.local", SOATTL: 15, Ranges: ranges},
		{Key: "srv-1", Host: "cart.shop.local", Zone: "shop.local", Ranges: ranges, Records: a, Instances: []proxy.Instance{instance(1), instance(2, sick)}},
		{Key: "srv-2", Host: "ports.shop.local", Zone: "shop.local", Ranges: ranges, Records: srv, Instances: []proxy.Instance{instance(3)}},
		{Key: "srv-3", Host: "sick.shop.local", Zone: "shop.local", Ranges: ranges, Records: a, Instances: []proxy.Instance{instance(4, sick), instance(5, sick)}},
		{Key: "srv-4", Host: "_x.deep.shop.local", Zone: "shop.local", Ranges: ranges, Records: a},
		{Key: "srv-5", Host: "far.shop.local", Zone: "shop.local", Ranges: ranges, Records: []proxy.Record{{Type: "CNAME", TTL: 5}},
			Instances: []proxy.Instance{{ID: "c", CNAME: "example.com"}}},
		{Key: "srv-6", Host: "one.shop.local", Zone: "shop.local", Ranges: ranges, Records: a, Weighted: true,
			Instances: []proxy.Instance{instance(6), instance(7)}},
	}})
	return n
}

// said asks and draws the answer.
func said(t *testing.T, n *names, name string, kind uint16, source netip.Addr) string {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	question, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	packed := n.answer(question, source, 512)
	if packed == nil {
		return "not ours"
	}
	var out dns.Msg
	if err := out.Unpack(packed); err != nil || out.Id != m.Id {
		t.Fatal(err)
	}
	var all []string
	for _, rr := range out.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			all = append(all, fmt.Sprint(rr.Hdr.Ttl, " ", rr.A))
		case *dns.SRV:
			all = append(all, fmt.Sprint(rr.Hdr.Ttl, " ", rr.Port, " ", rr.Target))
		case *dns.CNAME:
			all = append(all, fmt.Sprint(rr.Hdr.Ttl, " ", rr.Target))
		}
	}
	slices.Sort(all)
	text := fmt.Sprint(dns.RcodeToString[out.Rcode], " ", all)
	if len(out.Ns) > 0 {
		text += fmt.Sprint(" SOA ", out.Ns[0].(*dns.SOA).Minttl)
	}
	for _, rr := range out.Extra {
		text += " and " + rr.Header().Name + " " + rr.(*dns.A).A.String()
	}
	return text
}

func TestAnswers(t *testing.T) {
	n := table()
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"cart.shop.local.", dns.TypeA, "NOERROR [10 10.0.1.1]"},
		{"CaRt.Shop.LOCAL.", dns.TypeA, "NOERROR [10 10.0.1.1]"},
		{"cart.shop.local.", dns.TypeAAAA, "NOERROR [] SOA 15"},
		{"cart.shop.local.", dns.TypeANY, "NOERROR [10 10.0.1.1]"},
		{"sick.shop.local.", dns.TypeA, "NOERROR [10 10.0.1.4 10 10.0.1.5]"},
		{"ports.shop.local.", dns.TypeSRV, "NOERROR [20 8003 t3.ports.shop.local.] and t3.ports.shop.local. 10.0.1.3"},
		{"ports.shop.local.", dns.TypeA, "NOERROR [] SOA 15"},
		{"t3.ports.shop.local.", dns.TypeA, "NOERROR [20 10.0.1.3]"},
		{"t3.ports.shop.local.", dns.TypeAAAA, "NOERROR [] SOA 15"},
		{"t1.cart.shop.local.", dns.TypeA, "NXDOMAIN [] SOA 15"},
		{"far.shop.local.", dns.TypeA, "NOERROR [5 example.com.]"},
		{"shop.local.", dns.TypeA, "NOERROR [] SOA 15"},
		{"deep.shop.local.", dns.TypeA, "NOERROR [] SOA 15"},
		{"_x.deep.shop.local.", dns.TypeA, "NOERROR [] SOA 15"},
		{"none.shop.local.", dns.TypeA, "NXDOMAIN [] SOA 15"},
		{"a.b.shop.local.", dns.TypeA, "NXDOMAIN [] SOA 15"},
		{"local.", dns.TypeA, "not ours"},
		{"example.com.", dns.TypeA, "not ours"},
		{"notshop.local.", dns.TypeA, "not ours"},
		{".", dns.TypeNS, "not ours"},
	} {
		if got := said(t, n, c.name, c.kind, inside); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.name, dns.TypeToString[c.kind], got, c.want)
		}
	}
	if got := said(t, n, "cart.shop.local.", dns.TypeA, outside); got != "not ours" {
		t.Errorf("another VPC is told %q", got)
	}
	seen := map[string]bool{}
	for range 100 {
		seen[said(t, n, "one.shop.local.", dns.TypeA, inside)] = true
	}
	if len(seen) != 2 || !seen["NOERROR [10 10.0.1.6]"] {
		t.Errorf("a weighted name has the answers %v", seen)
	}
	n.change(proxy.Delta{Names: []proxy.Name{{Key: "srv-1", Host: "cart.shop.local", Zone: "shop.local", Ranges: ranges}}, GoneNames: []string{"srv-3"}})
	if got := said(t, n, "cart.shop.local.", dns.TypeA, inside) + said(t, n, "sick.shop.local.", dns.TypeA, inside); got != "NOERROR [] SOA 15NXDOMAIN [] SOA 15" {
		t.Errorf("after a change: %q", got)
	}
}

// TestManyInstances: an answer names eight, and one that is too long for a packet says so.
func TestManyInstances(t *testing.T) {
	n := &names{}
	var all []proxy.Instance
	for k := range 100 {
		all = append(all, instance(k, func(i *proxy.Instance) { i.ID = fmt.Sprintf("%032x", k) }))
	}
	n.change(proxy.Delta{All: true, Names: []proxy.Name{{Key: "ns", Host: "z", Zone: "z"},
		{Key: "s", Host: "a.z", Zone: "z", Records: []proxy.Record{{Type: "A", TTL: 1}, {Type: "SRV", TTL: 1}}, Instances: all}}})
	ask := func(kind uint16, limit int) (out dns.Msg) {
		m := new(dns.Msg)
		m.SetQuestion("a.z.", kind)
		question, _ := m.Pack()
		packed := n.answer(question, inside, limit)
		if limit > 0 && len(packed) > limit {
			t.Errorf("%d bytes where %d fit", len(packed), limit)
		}
		if err := out.Unpack(packed); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := ask(dns.TypeA, 512); len(out.Answer) != 8 || out.Truncated {
		t.Errorf("%d answers", len(out.Answer))
	}
	if out := ask(dns.TypeSRV, 512); !out.Truncated {
		t.Error("a cut answer does not say so")
	}
	if out := ask(dns.TypeSRV, 0); len(out.Answer) != 8 || len(out.Extra) != 8 || out.Truncated {
		t.Errorf("over TCP: %d answers", len(out.Answer))
	}
}

// TestChangesAddUp: a table that was changed in parts answers as one that came whole.
func TestChangesAddUp(t *testing.T) {
	hosts := []string{"a.z", "b.z", "c.a.z", "z"}
	rapid.Check(t, func(rt *rapid.T) {
		var kept proxy.Kept
		n := &names{}
		for range rapid.IntRange(1, 20).Draw(rt, "changes") {
			var d proxy.Delta
			key := fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "key"))
			if rapid.Bool().Draw(rt, "gone") {
				d.GoneNames = []string{key}
			} else {
				d.Names = []proxy.Name{{Key: key, Host: rapid.SampledFrom(hosts).Draw(rt, "host"), Zone: "z", Records: []proxy.Record{{Type: "A", TTL: 1}}}}
			}
			d.All = rapid.IntRange(0, 9).Draw(rt, "all") == 0
			kept.Change(d)
			n.change(d)
		}
		whole := &names{}
		whole.change(kept.Whole())
		if fmt.Sprint(n.above) != fmt.Sprint(whole.above) || len(n.byKey) != len(whole.byKey) || len(n.byHost) != len(whole.byHost) {
			rt.Fatalf("%v %v, want %v %v", n.above, n.byHost, whole.above, whole.byHost)
		}
	})
}

// FuzzAnswer: no packet ends the process, and an answer is one to the question.
func FuzzAnswer(f *testing.F) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY} {
		m := new(dns.Msg)
		m.SetQuestion("ports.shop.local.", kind)
		m.SetEdns0(4096, true)
		question, _ := m.Pack()
		f.Add(question)
	}
	n := table()
	f.Fuzz(func(t *testing.T, question []byte) {
		packed := n.answer(question, inside, 512)
		if packed == nil {
			return
		}
		var in, out dns.Msg
		if in.Unpack(question) != nil || out.Unpack(packed) != nil || in.Id != out.Id || !out.Response || len(packed) > 1232 {
			t.Errorf("%x was answered with %x", question, packed)
		}
	})
}

package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

func peer(node, address string, mtu int, blocks ...string) model.Peer {
	p := model.Peer{Node: node, MTU: mtu}
	p.Address, _ = netip.ParseAddr(address)
	for _, b := range blocks {
		p.Blocks = append(p.Blocks, netip.MustParsePrefix(b))
	}
	return p
}

func TestEntriesOfPeers(t *testing.T) {
	self := peer("a", "192.0.2.1", 9000, "172.31.0.0/26")
	peers, why := usable(Wanted{Self: self, Peers: []model.Peer{
		self,
		peer("b", "192.0.2.2", 0, "172.31.0.64/26", "172.31.0.128/26"),
		peer("c", "192.0.2.3", 9000, "172.31.1.0/26"),
		peer("d", "", 1500, "172.31.2.0/26"),
		peer("e", "127.0.0.1", 1500, "172.31.2.64/26"),
		peer("f", "192.0.2.6", 1500),
		peer("g", "192.0.2.7", 1500, "172.31.0.0/26"),
		peer("h", "192.0.2.8", 1500, "172.31.3.0/26", "172.31.1.0/26"),
		peer("i", "2001:db8::9", 1500, "172.31.4.0/26"),
		peer("j", "192.0.2.1", 1500, "172.31.5.0/26"),
		peer("k", "93.184.216.34", 1500, "172.31.6.0/26"),
	}})
	got := vxlanTables(self, peers)
	want := tables{
		routes: map[netip.Prefix]route{
			netip.MustParsePrefix("172.31.0.64/26"):  {netip.MustParseAddr("172.31.0.64"), 1450},
			netip.MustParsePrefix("172.31.0.128/26"): {netip.MustParseAddr("172.31.0.64"), 1450},
			netip.MustParsePrefix("172.31.1.0/26"):   {netip.MustParseAddr("172.31.1.0"), 8950},
			netip.MustParsePrefix("172.31.3.0/26"):   {netip.MustParseAddr("172.31.3.0"), 1450},
		},
		neighbours: map[netip.Addr]string{netip.MustParseAddr("172.31.0.64"): "0e:58:ac:1f:00:40", netip.MustParseAddr("172.31.1.0"): "0e:58:ac:1f:01:00",
			netip.MustParseAddr("172.31.3.0"): "0e:58:ac:1f:03:00"},
		fdb: map[string]netip.Addr{"0e:58:ac:1f:00:40": netip.MustParseAddr("192.0.2.2"), "0e:58:ac:1f:01:00": netip.MustParseAddr("192.0.2.3"),
			"0e:58:ac:1f:03:00": netip.MustParseAddr("192.0.2.8")},
	}
	if !maps.Equal(got.routes, want.routes) || !maps.Equal(got.neighbours, want.neighbours) || !maps.Equal(got.fdb, want.fdb) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if nodes := fmt.Sprint(slices.Sorted(maps.Keys(why))); nodes != "[d e f g h i j k]" {
		t.Errorf("not (wholly) reached: %v", why)
	}
	six := peer("a", "2001:db8::1", 1500, "172.31.0.0/26")
	if got := vxlanTables(six, []model.Peer{peer("i", "2001:db8::9", 1500, "172.31.4.0/26")}); got.routes[netip.MustParsePrefix("172.31.4.0/26")].mtu != 1430 {
		t.Errorf("over IPv6: %v", got.routes)
	}
}

func TestPublicAddresses(t *testing.T) {
	for _, a := range []string{"8.8.8.8", "2a00:1450::1", "::ffff:8.8.8.8"} {
		if !public(netip.MustParseAddr(a)) {
			t.Errorf("%s is public", a)
		}
	}
	for _, a := range []string{"10.0.0.1", "192.168.1.1", "172.16.4.4", "100.64.0.1", "169.254.1.1", "127.0.0.1", "fd00::1", "fe80::1"} {
		if public(netip.MustParseAddr(a)) {
			t.Errorf("%s is not public", a)
		}
	}
	self := peer("a", "8.8.4.4", 1500, "172.31.0.0/26")
	if peers, why := usable(Wanted{Self: self, Peers: []model.Peer{peer("b", "10.0.0.2", 1500, "172.31.0.64/26")}}); len(peers) > 0 || len(why) != 1 {
		t.Errorf("%v %v", peers, why)
	}
}

// What has been put and taken away is what is wanted, and then nothing is missing.
func TestMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := rapid.MapOf(rapid.IntRange(0, 20), rapid.IntRange(0, 3))
		have, want := set.Draw(t, "have"), set.Draw(t, "want")
		put, extra := missing(have, want)
		maps.Copy(have, put)
		for k := range extra {
			delete(have, k)
		}
		if !maps.Equal(have, want) {
			t.Fatalf("%v is not %v", have, want)
		}
		if put, extra := missing(have, want); len(put)+len(extra) > 0 {
			t.Fatalf("again: %v %v", put, extra)
		}
	})
}

package beat

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := packet{kind: kind(rapid.IntRange(int(kindBeat), int(kindAsk)).Draw(t, "kind")), health: Health(rapid.Byte().Draw(t, "health")),
			slot: rapid.Byte().Draw(t, "slot"), pause: rapid.Byte().Draw(t, "pause"), epoch: rapid.Uint32().Draw(t, "epoch"),
			node: ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "node"))}
		size := Size
		switch p.kind {
		case kindAnswer:
			p.seq, p.cookie = rapid.Uint64().Draw(t, "seq"), rapid.Uint64().Draw(t, "cookie")
			p.age = time.Duration(rapid.Uint32().Draw(t, "age")) * 100 * time.Microsecond
			p.period = time.Duration(rapid.Uint16().Draw(t, "period")) * time.Millisecond
		case kindAsk:
			size = askSize
			p.to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "to"))), rapid.Uint16().Draw(t, "port"))
		default:
			p.boot, p.seq, p.cookie = rapid.Uint64().Draw(t, "boot"), rapid.Uint64().Draw(t, "seq"), rapid.Uint64().Draw(t, "cookie")
		}
		b := make([]byte, size)
		s := newSigner(keyOf([]byte("cluster"), p.node))
		s.seal(&p, b)
		got, err := parse(b)
		if err != nil || got != p {
			t.Fatalf("read %+v (%v), wrote %+v", got, err, p)
		}
		if !s.check(b) {
			t.Fatal("the signature is not its own")
		}
		if newSigner(keyOf([]byte("another cluster"), p.node)).check(b) {
			t.Fatal("another cluster's signature is taken")
		}
		b[rapid.IntRange(0, size-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if s.check(b) {
			t.Fatal("a changed packet is taken")
		}
	})
}

func FuzzParse(f *testing.F) {
	for k := kindBeat; k <= kindAsk; k++ {
		b := make([]byte, askSize)
		newSigner(Key{}).seal(&packet{kind: k, to: netip.MustParseAddrPort("10.0.0.1:4567")}, b)
		f.Add(b)
		f.Add(b[:Size])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			return
		}
		again := make([]byte, len(b))
		copy(again, b)
		p.put((*[Size]byte)(again))
		if q, err := parse(again); err != nil || q != p {
			t.Fatalf("%+v (%v) was %+v", q, err, p)
		}
		// Whoever has no key gets nothing from either half.
		d := Datagram{N: len(b)}
		copy(d.Data[:], b)
		s := NewServer(ServerConfig{})
		s.Put(p.node, keyOf([]byte("secret"), p.node), netip.AddrPort{})
		n := NewNode(NodeConfig{ID: p.node})
		key := keyOf([]byte("secret"), p.node)
		if err := n.Set(Settings{Key: key[:]}); err != nil {
			t.Fatal(err)
		}
		if out := s.take([]Datagram{d}, nil); len(out) > 0 {
			t.Fatalf("the server answered %x", b)
		}
		if out := n.take([]Datagram{d}, nil); len(out) > 0 {
			t.Fatalf("the node answered %x", b)
		}
		if !bytes.Equal(d.Data[:d.N], b) {
			t.Fatal("the packet was written to")
		}
	})
}

package beat

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// TestSocket sends batches over real sockets, of either family.
func TestSocket(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		a, err := Listen(address)
		if err != nil {
			t.Logf("%s: not here: %v", address, err)
			continue
		}
		b, err := Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		to := Local(b)
		if to.Addr().IsUnspecified() {
			to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
		}
		out := make([]Datagram, 100)
		for i := range out {
			out[i].Addr, out[i].N = to, Size
			out[i].Data[0] = byte(i)
		}
		out[50].Addr = netip.MustParseAddrPort("0.0.0.0:0") // cannot be sent, and holds up no other
		a.Write(out)
		in, got := make([]Datagram, batchSize), 0
		for got < 99 {
			n, err := b.Read(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range in[:n] {
				if d.N != Size || d.Addr.Port() != Local(a).Port() {
					t.Fatalf("%d bytes from %s", d.N, d.Addr)
				}
			}
			got += n
		}
		large := make([]byte, 4*askSize)
		conn, err := net.Dial("udp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(large); err != nil {
			t.Fatal(err)
		}
		if n, err := b.Read(in); n != 1 || err != nil || in[0].body() != nil {
			t.Errorf("a packet that was cut: %d, %v, %d bytes", n, err, in[0].N)
		}
		_, _, _ = conn.Close(), a.Close(), b.Close()
		if _, err := b.Read(in); err == nil {
			t.Error("a closed socket was read")
		}
	}
}

// TestAllocations: no allocation a beat.
func TestAllocations(t *testing.T) {
	s, in := crowd(batchSize)
	out := make([]Datagram, 0, batchSize)
	seq := uint64(0)
	n := testing.AllocsPerRun(100, func() {
		sign(s, in, &seq)
		out = s.take(in, out[:0])
	})
	if len(out) != batchSize || n > 0 {
		t.Errorf("%d beats were answered by %d packets and %v allocations", batchSize, len(out), n)
	}
}

// crowd is a server that knows n nodes, and a datagram of each.
func crowd(n int) (*Server, []Datagram) {
	s := NewServer(ServerConfig{})
	in := make([]Datagram, n)
	for i := range n {
		id := idOf(i)
		s.Put(id, keyOf(secret, id), netip.AddrPort{})
		in[i] = Datagram{Addr: netip.MustParseAddrPort("127.0.0.1:1"), N: Size}
	}
	return s, in
}

func idOf(i int) ID { return ID{byte(i), byte(i >> 8), byte(i >> 16), 1} }

// sign makes the next beat of each.
func sign(s *Server, in []Datagram, seq *uint64) {
	*seq++
	for i := range in {
		id := idOf(i)
		r := s.records[id]
		p := packet{kind: kindBeat, node: id, boot: 1, seq: *seq, cookie: r.cookie}
		if r.generation == 0 {
			p.cookie = s.cookieOf(&p, 1)
		}
		r.signer.seal(&p, in[i].Data[:Size])
	}
}

// BenchmarkTake is what a server does of a beat besides the system calls.
func BenchmarkTake(b *testing.B) {
	s, in := crowd(10_000)
	out := make([]Datagram, 0, batchSize)
	seq := uint64(0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := i % (len(in) / batchSize)
		if at == 0 {
			b.StopTimer()
			sign(s, in, &seq)
			b.StartTimer()
		}
		out = s.take(in[at*batchSize:(at+1)*batchSize], out[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batchSize, "ns/beat")
}

// BenchmarkUDP is the CPU of a beat and its answer over loopback, both ends together; echo is the floor: the same packets, sent back
// unread.
func BenchmarkUDP(b *testing.B) {
	for _, what := range []string{"echo", "beat"} {
		b.Run(what, func(b *testing.B) {
			s, in := crowd(10_000)
			l, err := Listen("127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if what == "echo" {
				go echo(l)
			} else {
				go func() { _ = NewPort(l, s, nil).Run(ctx) }()
			}
			c, err := Listen("127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			for i := range in {
				in[i].Addr = Local(l)
			}
			back := make([]Datagram, batchSize)
			seq, cpu, began := uint64(0), time.Duration(0), time.Duration(0)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				at := i % (len(in) / batchSize)
				if at == 0 {
					b.StopTimer()
					cpu += used() - began
					sign(s, in, &seq)
					began = used()
					if i == 0 {
						cpu = 0
					}
					b.StartTimer()
				}
				c.Write(in[at*batchSize : (at+1)*batchSize])
				for got := 0; got < batchSize; {
					n, err := c.Read(back)
					if err != nil {
						b.Fatal(err)
					}
					got += n
				}
			}
			cpu += used() - began
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N)/batchSize, "cpu-ns/beat")
			_, _ = l.Close(), c.Close()
		})
	}
}

func echo(l Socket) {
	in := make([]Datagram, batchSize)
	for {
		n, err := l.Read(in)
		if err != nil {
			return
		}
		l.Write(in[:n])
	}
}

func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprint("getrusage: ", err))
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

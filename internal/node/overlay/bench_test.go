package overlay

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkStream is one TCP stream between two machines: over their own link, and between tasks in the ways that there are. Rates
// mean something beside each other only; CPU is that of both ends and of all between, which are one process here.
func BenchmarkStream(b *testing.B) {
	r := newRig(b, 2, 1500)
	r.join()
	from, to := r.machines[0].task("a"), r.machines[1].task("b")
	r.machines[1].do(func() { sink(b, ":9000") })
	inside(b, to.NetnsPath, func() error { sink(b, ":9000"); return nil })
	machine := fmt.Sprintf("/proc/self/fd/%d", int(r.machines[0].ns))
	checksums := func(offload bool) func() {
		return func() {
			for _, m := range r.machines {
				m.do(func() { must(b, setChecksums(deviceName(m.id), offload)) })
			}
		}
	}
	for _, way := range []struct {
		name, path, address string
		before              func()
	}{
		{"link", machine, r.machines[1].peer.Address.String(), func() {}},
		{"vxlan", from.NetnsPath, to.IPv4, checksums(true)},
		{"vxlan without checksum offload", from.NetnsPath, to.IPv4, checksums(false)},
		{"wireguard", from.NetnsPath, to.IPv4, r.encrypt},
	} {
		b.Run(way.name, func(b *testing.B) {
			runtime.LockOSThread() // namespaces are threads'
			way.before()
			var conn net.Conn
			inside(b, way.path, func() (err error) {
				conn, err = net.Dial("tcp4", way.address+":9000")
				return err
			})
			defer conn.Close()
			stream(b, conn)
		})
	}
}

// stream sends 1 GiB an operation, or as much as BENCH_MIB says.
func stream(b *testing.B, conn net.Conn) {
	mib := 1024
	fmt.Sscan(os.Getenv("BENCH_MIB"), &mib)
	data := make([]byte, 1<<20)
	b.SetBytes(int64(mib) << 20)
	used, began, sent := cpu(), time.Now(), 0
	for b.Loop() {
		for range mib {
			n, err := conn.Write(data)
			if err != nil {
				b.Fatal(err)
			}
			sent += n
		}
	}
	b.ReportMetric((cpu()-used).Seconds()/(float64(sent)/1e9), "cpu-s/GB")
	b.ReportMetric(float64(sent)*8/1e9/time.Since(began).Seconds(), "Gbit/s")
}

func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sink reads all that it gets.
func sink(b *testing.B, address string) {
	l, err := net.Listen("tcp4", address)
	must(b, err)
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<20))
			}()
		}
	}()
}

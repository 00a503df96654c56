package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/serve/proxy"
)

// connected makes both ends of a link.
func connected(t testing.TB) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "link")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		ends[i] = NewConn(c.(*net.UnixConn))
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0], ends[1]
}

// descriptorsOpen counts this process's.
func descriptorsOpen(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// Descriptors come with the message that names them, also when many messages lie in the socket, and those nobody asked for are closed.
func TestDescriptorsComeWithTheirMessage(t *testing.T) {
	a, b := connected(t)
	before := descriptorsOpen(t)
	var files []*os.File
	for range 3 {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	send := func(m *Message, fds ...int) {
		t.Helper()
		if err := a.Send(m, fds...); err != nil {
			t.Fatal(err)
		}
	}
	send(&Message{Beat: 1})
	send(&Message{Sockets: &Sockets{Names: []string{"x", "y"}}}, int(files[0].Fd()), int(files[1].Fd()))
	send(&Message{Beat: 2})
	send(&Message{Sockets: &Sockets{Names: []string{"z"}}}, int(files[2].Fd()))
	send(&Message{Beat: 3}, int(files[0].Fd()))
	for i, want := range []int{0, 2, 0, 1} {
		m, got, err := b.Receive(time.Second)
		if err != nil || len(got) != want {
			t.Fatalf("message %d: %+v with %d descriptors, %v", i, m, len(got), err)
		}
		for j, fd := range got {
			var theirs, ours unix.Stat_t
			if err := errors.Join(unix.Fstat(fd, &theirs), unix.Fstat(int(files[i-1+j].Fd()), &ours)); err != nil || i == 1 && theirs.Ino != ours.Ino {
				t.Errorf("message %d, descriptor %d: another file; %v", i, j, err)
			}
		}
		closeAll(got)
	}
	if _, _, err := b.Receive(time.Second); !errors.Is(err, ErrFrame) {
		t.Errorf("descriptors that nobody named: %v", err)
	}
	if now := descriptorsOpen(t) - len(files); now != before {
		t.Errorf("%d descriptors, %d before", now, before)
	}
}

func TestAFrameIsBounded(t *testing.T) {
	huge := binary.BigEndian.AppendUint32(nil, maxFrame+1)
	if _, err := ReadFrame(bytes.NewReader(huge)); !errors.Is(err, ErrFrame) {
		t.Error(err)
	}
	var whole bytes.Buffer
	if err := WriteFrame(&whole, &Message{Beat: 7}); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if _, err := ReadFrame(bytes.NewReader(whole.Bytes()[:n])); !errors.Is(err, want) {
			t.Errorf("%d bytes of %d: %v", n, whole.Len(), err)
		}
	}
}

// FuzzReadFrame: whatever comes, it is a message that is written as it was read, or an error; memory grows with what came.
func FuzzReadFrame(f *testing.F) {
	for _, m := range []*Message{{Hello: &Hello{Role: Feed}}, {Beat: 1}, {Apply: &Apply{Epoch: "e", Seq: 1, Delta: proxy.Delta{All: true,
		Groups: []proxy.Group{{ARN: "g"}}}}}} {
		var b bytes.Buffer
		if err := WriteFrame(&b, m); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '{'})
	f.Add([]byte{0, 0, 0, 4, 'n', 'u', 'l', 'l'})
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := ReadFrame(bytes.NewReader(in))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteFrame(&b, m); err != nil {
			t.Fatal(err)
		}
		again, err := ReadFrame(&b)
		if err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
		var c, d bytes.Buffer
		if WriteFrame(&c, m) != nil || WriteFrame(&d, again) != nil || !bytes.Equal(c.Bytes(), d.Bytes()) {
			t.Errorf("%+v was read as %+v", m, again)
		}
	})
}

func TestPartsJoinToTheWhole(t *testing.T) {
	d := proxy.Delta{All: true, GoneBalancers: []string{"b"}}
	for i := range 50 {
		d.Groups = append(d.Groups, proxy.Group{ARN: string(rune('A' + i)), Targets: make([]proxy.Target, 500)})
		d.Balancers = append(d.Balancers, proxy.Balancer{ARN: string(rune('a' + i)), Listeners: []proxy.Listener{{Rules: make([]proxy.Rule, 100)}}})
	}
	all := Parts("e", 3, d)
	if len(all) < 5 {
		t.Errorf("%d parts", len(all))
	}
	var got proxy.Delta
	for i, p := range all {
		if p.More != (i < len(all)-1) {
			t.Errorf("part %d of %d: more %v", i, len(all), p.More)
		}
		got.Join(p.Delta)
	}
	if !reflect.DeepEqual(got, d) || slices.ContainsFunc(all, func(a *Apply) bool { return a.Seq != 3 }) {
		t.Error("the parts are not the whole")
	}
}

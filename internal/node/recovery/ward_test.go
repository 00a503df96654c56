package recovery

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// put makes a bundle of namespace ns whose shim listens on socket.
func (s Shims) put(t *testing.T, id, socket string) {
	t.Helper()
	dir := filepath.Join(s.folder(), "ns", id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	boot := fmt.Sprintf(`{"version":3,"address":"unix://%s","protocol":"ttrpc"}`, socket)
	if err := os.WriteFile(filepath.Join(dir, "bootstrap.json"), []byte(boot), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s Shims) shows(id string) bool {
	_, err := os.Stat(filepath.Join(s.folder(), "ns", id))
	return err == nil
}

// Shims that do not answer are set aside together in the time that one takes; those that answer and those that are dead are
// containerd's. One that dies, or answers, is shown to containerd the next time.
func TestWard(t *testing.T) {
	state, err := os.MkdirTemp("", "w") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	s := Shims{State: state, Socket: "/run/some/containerd.sock"}
	if err := NewWard(s).Admit(t.Context()); err != nil {
		t.Fatal("nothing is there yet:", err)
	}
	if err := os.MkdirAll(s.Sockets(), 0o700); err != nil {
		t.Fatal(err)
	}
	socket := func(name string) string { return filepath.Join(s.Sockets(), name) }
	serveShim(t, socket("good"))
	s.put(t, "good", socket("good"))
	s.put(t, "dead", socket("dead"))
	var hung []net.Listener
	for i := range 20 {
		l, err := net.Listen("unix", socket(fmt.Sprint("hung", i))) // the kernel takes connections, and nobody reads
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		hung = append(hung, l)
		s.put(t, fmt.Sprint("hung", i, "-a"), socket(fmt.Sprint("hung", i)))
		s.put(t, fmt.Sprint("hung", i, "-b"), socket(fmt.Sprint("hung", i)))
	}
	w := NewWard(s)
	begun := time.Now()
	if err := w.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second { // one after another they would take 20 s
		t.Errorf("it took %v", took)
	}
	for id, held := range map[string]bool{"good": false, "dead": false, "hung0-a": true, "hung0-b": true, "hung19-b": true} {
		if w.Holds("ns", id) != held || s.shows(id) == held {
			t.Errorf("%s: held %v, shown to containerd %v", id, w.Holds("ns", id), s.shows(id))
		}
	}
	if got := s.Aside(); len(got) != 40 || got[0] != "hung0-a" {
		t.Errorf("set aside: %v", got)
	}
	if w.Holds("other", "hung0-a") {
		t.Error("another namespace's container is held")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if w.Wait(ctx) == nil {
		t.Error("a shim was back that was not")
	}
	hung[0].Close()
	if err := w.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.shows("hung0-a") || w.Holds("ns", "hung0-a") || s.shows("hung1-a") || !w.Holds("ns", "hung1-b") {
		t.Error("the shim that died is to be containerd's, and the others are to stay aside")
	}
}

// TestWhatIsLeftOfABundle: containerd hides a bundle before it removes it, and may be killed between; what it left goes, one that is set aside
// does not, and a silent shim can be set aside although such a rest has its place.
func TestWhatIsLeftOfABundle(t *testing.T) {
	state, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	s := Shims{State: state, Socket: "/run/some/containerd.sock"}
	if err := os.MkdirAll(s.Sockets(), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(s.Sockets(), "hung"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.put(t, "hung", filepath.Join(s.Sockets(), "hung"))
	rest := func(id string) {
		if err := os.MkdirAll(filepath.Join(s.folder(), "ns", hidden+id, "rootfs", "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	rest("gone")
	rest("hung")
	s.put(t, "again", filepath.Join(s.Sockets(), "nobody"))
	s.put(t, hidden+"again", filepath.Join(s.Sockets(), "nobody"))
	w := NewWard(s)
	for range 2 {
		if err := w.Admit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.shows(hidden+"gone") || s.shows(hidden+"again") || !s.shows("again") || s.shows("hung") || !w.Holds("ns", "hung") {
			t.Errorf("rests %v %v, shown %v %v, held %v", s.shows(hidden+"gone"), s.shows(hidden+"again"), s.shows("again"), s.shows("hung"), w.Holds("ns", "hung"))
		}
	}
	if _, err := os.Stat(filepath.Join(s.folder(), "ns", hidden+"hung", "bootstrap.json")); err != nil {
		t.Error("the bundle that was set aside:", err)
	}
}

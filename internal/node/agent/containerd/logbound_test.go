package containerd

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// taken is what files have on the disk.
func taken(t *testing.T, paths ...string) int64 {
	t.Helper()
	var sum int64
	for _, path := range paths {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		sum += st.Blocks * 512
	}
	return sum
}

// Nobody carries these logs away: that is what a server that is down looks like.
func TestAContainerThatWritesFastDoesNotFillTheDisk(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	const limit = 8 << 20
	flood := `yes "$(head -c 90 /dev/zero | tr '\0' y)" & yes e >&2 & sleep 2; kill %1 %2; echo "the end"`
	lossy := n.container(image, flood, func(s *agent.ContainerSpec) { s.LogBound = bound.Bound{Bytes: limit} })
	waits := n.container(image, flood, func(s *agent.ContainerSpec) { s.LogBound = bound.Bound{Bytes: limit, Blocking: true} })
	n.start(t, lossy)
	n.start(t, waits)
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		for _, s := range []agent.ContainerSpec{lossy, waits} {
			if used := taken(t, s.Stdout, s.Stderr); used > limit {
				t.Fatalf("the log takes %d bytes of the disk, more than %d", used, limit)
			}
		}
	}
	if s, found := n.state(t, waits.ID); !found || s.Status != agent.ContainerRunning {
		t.Errorf("the container that should wait for its log is %+v", s)
	}
	begun := time.Now()
	for _, s := range []agent.ContainerSpec{lossy, waits} {
		if err := n.Delete(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("the containers took %v to end", d)
	}
	if used := taken(t, lossy.Stdout, lossy.Stderr); used < limit/2 {
		t.Errorf("the log holds %d bytes only", used)
	}
	if out := read(t, lossy.Stdout); !strings.HasPrefix(out, "yyyy") {
		t.Errorf("the log begins with %.40q", out)
	}
}

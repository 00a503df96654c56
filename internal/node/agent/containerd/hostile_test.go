package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/containerd/imagetest"
)

func TestAnImageWithAHugeConfigIsRefused(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	image := imagetest.Busybox(t, func(c *v1.Config) { c.Labels = map[string]string{"x": strings.Repeat("y", maxDocument)} })
	ref, err := name.ParseReference(h.address()+"/huge:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, err = n.store.Pull(t.Context(), h.address()+"/huge:1")
	e, ok := errors.AsType[*agent.Error](err)
	if !ok || e.Name != cannotPull || !strings.Contains(e.Message, "config") || !strings.Contains(e.Message, "at most") {
		t.Errorf("the pull ended with %v", err)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("it was tried again, for %v", d)
	}
}

func TestAReadOnlyVolumeIsReadOnlyAllTheWay(t *testing.T) {
	n := newNode(t)
	if !n.limits.recursive {
		t.Skip("needs Linux 5.12")
	}
	image := n.busybox(t, nil)
	volume := t.TempDir()
	below := filepath.Join(volume, "below")
	if err := os.Mkdir(below, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("below", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(below, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := n.container(image, `touch /v/x 2>/dev/null && exit 1; touch /v/below/x 2>/dev/null && exit 2; exit 0`, func(s *agent.ContainerSpec) {
		s.Mounts = []agent.Mount{{Type: "bind", Source: volume, Destination: "/v", ReadOnly: true}}
	})
	if state, _, stderr := n.runs(t, s); state.ExitCode != 0 {
		t.Errorf("exit %d: 1 is a write to the volume, 2 one below it; %s", state.ExitCode, stderr)
	}
}

// A fork bomb ends at the task's bound, whichever container it is in.
func TestATaskHasABoundOfProcesses(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	n.limits.pids = 400 // a machine with few: a task gets a quarter
	s := n.container(image, `i=0; while [ $i -lt 300 ]; do sleep 30 & i=$((i+1)); done; exit 0`)
	n.start(t, s)
	for until := time.Now().Add(20 * time.Second); len(n.tree.Processes(n.containerCgroup(s.TaskID, s.ID))) < 90; {
		if time.Now().After(until) {
			break // it may have ended already: the shell gives up where it cannot fork
		}
		if k := len(n.tree.Processes(n.containerCgroup(s.TaskID, s.ID))); k > 100 {
			t.Fatalf("%d processes, more than 100", k)
		}
		if state, found := n.state(t, s.ID); found && state.Status == agent.ContainerExited {
			if state.ExitCode == 0 {
				t.Error("300 processes were started in a task that may have 100")
			}
			return
		}
	}
	if k := len(n.tree.Processes(n.containerCgroup(s.TaskID, s.ID))); k > 100 {
		t.Errorf("%d processes, more than 100", k)
	}
}

func TestMemoryWithoutSwap(t *testing.T) {
	b := blueprint{machine: machine{swap: true}}
	b.spec.Definition = types.ContainerDefinition{Memory: new(int32(64))}
	var warnings []string
	if m := resources(b, &warnings).Memory; m.Swap == nil || *m.Swap != 64<<20 {
		t.Errorf("a container without maxSwap may use %v bytes of memory and swap, want its memory", m.Swap)
	}
	b.spec.Definition.LinuxParameters = &types.LinuxParameters{MaxSwap: new(int32(32)), Swappiness: new(int32(10))}
	if m := resources(b, &warnings).Memory; *m.Swap != 96<<20 || *m.Swappiness != 10 {
		t.Errorf("maxSwap 32 gives %d bytes, swappiness %d", *m.Swap, *m.Swappiness)
	}
	b.machine.swap = false
	if m := resources(b, &warnings).Memory; m.Swap != nil {
		t.Error("swap is limited on a machine that cannot")
	}
}

package containerd

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/containerd/imagetest"
	"github.com/berthdev/berth/internal/node/quota"
	"github.com/berthdev/berth/internal/node/quota/quotatest"
)

func TestWritableLayer(t *testing.T) {
	overlay := []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"index=off", "workdir=/s/7/work", "upperdir=/s/7/fs",
		"lowerdir=/s/2/fs:/s/1/fs"}}}
	if got := strings.Join(writableLayer(overlay), " "); got != "/s/7/work /s/7/fs" {
		t.Errorf("overlayfs writes to %s", got)
	}
	if got := writableLayer([]mount.Mount{{Type: "bind", Source: "/s/1/fs", Options: []string{"rw", "rbind"}}}); len(got) != 1 || got[0] != "/s/1/fs" {
		t.Errorf("a layer alone is written at %v", got)
	}
}

// Two containers and a volume of a task share its bound; another task has its own; with the task everything of it goes.
func TestATaskWritesNoMoreThanItsBound(t *testing.T) {
	integration(t)
	root := quotatest.Mount(t, 400<<20)
	n := newNodeIn(t, root)
	if n.c.Quotas == nil || n.c.Snapshotter != "overlayfs" {
		t.Fatalf("no quotas on a disk that has them; snapshotter %s", n.c.Snapshotter)
	}
	image := n.busybox(t, nil)
	volume := filepath.Join(root, "volume")
	if err := os.Mkdir(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	const bound = 8 << 20
	bounded := func(script string) func(*agent.ContainerSpec) {
		return func(s *agent.ContainerSpec) {
			s.TaskDisk = bound
			s.Definition.Command = []string{script}
			s.Mounts = []agent.Mount{{Type: "bind", Source: volume, Destination: "/v", TaskScoped: true}}
		}
	}
	first := n.container(image, "", bounded(`dd if=/dev/zero of=/x bs=64k count=64 2>&1; sync; echo said $?; sleep 100`))
	n.start(t, first)
	waitFor(t, "half of the bound is written", func() bool { return strings.Contains(read(t, first.Stdout), "said 0") })
	second := n.container(image, "", bounded(`dd if=/dev/zero of=/v/x bs=64k count=256 2>&1; sleep 100`),
		func(s *agent.ContainerSpec) { s.TaskID, s.ID = first.TaskID, first.TaskID+"-second" })
	n.start(t, second)
	waitFor(t, "the task's disk is full", func() bool {
		out := read(t, second.Stdout)
		return strings.Contains(out, "quota exceeded") || strings.Contains(out, "No space left")
	})

	disk, err := quota.Detect(root)
	if err != nil {
		t.Fatal(err)
	}
	id, ok := n.c.Quotas.ID(first.TaskID)
	if used, limit, err := disk.Usage(id); !ok || used > bound || used < bound-(1<<20) || limit != bound || err != nil {
		t.Errorf("the task uses %d of %d, %v", used, limit, err)
	}
	again, err := quota.Open(filepath.Join(root, "quotas"), disk)
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := again.ID(first.TaskID); found != id {
		t.Errorf("a restart finds id %#x, want %#x", found, id)
	}

	other := n.container(image, `dd if=/dev/zero of=/x bs=1M count=20 2>&1`, func(s *agent.ContainerSpec) { s.TaskDisk = 64 << 20 })
	if state, out, _ := n.runs(t, other); state.ExitCode != 0 {
		t.Errorf("another task cannot write: %s", out)
	}
	free := n.container(image, `dd if=/dev/zero of=/x bs=1M count=20 2>&1`)
	if state, out, _ := n.runs(t, free); state.ExitCode != 0 {
		t.Errorf("a task without a bound cannot write: %s", out)
	}

	for _, c := range []string{first.ID, second.ID} {
		if err := n.Delete(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	n.ended(t)
	if _, ok := n.c.Quotas.ID(first.TaskID); !ok {
		t.Error("the bound went while the task's volume is there")
	}
	if err := os.RemoveAll(volume); err != nil {
		t.Fatal(err)
	}
	n.ended(t)
	unix.Sync()
	if used, limit, err := disk.Usage(id); used != 0 || limit != 0 || err != nil {
		t.Errorf("%d of %d bytes are left of the task, %v", used, limit, err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "quotas")); len(left) != 0 {
		t.Errorf("records are left: %v", left)
	}
}

// ended collects what deleted containers leave.
func (n *node) ended(t *testing.T) {
	t.Helper()
	if err := n.collectGarbage(n.context(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ioctlProgram is a program for x86-64 that makes one ioctl on its standard input, with zeros as argument, and exits with its errno.
func ioctlProgram(request uint64) string {
	const base, header = 0x400000, 64 + 56
	le := binary.LittleEndian
	code := append([]byte{0x31, 0xff, 0x48, 0xbe}, le.AppendUint64(nil, request)...) // xor edi, edi; mov rsi, request
	code = append(code, 0x48, 0x8d, 0x15, 18, 0, 0, 0)                               // lea rdx, [what follows the code]
	code = append(code, 0xb8, unix.SYS_IOCTL, 0, 0, 0, 0x0f, 0x05)                   // mov eax; syscall
	code = append(code, 0x89, 0xc7, 0xf7, 0xdf)                                      // mov edi, eax; neg edi
	code = append(code, 0xb8, 60, 0, 0, 0, 0x0f, 0x05)                               // mov eax, SYS_exit; syscall
	code = append(code, make([]byte, 32)...)
	elf := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, n := range []uint16{2, 62} { // executable, x86-64
		elf = le.AppendUint16(elf, n)
	}
	elf = le.AppendUint32(elf, 1)
	for _, n := range []uint64{base + header, 64, 0} { // entry, program headers, section headers
		elf = le.AppendUint64(elf, n)
	}
	elf = le.AppendUint32(elf, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} {
		elf = le.AppendUint16(elf, n)
	}
	elf = le.AppendUint32(le.AppendUint32(elf, 1), 5) // to load, readable and executable
	size := uint64(header + len(code))
	for _, n := range []uint64{0, base, base, size, size, 0x1000} {
		elf = le.AppendUint64(elf, n)
	}
	return string(append(elf, code...))
}

// A container that owns its files cannot take them out of its task's bound.
func TestAContainerCannotLeaveItsProject(t *testing.T) {
	integration(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("the program that tries is for x86-64")
	}
	root := quotatest.Mount(t, 200<<20)
	n := newNodeIn(t, root)
	image := n.busybox(t, nil, imagetest.File{Path: "xattr", Content: ioctlProgram(uint64(projectIoctls[0])), Mode: 0o755},
		imagetest.File{Path: "high", Content: ioctlProgram(0xabc<<32 | uint64(projectIoctls[0])), Mode: 0o755},
		imagetest.File{Path: "flags", Content: ioctlProgram(uint64(projectIoctls[1])), Mode: 0o755},
		imagetest.File{Path: "other", Content: ioctlProgram(0x5450), Mode: 0o755}) // FIONCLEX
	s := n.container(image, `mkdir /d; for p in xattr high flags other; do /$p </d; echo $p $?; done; dd if=/dev/zero of=/d/x bs=64k count=256 2>&1`,
		func(s *agent.ContainerSpec) { s.TaskDisk = 8 << 20 })
	state, out, stderr := n.runs(t, s)
	want := fmt.Sprintf("xattr %[1]d\nhigh %[1]d\nflags %[1]d\nother 0\n", int(unix.ENOTTY))
	if state.ExitCode == 0 || !strings.HasPrefix(out, want) {
		t.Errorf("exit %d, want a full disk; it said %s %s", state.ExitCode, out, stderr)
	}
}

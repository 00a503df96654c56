package containerd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/node/agent"
)

func plainBlueprint(change func(*blueprint)) blueprint {
	b := blueprint{
		spec: agent.ContainerSpec{ID: "t-c", TaskID: "t", Name: "c", Definition: types.ContainerDefinition{Command: []string{"run"}}},
		image: imageConfig{ImageConfig: ocispec.ImageConfig{Env: []string{"PATH=/image", "A=1"}, Entrypoint: []string{"/entry"},
			Cmd: []string{"default"}, WorkingDir: "/w"}},
		machine: machine{bounding: 1<<41 - 1, resources: true, swap: true, nofile: 1 << 20},
		cgroup:  "/berth-x/t/t-c", pids: 100, note: "/run/note",
	}
	if change != nil {
		change(&b)
	}
	return b
}

func TestArguments(t *testing.T) {
	image := imageConfig{ImageConfig: ocispec.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"default"}}}
	for _, c := range []struct{ entry, command, want string }{
		{"", "", "/entry default"}, {"", "mine", "/entry mine"}, {"/own", "", "/own"}, {"/own", "mine", "/own mine"},
	} {
		d := types.ContainerDefinition{EntryPoint: strings.Fields(c.entry), Command: strings.Fields(c.command)}
		if got := strings.Join(arguments(&d, image), " "); got != c.want {
			t.Errorf("entryPoint %q, command %q: %q, want %q", c.entry, c.command, got, c.want)
		}
	}
}

func TestSpecResources(t *testing.T) {
	spec, warnings, err := ociSpec(plainBlueprint(func(b *blueprint) {
		d := &b.spec.Definition
		d.Cpu, d.Memory, d.MemoryReservation = 512, new(int32(128)), new(int32(64))
		d.LinuxParameters = &types.LinuxParameters{MaxSwap: new(int32(10)), Swappiness: new(int32(30))}
	}))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	r := spec.Linux.Resources
	if *r.CPU.Shares != 512 || *r.Memory.Limit != 128<<20 || *r.Memory.Reservation != 64<<20 || *r.Memory.Swap != 138<<20 ||
		*r.Memory.Swappiness != 30 || *r.Pids.Limit != 100 {
		t.Errorf("%+v %+v", r.CPU, r.Memory)
	}
	if spec.Linux.CgroupsPath != "/berth-x/t/t-c" || spec.Annotations[groupKey] != "t" {
		t.Errorf("cgroup %s, annotations %v", spec.Linux.CgroupsPath, spec.Annotations)
	}
	for cpu, want := range map[int32]uint64{0: 2, 1: 2, 2: 2, 99: 99, 1 << 30: 262144} {
		spec, _, err := ociSpec(plainBlueprint(func(b *blueprint) { b.spec.Definition.Cpu = cpu }))
		if err != nil || *spec.Linux.Resources.CPU.Shares != want {
			t.Errorf("cpu %d: %d shares, want %d; %v", cpu, *spec.Linux.Resources.CPU.Shares, want, err)
		}
	}
}

// What this machine lacks is given in a weaker form, with a warning, and never breaks a start.
func TestSpecDegrades(t *testing.T) {
	spec, warnings, err := ociSpec(plainBlueprint(func(b *blueprint) {
		b.machine = machine{bounding: 1<<0 | 1<<10}
		d := &b.spec.Definition
		d.Memory = new(int32(16))
		d.LinuxParameters = &types.LinuxParameters{MaxSwap: new(int32(1)),
			Capabilities: &types.KernelCapabilities{Add: []string{"SYS_RESOURCE"}}}
		d.Ulimits = []types.Ulimit{{Name: types.UlimitNameNofile, SoftLimit: -1, HardLimit: -1}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(spec.Process.Capabilities.Bounding, " "); got != "CAP_CHOWN CAP_NET_BIND_SERVICE" {
		t.Errorf("capabilities %s", got)
	}
	all := strings.Join(warnings, "; ")
	for _, want := range []string{"maxSwap", "SYS_RESOURCE", "nofile"} {
		if !strings.Contains(all, want) {
			t.Errorf("warnings %q do not name %s", all, want)
		}
	}
}

func TestSpecIsolation(t *testing.T) {
	has := func(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
		return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
	own, _, err := ociSpec(plainBlueprint(func(b *blueprint) { b.spec.NetnsPath = "/run/netns/x" }))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace, specs.NetworkNamespace,
		specs.MountNamespace,
		specs.UTSNamespace, specs.CgroupNamespace} {
		if !has(own, kind) {
			t.Errorf("no %s namespace", kind)
		}
	}
	if own.Linux.Seccomp == nil || len(own.Linux.MaskedPaths) == 0 || len(own.Linux.ReadonlyPaths) == 0 {
		t.Error("a container is not walled in")
	}
	if own.Linux.Sysctl["net.ipv4.ip_unprivileged_port_start"] != "0" {
		t.Error("a user other than root cannot listen on port 80")
	}
	host, _, err := ociSpec(plainBlueprint(func(b *blueprint) {
		b.spec.PIDMode, b.spec.IPCMode, b.spec.Definition.Privileged = types.PidModeHost, types.IpcModeHost, new(true)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if has(host, specs.PIDNamespace) || has(host, specs.IPCNamespace) || has(host, specs.NetworkNamespace) ||
		host.Linux.Seccomp != nil ||
		len(host.Linux.Sysctl) != 0 {
		t.Errorf("host modes: %+v", host.Linux)
	}
}

func TestSpecRefusesByName(t *testing.T) {
	for name, change := range map[string]func(*blueprint){
		"no command": func(b *blueprint) { b.spec.Definition.Command = nil; b.image = imageConfig{} },
		"init without one": func(b *blueprint) {
			b.spec.Definition.LinuxParameters = &types.LinuxParameters{InitProcessEnabled: new(true)}
		},
		"unknown ulimit":    func(b *blueprint) { b.spec.Definition.Ulimits = []types.Ulimit{{Name: "x"}} },
		"relative mount":    func(b *blueprint) { b.spec.Mounts = []agent.Mount{{Type: "tmpfs", Destination: "x"}} },
		"mount over root":   func(b *blueprint) { b.spec.Mounts = []agent.Mount{{Type: "tmpfs", Destination: "/."}} },
		"mount that climbs": func(b *blueprint) { b.spec.Mounts = []agent.Mount{{Type: "tmpfs", Destination: ".."}} },
		"unknown mount":     func(b *blueprint) { b.spec.Mounts = []agent.Mount{{Type: "nfs", Destination: "/x"}} },
		"ipcMode task":      func(b *blueprint) { b.spec.IPCMode = types.IpcModeTask },
	} {
		_, _, err := ociSpec(plainBlueprint(change))
		if e, ok := errors.AsType[*agent.Error](err); !ok || e.Name != "CannotCreateContainerError" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of equal names the last counts, no name appears twice, and nothing else is lost.
func TestEnvironment(t *testing.T) {
	pair := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"A", "B", "PATH", "HOME"}).Draw(t,
			"name") + "=" + rapid.StringMatching(`[a-z=]{0,3}`).Draw(t, "value")
	})
	rapid.Check(t, func(t *rapid.T) {
		image, own := rapid.SliceOf(pair).Draw(t, "image"), rapid.SliceOf(pair).Draw(t, "own")
		b := plainBlueprint(func(b *blueprint) { b.image.Env, b.spec.Env, b.user.home = image, own, "/h" })
		want := map[string]string{"PATH": strings.TrimPrefix(defaultPath, "PATH="), "HOME": "/h"}
		for _, kv := range append(slices.Clone(image), own...) {
			k, v, _ := strings.Cut(kv, "=")
			want[k] = v
		}
		got := map[string]string{}
		for _, kv := range environment(b) {
			k, v, _ := strings.Cut(kv, "=")
			if _, twice := got[k]; twice {
				t.Fatalf("%s appears twice", k)
			}
			got[k] = v
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("%s is %q, want %q", k, got[k], v)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

// What is mounted below another mount comes after it.
func TestMountOrder(t *testing.T) {
	all, err := mounts(agent.ContainerSpec{Mounts: []agent.Mount{{Type: "tmpfs", Destination: "/a/b/c"}, {Type: "tmpfs",
		Destination: "/a"},
		{Type: "tmpfs", Destination: "/a/b"}, {Type: "tmpfs", Destination: "/dev/shm/x"}, {Type: "tmpfs", Destination: "/dev/shm"}}}, machine{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(d string) int {
		return slices.IndexFunc(all, func(m specs.Mount) bool { return m.Destination == d })
	}
	for _, pair := range [][2]string{{"/a", "/a/b"}, {"/a/b", "/a/b/c"}, {"/dev", "/dev/shm"}, {"/dev/shm", "/dev/shm/x"}} {
		if at(pair[0]) < 0 || at(pair[0]) > at(pair[1]) {
			t.Errorf("%s is mounted after %s", pair[0], pair[1])
		}
	}
	if i := at("/dev/shm"); all[i].Source != "tmpfs" {
		t.Error("the definition's own /dev/shm does not replace the default one")
	}
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		add, drop string
		want      string // "" for an error
	}{
		{"", "", strings.Join(defaultCapabilities, " ")},
		{"NET_ADMIN", "ALL", "NET_ADMIN"},
		{"cap_sys_ptrace", "ALL", "SYS_PTRACE"},
		{"", "NET_RAW MKNOD", strings.Join(slices.DeleteFunc(slices.Clone(defaultCapabilities),
			func(s string) bool { return s == "NET_RAW" || s == "MKNOD" }), " ")},
		{"ALL", "", strings.Join(capabilityBits, " ")},
		{"FLY", "", ""},
		{"", "FLY", ""},
	} {
		wanted := slices.Clone(defaultCapabilities)
		err := change(&wanted, types.KernelCapabilities{Add: strings.Fields(c.add), Drop: strings.Fields(c.drop)})
		if (err != nil) != (c.want == "") || err == nil && strings.Join(wanted, " ") != c.want {
			t.Errorf("add %q, drop %q: %v %v", c.add, c.drop, wanted, err)
		}
	}
}

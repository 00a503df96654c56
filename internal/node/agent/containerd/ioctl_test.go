package containerd

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Each request is either refused or allowed, by one rule.
func TestOnlyTheProjectsIoctlsAreRefused(t *testing.T) {
	filter := seccomp.DefaultProfile(&oci.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}, Linux: &specs.Linux{}})
	holdProject(filter)
	var rules []specs.LinuxSyscall
	for _, call := range filter.Syscalls {
		if slices.Contains(call.Names, "ioctl") {
			rules = append(rules, call)
		}
	}
	check := func(request uint32) {
		t.Helper()
		var found []specs.LinuxSeccompAction
		for _, r := range rules {
			if len(r.Args) != 1 {
				t.Fatalf("a rule for all ioctls: %+v", r)
			}
			if a := r.Args[0]; (uint64(request)|0xabc<<32)&a.Value == a.ValueTwo {
				found = append(found, r.Action)
			}
		}
		want := specs.ActAllow
		if slices.Contains(projectIoctls, request) {
			want = specs.ActErrno
		}
		if len(found) != 1 || found[0] != want {
			t.Fatalf("request %#x: %v, want %v", request, found, want)
		}
	}
	for _, request := range projectIoctls {
		check(request)
		for bit := range 32 {
			check(request ^ 1<<bit)
		}
	}
	for range 100_000 {
		check(rand.Uint32())
	}
	t.Logf("%d rules", len(rules))
}

package containerd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// capabilityBits are the capabilities by name, without CAP_, in the kernel's order.
var capabilityBits = []string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
	"SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE",
	"SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"}

// defaultCapabilities are Docker's.
var defaultCapabilities = []string{"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
	"SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}

var maskedPaths = []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}

var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

// capabilities are Docker's defaults with the definition's changes, all of them for a privileged container. Those that this
// machine does not have are left out with a warning. A user other than root has them only as a bound, as after execve.
func capabilities(d *types.ContainerDefinition, u execUser, m machine, warnings *[]string) (*specs.LinuxCapabilities, error) {
	wanted := slices.Clone(defaultCapabilities)
	var changes types.KernelCapabilities
	if d.LinuxParameters != nil && d.LinuxParameters.Capabilities != nil {
		changes = *d.LinuxParameters.Capabilities
	}
	if deref(d.Privileged) {
		wanted = slices.Clone(capabilityBits)
	} else if err := change(&wanted, changes); err != nil {
		return nil, err
	}
	var given []string
	for bit, name := range capabilityBits {
		if !slices.Contains(wanted, name) {
			continue
		}
		if m.bounding&(1<<bit) == 0 {
			if slices.Contains(changes.Add, name) {
				*warnings = append(*warnings, fmt.Sprintf("the capability %s cannot be added: Berth itself lacks it on this machine", name))
			}
			continue
		}
		given = append(given, "CAP_"+name)
	}
	caps := &specs.LinuxCapabilities{Bounding: given}
	if u.uid == 0 {
		caps.Effective, caps.Permitted = given, given
	}
	return caps, nil
}

func change(wanted *[]string, changes types.KernelCapabilities) error {
	apply := func(names []string, f func(name string)) error {
		for _, name := range names {
			plain := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
			if plain != "ALL" && !slices.Contains(capabilityBits, plain) {
				return cannotCreate("%q is not a Linux capability", name)
			}
			f(plain)
		}
		return nil
	}
	// As in Docker, ALL comes first on either side, then single names.
	if slices.ContainsFunc(changes.Add, func(s string) bool { return strings.EqualFold(s, "ALL") }) {
		*wanted = slices.Clone(capabilityBits)
	}
	if slices.ContainsFunc(changes.Drop, func(s string) bool { return strings.EqualFold(s, "ALL") }) {
		*wanted = nil
	}
	err := apply(changes.Drop, func(name string) {
		*wanted = slices.DeleteFunc(*wanted, func(s string) bool { return s == name })
	})
	if err != nil {
		return err
	}
	return apply(changes.Add, func(name string) {
		if name != "ALL" && !slices.Contains(*wanted, name) {
			*wanted = append(*wanted, name)
		}
	})
}

// privileged lifts the walls of a container: all devices, no seccomp filter, nothing masked or read-only.
func privileged(spec *specs.Spec) error {
	devices, err := oci.HostDevices()
	if err != nil {
		return cannotCreate("list the machine's devices for a privileged container: %v", err)
	}
	spec.Linux.Devices = devices
	spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths, spec.Linux.Seccomp = nil, nil, nil
	for i, m := range spec.Mounts {
		if m.Type == "sysfs" || m.Type == "cgroup" {
			spec.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		}
	}
	return nil
}

const megabyte = 1 << 20

// resources are the container's own limits; those of the task are on the cgroup above.
func resources(b blueprint, warnings *[]string) *specs.LinuxResources {
	d := &b.spec.Definition
	shares := cpuShares(int64(d.Cpu))
	r := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
		CPU:     &specs.LinuxCPU{Shares: new(uint64(shares))},
		Memory:  &specs.LinuxMemory{},
		Pids:    &specs.LinuxPids{Limit: &b.pids},
	}
	if m := int64(deref(d.Memory)); m > 0 {
		r.Memory.Limit = new(m * megabyte)
	}
	if m := int64(deref(d.MemoryReservation)); m > 0 {
		r.Memory.Reservation = new(m * megabyte)
	}
	p := d.LinuxParameters
	if r.Memory.Limit == nil {
		return r
	}
	if p == nil || p.MaxSwap == nil {
		if b.machine.swap {
			r.Memory.Swap = new(*r.Memory.Limit) // memory and swap together: a limit of memory is one
		}
		return r
	}
	if !b.machine.swap {
		*warnings = append(*warnings, "maxSwap has no effect: this machine's kernel does not account for swap")
		return r
	}
	r.Memory.Swap = new(*r.Memory.Limit + int64(*p.MaxSwap)*megabyte)
	if p.Swappiness != nil && *p.MaxSwap > 0 && *p.Swappiness >= 0 {
		r.Memory.Swappiness = new(uint64(*p.Swappiness))
	}
	return r
}

// cpuShares turns CPU units into the kernel's weight, whose least value is 2.
func cpuShares(units int64) int64 { return min(max(units, 2), 262144) }

// rlimitNames are those of ECS with the kernel's.
var rlimitNames = map[types.UlimitName]string{
	types.UlimitNameCore: "RLIMIT_CORE", types.UlimitNameCpu: "RLIMIT_CPU", types.UlimitNameData: "RLIMIT_DATA",
	types.UlimitNameFsize: "RLIMIT_FSIZE", types.UlimitNameLocks: "RLIMIT_LOCKS", types.UlimitNameMemlock: "RLIMIT_MEMLOCK",
	types.UlimitNameMsgqueue: "RLIMIT_MSGQUEUE", types.UlimitNameNice: "RLIMIT_NICE", types.UlimitNameNofile: "RLIMIT_NOFILE",
	types.UlimitNameNproc: "RLIMIT_NPROC", types.UlimitNameRss: "RLIMIT_RSS", types.UlimitNameRtprio: "RLIMIT_RTPRIO",
	types.UlimitNameRttime: "RLIMIT_RTTIME", types.UlimitNameSigpending: "RLIMIT_SIGPENDING", types.UlimitNameStack: "RLIMIT_STACK",
}

const defaultNofile = 65535 // Fargate's

func rlimits(d *types.ContainerDefinition, m machine, warnings *[]string) ([]specs.POSIXRlimit, error) {
	nofile := uint64(defaultNofile)
	if !m.resources && m.nofile > 0 {
		nofile = min(nofile, m.nofile)
	}
	all := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: nofile, Hard: nofile}}
	for _, u := range d.Ulimits {
		name, ok := rlimitNames[u.Name]
		if !ok {
			return nil, cannotCreate("%q is not the name of a ulimit", u.Name)
		}
		l := specs.POSIXRlimit{Type: name, Soft: limitValue(u.SoftLimit), Hard: limitValue(u.HardLimit)}
		if !m.resources {
			if hard, known := hardLimit(name); known && l.Hard > hard {
				*warnings = append(*warnings, fmt.Sprintf("the ulimit %s is lowered from %d to %d: Berth lacks CAP_SYS_RESOURCE here",
					u.Name, u.HardLimit, hard))
				l.Hard = hard
			}
		}
		l.Soft = min(l.Soft, l.Hard)
		all = slices.DeleteFunc(all, func(o specs.POSIXRlimit) bool { return o.Type == name })
		all = append(all, l)
	}
	return all, nil
}

// limitValue reads -1 as "unlimited".
func limitValue(v int32) uint64 {
	if v < 0 {
		return ^uint64(0)
	}
	return uint64(v)
}

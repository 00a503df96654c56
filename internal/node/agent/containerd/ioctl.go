package containerd

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// projectIoctls change a file's project, or whether what is made below inherits it: FS_IOC_FSSETXATTR, FS_IOC_SETFLAGS and its form
// for 32 bits. Whoever owns a file may call them, so a container could take its files out of its task's bound.
var projectIoctls = []uint32{0x401c5820, 0x40086602, 0x40046602}

// holdProject makes a filter refuse projectIoctls, as a file system does that does not know them.
func holdProject(filter *specs.LinuxSeccomp) {
	for i, call := range filter.Syscalls {
		if call.Action == specs.ActAllow {
			filter.Syscalls[i].Names = slices.DeleteFunc(slices.Clone(call.Names), func(n string) bool { return n == "ioctl" })
		}
	}
	filter.Syscalls = slices.DeleteFunc(filter.Syscalls, func(call specs.LinuxSyscall) bool { return len(call.Names) == 0 })
	refused := uint(unix.ENOTTY)
	for _, request := range projectIoctls {
		filter.Syscalls = append(filter.Syscalls, onIoctl(^uint32(0), request, specs.ActErrno, &refused))
	}
	// A rule can compare bits with a value and not say "unlike", so each other request is allowed by the bits down to the first in
	// which it differs from all that are refused.
	var allow func(bit uint32, mask, value uint32, refused []uint32)
	allow = func(bit uint32, mask, value uint32, refused []uint32) {
		if len(refused) == 0 {
			filter.Syscalls = append(filter.Syscalls, onIoctl(mask, value, specs.ActAllow, nil))
			return
		}
		if bit == 0 {
			return
		}
		for _, half := range []uint32{0, bit} {
			allow(bit>>1, mask|bit, value|half, slices.DeleteFunc(slices.Clone(refused), func(r uint32) bool { return r&bit != half }))
		}
	}
	allow(1<<31, 0, 0, projectIoctls)
}

// onIoctl is a rule of requests that are value in the bits of mask. The kernel looks at 32 bits of a request, and so does the rule.
func onIoctl(mask, value uint32, action specs.LinuxSeccompAction, errno *uint) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{"ioctl"}, Action: action, ErrnoRet: errno, Args: []specs.LinuxSeccompArg{
		{Index: 1, Value: uint64(mask), ValueTwo: uint64(value), Op: specs.OpMaskedEqual}}}
}

package doctor

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// walls says what stands between containers and the machine, where that differs from machine to machine.
func walls() []Finding {
	return append(apparmor("/sys/module/apparmor/parameters/enabled", "/sbin/apparmor_parser"), recursive()...)
}

// apparmor tells whether containers get its default profile, by the kernel's switch and its loader.
func apparmor(enabled, parser string) []Finding {
	const name = "apparmor"
	data, err := os.ReadFile(enabled)
	if err != nil || strings.TrimSpace(string(data)) != "Y" {
		return ok(name, "This kernel has no AppArmor; seccomp, capabilities and namespaces hold containers.")
	}
	if _, err := os.Stat(parser); err != nil {
		return found(name, Warn, "AppArmor is on, and "+parser+" is missing: containers run without its default profile.",
			"Install the package apparmor.")
	}
	return ok(name, "Containers get AppArmor's default profile.")
}

// recursive tells whether a read-only volume is read-only with all that is mounted below it.
func recursive() []Finding {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if errors.Is(err, unix.ENOSYS) {
		return found("read-only volumes", Warn, "This kernel cannot make mounts read-only with all that is mounted below them: what is "+
			"mounted below a read-only volume can be written.", "Use Linux 5.12 or newer.")
	}
	return ok("read-only volumes", "Read-only volumes are read-only all the way.")
}

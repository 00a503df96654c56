package beat

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is the kernel's clock since its boot, which goes on while the machine sleeps.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("the kernel has no CLOCK_BOOTTIME, which it has since 2.6.39: " + err.Error())
	}
	return time.Duration(t.Nano())
}

// Boot names this boot of the machine.
func Boot() (uint64, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return BootOf(strings.TrimSpace(string(id))), err
}

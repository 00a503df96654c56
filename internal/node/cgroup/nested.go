//go:build linux

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// leaf is the cgroup that the processes of a root are moved to which is not the machine's: in a container the root of the cgroup
// namespace holds them all, and v2 hands controllers down from a cgroup without processes only. It has this name in containers of
// Docker too, and it stays, because others' processes are in it.
const leaf = "init"

// handDown makes controllers usable below dir, and moves processes out of dir where dir is the root and the kernel asks for it. A
// controller that cannot be handed down is found when a limit needs it. put writes a value to a file of a cgroup.
func handDown(dir string, controllers []string, root bool, put func(dir, file, value string) error) {
	// Those of whole processes come first: with one of threads alone, a populated cgroup becomes one of threads instead of refusing, and
	// its children take no process.
	slices.SortStableFunc(controllers, func(a, b string) int { return order(a) - order(b) })
	for _, c := range controllers {
		err := put(dir, "cgroup.subtree_control", "+"+c)
		for try := 0; root && errors.Is(err, unix.EBUSY) && try < 10; try++ { // they may fork meanwhile
			if vacate(dir, put) != nil {
				break
			}
			err = put(dir, "cgroup.subtree_control", "+"+c)
		}
	}
}

func order(controller string) int {
	if controller == "memory" || controller == "io" {
		return 0
	}
	return 1
}

// vacate moves the processes of dir to a leaf below it.
func vacate(dir string, put func(dir, file, value string) error) error {
	to := filepath.Join(dir, leaf)
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for _, pid := range readInts(filepath.Join(dir, "cgroup.procs")) {
		if pid == 0 { // of another PID namespace: it cannot be named here
			continue
		}
		if err := put(to, "cgroup.procs", strconv.FormatInt(pid, 10)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A container may write its /etc/hosts, /etc/hostname and /etc/resolv.conf, as in Docker. They are on a file system of the task's own
// that holds 1 MiB, so that it cannot fill the machine's. Where none can be mounted they are read-only.
const filesOptions = "size=1m,nr_inodes=512,mode=0700"

// makeFilesDir makes dir a file system of its own, if it is none yet. It tells whether it is.
func makeFilesDir(dir string) (bounded bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	if isMount(dir) {
		return true, nil
	}
	return unix.Mount("berth", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, filesOptions) == nil, nil
}

// removeFilesDir removes dir with all that is in it.
func removeFilesDir(dir string) error {
	for isMount(dir) {
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "unmount", Path: dir, Err: err}
		}
	}
	return os.RemoveAll(dir)
}

// isMount tells whether dir is on another file system than its parent.
func isMount(dir string) bool {
	var own, parent unix.Stat_t
	err := errors.Join(unix.Lstat(dir, &own), unix.Lstat(filepath.Dir(dir), &parent))
	return err == nil && own.Dev != parent.Dev
}

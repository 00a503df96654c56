package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// claimDir makes the data directory, or sees to it that one that is there is ours alone: it holds the root key and everything that
// tasks write. One that is empty or a Berth's already is closed to others; one with other things in it is not ours to close, and one
// of another user, who could change it under us, is refused.
func claimDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, look := range []func(string) (os.FileInfo, error){os.Lstat, os.Stat} { // a link, and what it leads to
		info, err := look(dir)
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() && owner != 0 {
			return fmt.Errorf("%s belongs to user %d, who could change it under Berth; choose another with --data-dir, or run chown %d on it",
				dir, owner, os.Geteuid())
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	if ours, err := isOurs(dir); err != nil {
		return err
	} else if !ours {
		return fmt.Errorf("%s can be read by other users (mode %04o) and holds what is not Berth's; choose another with --data-dir, "+
			"or run chmod 700 on it", dir, info.Mode().Perm())
	}
	return os.Chmod(dir, 0o700)
}

// isOurs tells whether a directory is empty or holds a Berth.
func isOurs(dir string) (bool, error) {
	if _, err := os.Lstat(filepath.Join(dir, "instance.json")); err == nil {
		return true, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err = f.Readdirnames(1); errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/containerd/containerd/v2/core/mount"
	rootfs "github.com/containerd/continuity/fs"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// execUser is who a container's process runs as.
type execUser struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

const maxPasswd = 4 << 20 // bytes of /etc/passwd and /etc/group that are read from an image

// lookUpUser resolves "", "name", "uid", "name:group" or "uid:gid" with the image's /etc/passwd and /etc/group. mounts are those
// of the container's snapshot; the answer is cached by image and name.
func (r *Runtime) lookUpUser(ctx context.Context, image imageConfig, name string, mounts []mount.Mount) (execUser, error) {
	key := image.chainID + " " + name
	if u, ok := r.users.get(key); ok {
		return u, nil
	}
	var found *user.ExecUser
	err := mount.WithReadonlyTempMount(ctx, mounts, func(root string) error {
		passwd, err := openIn(root, "/etc/passwd")
		if err != nil {
			return err
		}
		defer passwd.Close()
		group, err := openIn(root, "/etc/group")
		if err != nil {
			return err
		}
		defer group.Close()
		found, err = user.GetExecUser(name, &user.ExecUser{Home: "/"}, io.LimitReader(passwd, maxPasswd), io.LimitReader(group,
			maxPasswd))
		return err
	})
	if err != nil {
		return execUser{}, fmt.Errorf("user %q: %w", name, err)
	}
	// The user's own group is among the further ones, so that files that bar it cannot be opened by leaving it.
	u := execUser{uid: uint32(found.Uid), gid: uint32(found.Gid), groups: []uint32{uint32(found.Gid)}, home: found.Home}
	for _, g := range found.Sgids {
		if !slices.Contains(u.groups, uint32(g)) {
			u.groups = append(u.groups, uint32(g))
		}
	}
	r.users.put(key, u)
	return u, nil
}

// openIn opens a file below root; links lead nowhere but to below root. A missing file is an empty one. What is no plain file, such
// as a pipe or a device, which the image's maker may have put there, is not even opened.
func openIn(root, name string) (io.ReadCloser, error) {
	fd, err := findIn(root, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return io.NopCloser(emptyReader{}), nil
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s of the image is not a file", name)
	}
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// findIn returns a descriptor that names a file and gives no access to it.
func findIn(root, name string) (int, error) {
	const flags = unix.O_PATH | unix.O_CLOEXEC
	dir, err := unix.Open(root, flags|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fd, err
	}
	path, err := rootfs.RootPath(root, name) // a kernel before 5.6; nobody changes the files meanwhile
	if err != nil {
		return -1, err
	}
	return unix.Open(path, flags|unix.O_NOFOLLOW, 0)
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }

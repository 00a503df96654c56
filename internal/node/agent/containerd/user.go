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

// openIn opens a file below root without following links out of it. A missing file is an empty one.
func openIn(root, name string) (io.ReadCloser, error) {
	path, err := rootfs.RootPath(root, name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(emptyReader{}), nil
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a file", name), f.Close())
	}
	return f, nil
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }

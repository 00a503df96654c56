package quota

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kernel is the file system that a directory is on.
type Kernel struct{ dir string }

// Detect returns the file system of dir, an existing directory. The error says in a sentence why it bounds no projects.
func Detect(dir string) (*Kernel, error) {
	k := &Kernel{dir}
	s := fsQuotaStatv{version: 1}
	err := k.call(qXGetQStatV, 0, unsafe.Pointer(&s))
	switch {
	case errors.Is(err, unix.ENOSYS):
		return nil, errors.New("the file system has no project quotas, or the kernel none (Linux 5.14 is needed)")
	case err != nil:
		return nil, fmt.Errorf("the file system has no project quotas: %w", err)
	case s.flags&projectEnforced == 0:
		return nil, errors.New("the file system is not mounted with project quotas (ext4: prjquota, xfs: pquota)")
	}
	return k, nil
}

// Numbers of the kernel's interface: linux/quota.h, linux/dqblk_xfs.h, linux/fs.h. The generic commands do for xfs too.
const (
	qGetQuota   = 0x800007
	qSetQuota   = 0x800008
	qXGetQStatV = 'X'<<8 + 8
	prjQuota    = 2

	blockLimits     = 1 // QIF_BLIMITS
	blockSize       = 1024
	projectEnforced = 1 << 5 // FS_QUOTA_PDQ_ENFD

	ioctlGetXattr = 0x801c581f // FS_IOC_FSGETXATTR
	ioctlSetXattr = 0x401c5820 // FS_IOC_FSSETXATTR
	flagInherit   = 0x200      // FS_XFLAG_PROJINHERIT
)

// ifDqblk is struct if_dqblk.
type ifDqblk struct {
	blockHard, blockSoft, space  uint64
	inodeHard, inodeSoft, inodes uint64
	blockTime, inodeTime         uint64
	valid                        uint32
	_                            uint32
}

// fsQuotaStatv is struct fs_quota_statv.
type fsQuotaStatv struct {
	version int8
	_       uint8
	flags   uint16
	incore  uint32
	_       [3][24]byte // files of users, groups, projects
	_       [3]int32
	_       [4]uint16
	_       uint32
	_       [7]uint64
}

// fsxattr is struct fsxattr.
type fsxattr struct {
	xflags, extsize, nextents, project, cowextsize uint32
	_                                              [8]byte
}

func (k *Kernel) call(command, id uint32, data unsafe.Pointer) error {
	f, err := os.Open(k.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), uintptr(command<<8|prjQuota), uintptr(id), uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Limit implements Disk. The bound is rounded up to a KiB.
func (k *Kernel) Limit(id uint32, bytes int64) error {
	q := ifDqblk{blockHard: (uint64(bytes) + blockSize - 1) / blockSize, valid: blockLimits}
	return k.call(qSetQuota, id, unsafe.Pointer(&q))
}

// Usage implements Disk.
func (k *Kernel) Usage(id uint32) (used, limit int64, err error) {
	var q ifDqblk
	err = k.call(qGetQuota, id, unsafe.Pointer(&q))
	if errors.Is(err, unix.ENOENT) { // xfs has never seen it
		return 0, 0, nil
	}
	return int64(q.space), int64(q.blockHard) * blockSize, err
}

// Tag implements Disk. A directory on another file system stays as it is: a data directory may be of several.
func (k *Kernel) Tag(dir string, id uint32) error {
	var own, other unix.Stat_t
	if err := errors.Join(unix.Stat(k.dir, &own), unix.Lstat(dir, &other)); err != nil {
		return err
	}
	if own.Dev != other.Dev {
		return nil
	}
	return withDir(dir, func(fd uintptr) error {
		var x fsxattr
		if err := xattr(fd, ioctlGetXattr, &x); err != nil {
			return err
		}
		if x.project == id && x.xflags&flagInherit != 0 {
			return nil
		}
		x.project, x.xflags = id, x.xflags|flagInherit
		return xattr(fd, ioctlSetXattr, &x)
	})
}

// Project implements Disk.
func (k *Kernel) Project(dir string) (id uint32, err error) {
	err = withDir(dir, func(fd uintptr) error {
		var x fsxattr
		err := xattr(fd, ioctlGetXattr, &x)
		id = x.project
		return err
	})
	return id, err
}

func withDir(dir string, do func(fd uintptr) error) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(f.Fd())
}

func xattr(fd, request uintptr, x *fsxattr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(x))); errno != 0 {
		return errno
	}
	return nil
}

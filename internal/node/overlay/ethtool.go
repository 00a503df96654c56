package overlay

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setChecksums says whether the device leaves the checksums of what it sends to the hardware below. Some network cards and hypervisors
// spoil those inside of VXLAN.
func setChecksums(device string, offload bool) error {
	const setTxChecksum = 0x17 // ETHTOOL_STXCSUM
	type value struct{ cmd, data uint32 }
	type request struct {
		name [unix.IFNAMSIZ]byte
		data *value
		_    [16]byte // what else a struct ifreq has room for
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	v := &value{cmd: setTxChecksum}
	if offload {
		v.data = 1
	}
	r := request{data: v}
	copy(r.name[:unix.IFNAMSIZ-1], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return errno
	}
	return nil
}

package overlay

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of the kernel's ethtool: whether a device leaves the checksums of what it sends to the hardware below. Some network cards and
// hypervisors spoil those inside of VXLAN.
const (
	getTxChecksum = 0x16 // ETHTOOL_GTXCSUM
	setTxChecksum = 0x17 // ETHTOOL_STXCSUM
)

func setChecksums(device string, offload bool) error {
	v := ethtoolValue{cmd: setTxChecksum}
	if offload {
		v.data = 1
	}
	return ethtool(device, &v)
}

func getChecksums(device string) (offload bool, err error) {
	v := ethtoolValue{cmd: getTxChecksum}
	err = ethtool(device, &v)
	return v.data != 0, err
}

type ethtoolValue struct{ cmd, data uint32 }

func ethtool(device string, v *ethtoolValue) error {
	type request struct {
		name [unix.IFNAMSIZ]byte
		data *ethtoolValue
		_    [16]byte // what else a struct ifreq has room for
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r := request{data: v}
	copy(r.name[:unix.IFNAMSIZ-1], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return errno
	}
	return nil
}

package metadata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
)

// FromHostTask is the guard of the listener at 127.0.0.1, which every user of the machine reaches: a request is let through when the
// task is in host mode and one of its processes has the connection. processes lists those in the task's cgroup.
//
// TCP does not tell a peer's process. The kernel tells the peer's socket by the connection's four numbers (sock_diag), which nobody
// else can have while our end is open, and /proc tells which process has that socket. Only the task's own processes are looked at, so
// a request costs one netlink call and a look through the descriptors of one task.
func FromHostTask(processes func(taskID string) []int) Guard {
	return func(r *http.Request, task *agent.View) bool {
		if task.Task.NetworkMode != types.NetworkModeHost {
			return false
		}
		socket, ok := peerSocket(r)
		if !ok {
			return false
		}
		for _, pid := range processes(task.Task.ID) {
			if holds(pid, socket) {
				return true
			}
		}
		return false
	}
}

// peerSocket is the other end of a request's connection as /proc names it.
func peerSocket(r *http.Request) (name string, ok bool) {
	ours, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return "", false
	}
	theirs, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "", false
	}
	inode, err := socketOf(theirs, ours.AddrPort())
	if err != nil || inode == 0 {
		return "", false
	}
	return fmt.Sprintf("socket:[%d]", inode), true
}

// lookup asks for the one TCP socket with a local and a remote address (struct inet_diag_req_v2). Without NLM_F_DUMP the kernel looks
// it up by its hash; a dump would go through every socket of the machine, and tell sockets apart by their ports only.
type lookup struct{ local, remote netip.AddrPort }

// Len implements nl.NetlinkRequestData.
func (lookup) Len() int { return 56 }

// Serialize implements nl.NetlinkRequestData.
func (l lookup) Serialize() []byte {
	b := make([]byte, 56)
	b[0], b[1] = unix.AF_INET, unix.IPPROTO_TCP
	native, network := nl.NativeEndian(), binary.BigEndian
	native.PutUint32(b[4:], 0xffffffff) // whatever its state
	network.PutUint16(b[8:], l.local.Port())
	network.PutUint16(b[10:], l.remote.Port())
	copy(b[12:], l.local.Addr().AsSlice())
	copy(b[28:], l.remote.Addr().AsSlice())
	native.PutUint64(b[48:], 0xffffffffffffffff) // no cookie
	return b
}

// socketOf returns the inode of the socket between two IPv4 addresses.
func socketOf(local, remote netip.AddrPort) (uint32, error) {
	l := lookup{netip.AddrPortFrom(local.Addr().Unmap(), local.Port()), netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())}
	if !l.local.Addr().Is4() || !l.remote.Addr().Is4() {
		return 0, errors.New("no addresses of IPv4")
	}
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, 0)
	req.AddData(l)
	found, err := req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil {
		return 0, err
	}
	// struct inet_diag_msg begins with four bytes and the socket's addresses as they were asked for; a listener has none afar.
	if len(found) != 1 || len(found[0]) < 72 || !bytes.Equal(found[0][4:40], l.Serialize()[8:44]) {
		return 0, errors.New("no such connection")
	}
	return nl.NativeEndian().Uint32(found[0][68:]), nil
}

// holds tells whether a process has a descriptor of the socket.
func holds(pid int, socket string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil { // it ended
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == socket {
			return true
		}
	}
	return false
}

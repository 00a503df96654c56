//go:build !linux

package beat

import "net"

func newSocket(conn *net.UDPConn) (Socket, error) { return plain{conn}, nil }

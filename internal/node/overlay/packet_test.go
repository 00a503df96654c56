package overlay

import (
	"encoding/binary"
	"net/netip"
)

// vxlanPacket is what a machine sends to another for a task: VXLAN, Ethernet, IPv4, UDP without a checksum, and a text.
func vxlanPacket(to netip.Addr, source, target string, port uint16, text string) []byte {
	p := []byte{0x08, 0, 0, 0, byte(VNI >> 16), byte(VNI >> 8 & 0xff), byte(VNI & 0xff), 0}
	p = append(p, hardwareAddr(to)...)
	p = append(p, 0x0e, 0x58, 1, 2, 3, 4, 0x08, 0x00)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(20+8+len(text)))
	s, d := netip.MustParseAddr(source).As4(), netip.MustParseAddr(target).As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	udp := make([]byte, 8)
	binary.BigEndian.PutUint16(udp, 1000)
	binary.BigEndian.PutUint16(udp[2:], port)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(text)))
	return append(append(append(p, ip...), udp...), text...)
}

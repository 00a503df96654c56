package beat

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"net/netip"
	"time"
)

// kind is what a packet is.
type kind uint8

const (
	kindBeat   kind = 1 + iota // node -> server
	kindAnswer                 // server -> node, to each beat
	kindProbe                  // server -> node, also carried by another node: do you live?
	kindLive                   // node -> server, the answer to a probe
	kindAsk                    // server -> node: carry the probe within to another node
)

// Sizes in bytes. Every packet is Size long; an ask carries a probe behind it.
const (
	Size    = 64
	askSize = 2 * Size
	macSize = 16 // of HMAC-SHA256's 32 (RFC 2104, section 5: not less than half)
	signed  = Size - macSize
)

// magic is in the upper half of the first byte, and rises with the format.
const magic = 0xb0

// pauseUnit is the unit of packet.pause.
const pauseUnit = 20 * time.Millisecond

// packet is what is sent. All numbers are big endian:
//
//	 0  magic and kind   1  health   2  slot   3  pause   4..8  epoch   8..24  node
//	24..32  boot, or for an answer: age (4, in units of 100 µs), period (2, ms), or for an ask: half of the address
//	32..40  seq   40..48  cookie   48..64  MAC
type packet struct {
	kind   kind
	health Health
	slot   uint8 // which of its servers the node means; in the answer the same
	pause  uint8 // how late the node's own timer ran at most in the last minutes, in pauseUnit
	epoch  uint32
	node   ID
	boot   uint64 // of the node
	seq    uint64 // beat and answer: the node's clock at sending, µs since its boot; else a number that the server chose
	cookie uint64

	age    time.Duration  // answer: the server's own age of contact with the leader
	period time.Duration  // answer
	to     netip.AddrPort // ask; seq is not sent
}

// put writes all but the MAC.
func (p *packet) put(b *[Size]byte) {
	b[0], b[1], b[2], b[3] = magic|byte(p.kind), byte(p.health), p.slot, p.pause
	be := binary.BigEndian
	be.PutUint32(b[4:], p.epoch)
	copy(b[8:24], p.node[:])
	switch p.kind {
	case kindAnswer:
		be.PutUint32(b[24:], uint32(min(p.age/(100*time.Microsecond), 1<<32-1)))
		be.PutUint16(b[28:], uint16(min(p.period/time.Millisecond, 1<<16-1)))
		be.PutUint16(b[30:], 0)
		be.PutUint64(b[32:], p.seq)
	case kindAsk:
		a := p.to.Addr().As16()
		copy(b[24:40], a[:])
	default:
		be.PutUint64(b[24:], p.boot)
		be.PutUint64(b[32:], p.seq)
	}
	cookie := p.cookie
	if p.kind == kindAsk {
		cookie = uint64(p.to.Port())
	}
	be.PutUint64(b[40:], cookie)
}

var (
	errSize   = errors.New("a packet of another size")
	errFormat = errors.New("no packet of this format")
	errMAC    = errors.New("the signature is another's")
)

// parse reads all but the MAC. What it returns is a stranger's word until the MAC is checked.
func parse(b []byte) (p packet, err error) {
	if len(b) != Size && len(b) != askSize {
		return p, errSize
	}
	p.kind = kind(b[0] &^ 0xf0)
	if b[0]&0xf0 != magic || p.kind < kindBeat || p.kind > kindAsk {
		return p, errFormat
	}
	if (p.kind == kindAsk) != (len(b) == askSize) {
		return p, errSize
	}
	be := binary.BigEndian
	p.health, p.slot, p.pause, p.epoch = Health(b[1]), b[2], b[3], be.Uint32(b[4:])
	p.node = ID(b[8:24])
	p.cookie = be.Uint64(b[40:])
	switch p.kind {
	case kindAnswer:
		p.age = time.Duration(be.Uint32(b[24:])) * 100 * time.Microsecond
		p.period = time.Duration(be.Uint16(b[28:])) * time.Millisecond
		p.seq = be.Uint64(b[32:])
	case kindAsk:
		p.to = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])).Unmap(), uint16(p.cookie))
		p.cookie = 0
	default:
		p.boot, p.seq = be.Uint64(b[24:]), be.Uint64(b[32:])
	}
	return p, nil
}

// signer makes and checks the MACs of one node's packets. It keeps the key's state, so that a packet costs two blocks less, and is not
// safe for concurrent use.
type signer struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

func newSigner(k Key) *signer { return &signer{mac: hmac.New(sha256.New, k[:])} }

func (s *signer) of(b []byte) []byte {
	s.mac.Reset()
	s.mac.Write(b[:signed])
	if len(b) > Size {
		s.mac.Write(b[Size:])
	}
	return s.mac.Sum(s.sum[:0])[:macSize]
}

// seal writes the packet with its MAC.
func (s *signer) seal(p *packet, b []byte) {
	p.put((*[Size]byte)(b))
	copy(b[signed:Size], s.of(b))
}

// check tells whether the packet is of the node whose key it is.
func (s *signer) check(b []byte) bool { return hmac.Equal(s.of(b), b[signed:Size]) }

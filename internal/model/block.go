package model

import (
	"net/netip"
	"time"
)

const (
	// BlockBits is the size of a block: a /26 has 64 addresses.
	BlockBits = 26
	// BlockReserved are the first addresses of a block, which no task gets, as the last: those of the node's end of the overlay, of its
	// gateway, and two more, as in a VPC's subnet.
	BlockReserved = 4
)

// Block is a range of the VPC's addresses that one node gives to its tasks. Written by the server, as plan/blocks decides.
type Block struct {
	CIDR   string // a /26, such as 172.31.0.64/26
	Node   string // its id
	Subnet string `json:",omitempty"` // of a user's VPC; "": it is the default VPC's
	First  bool   // the node's gateway and its end of the overlay have their addresses from this one; it stays for as long as the node
	// GivenAt is when the node got it.
	GivenAt time.Time
	// Recalled: the node is to let go of it, and has not said yet that it has.
	Recalled bool
	// OrphanedAt is when the node was first seen to be gone; zero while it is there.
	OrphanedAt time.Time
}

// Key is the block's CIDR.
func (b *Block) Key() string { return b.CIDR }

// Prefix is the block's range; the zero Prefix for a row that nobody can have written.
func (b *Block) Prefix() netip.Prefix {
	p, _ := netip.ParsePrefix(b.CIDR)
	return p
}

// BlockUse is what a node says of a block from which it gives addresses.
type BlockUse struct {
	Block  netip.Prefix
	Subnet string `json:",omitempty"` // of a user's VPC
	Used   int    // addresses that tasks have, or had a moment ago
	// Empty is for how long it has had no task; 0 while it has one.
	Empty time.Duration
}

// Addresses is what a node has of the VPC's addresses, and what it needs.
type Addresses struct {
	Has    []BlockUse     // every block from which it gives addresses; its gateway's comes first
	Want   int            // addresses that tasks wait for
	WantIn map[string]int `json:",omitempty"` // and those of users' subnets, by subnet
	// Avoid are networks that the machine reaches otherwise: blocks there would hide them.
	Avoid []netip.Prefix
}

// SubnetBlocks are the blocks of a user's subnet of which a node gives addresses.
type SubnetBlocks struct {
	Range  netip.Prefix // the subnet's
	Blocks []netip.Prefix
}

// Peer is a machine as others reach its tasks.
type Peer struct {
	Node    string
	Address netip.Addr // of the machine, at which it takes what is for its tasks
	MTU     int        // of its device there; 0 means 1500
	// Blocks are those that its tasks have addresses of; the first one is that of its gateway.
	Blocks []netip.Prefix
	Key    string // its public WireGuard key, in base64; "" without one
}

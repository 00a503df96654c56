// Package blocks decides which node gives which addresses of the VPC to its tasks. A node has whole blocks, and gives single addresses
// itself, so that no start of a task waits for a server. It gets the next block before the last one is full, and gives one back
// that has been empty for a while.
//
// What is decided is safe against everything that may be lost or late: a block belongs to a node from the decision to give it until
// the node, having been asked, has said in a report that it does not have it.
package blocks

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
)

const (
	// Bits is the size of a block.
	Bits = model.BlockBits
	// Usable is how many of a block's addresses are for tasks.
	Usable = 1<<(32-Bits) - model.BlockReserved - 1
	// Most is how many blocks one node may have.
	Most = 128
	// full is the share of its addresses, in hundredths, from which on a node gets the next block.
	full = 80
)

// Kind is what is done about a block.
type Kind string

// The kinds of actions.
const (
	Give   Kind = "give"   // the row is to be made
	Recall Kind = "recall" // the node is to let go of it
	Keep   Kind = "keep"   // it was recalled, and a task got an address of it meanwhile
	Free   Kind = "free"   // the row is to be deleted
	Orphan Kind = "orphan" // its node is gone; it is freed later
	Claim  Kind = "claim"  // its node is there (again)
	Refuse Kind = "refuse" // the node uses what is another's; no row changes
	Short  Kind = "short"  // the node needs more than there is; no row changes
)

// Action is one thing to do, with its reason as a sentence.
type Action struct {
	Kind   Kind
	Block  netip.Prefix // the zero one for Short
	First  bool         // of Give
	Subnet string       // of a user's VPC; "": the default VPC
	Reason string
}

// Times are the waits of the plan.
type Times struct {
	Return time.Duration // after which an empty block is recalled
	Orphan time.Duration // after which the blocks of a node that is gone are freed
}

// Node is the node that a plan is made for.
type Node struct {
	ID    string
	Pools []netip.Prefix // where its blocks are taken from, in this order; see Pools
	Says  model.Addresses
}

// Plan decides about the blocks of one node that has just said what it has. given are all blocks of all nodes. The actions are in an
// order in which they can be carried out.
func Plan(n Node, given []*model.Block, t Times) []Action {
	p := &plan{node: n, times: t, mine: map[netip.Prefix]*model.Block{}, says: map[netip.Prefix]model.BlockUse{}}
	for _, b := range given {
		p.taken = append(p.taken, b.Prefix())
		if b.Node == n.ID && b.Subnet == "" {
			p.mine[b.Prefix()] = b
		}
	}
	n.Says.Has = slices.DeleteFunc(slices.Clone(n.Says.Has), func(u model.BlockUse) bool { return u.Subnet != "" }) // see PlanIn
	p.node = n
	for _, u := range n.Says.Has {
		p.says[u.Block] = u
	}
	p.settle()
	p.recall()
	p.give()
	return p.actions
}

// plan is a plan that is being made.
type plan struct {
	node    Node
	times   Times
	mine    map[netip.Prefix]*model.Block
	says    map[netip.Prefix]model.BlockUse
	taken   []netip.Prefix // by anybody
	blocks  []held         // those that the node is to have, as far as it is decided
	actions []Action
}

// held is a block that the node has, or is given.
type held struct {
	block netip.Prefix
	first bool
	used  int
	empty time.Duration
}

func (p *plan) act(k Kind, b netip.Prefix, first bool, format string, args ...any) {
	p.actions = append(p.actions, Action{Kind: k, Block: b, First: first, Reason: fmt.Sprintf(format, args...)})
}

// settle compares what the node says with what it was given.
func (p *plan) settle() {
	for _, b := range sorted(p.mine) {
		row := p.mine[b]
		use, has := p.says[b]
		switch {
		case !has && overlaps(b, p.node.Says.Avoid):
			p.act(Free, b, false, "%s would hide what node %s reaches otherwise", b, p.node.ID)
			p.taken = slices.DeleteFunc(p.taken, func(t netip.Prefix) bool { return t == b })
			continue
		case row.Recalled && !has:
			p.act(Free, b, false, "node %s has let go of %s", p.node.ID, b)
			p.taken = slices.DeleteFunc(p.taken, func(t netip.Prefix) bool { return t == b })
			continue
		case row.Recalled && use.Used > 0:
			p.act(Keep, b, false, "node %s uses %s again", p.node.ID, b)
		case row.Recalled:
			continue
		}
		p.blocks = append(p.blocks, held{b, row.First, use.Used, use.Empty})
	}
	for i, use := range p.node.Says.Has { // an instance that grows, or a state that was restored, does not know them
		if p.mine[use.Block] != nil {
			continue
		}
		first := i == 0 && !slices.ContainsFunc(p.blocks, func(h held) bool { return h.first })
		switch {
		case use.Block.Bits() != Bits || use.Block != use.Block.Masked() || !use.Block.Addr().Is4():
			p.act(Refuse, use.Block, false, "node %s says that it has %s, which is no block of addresses", p.node.ID, use.Block)
		case overlaps(use.Block, p.taken):
			p.act(Refuse, use.Block, false, "node %s gives addresses of %s, which is another node's: its tasks there are not reached from other machines; stop them",
				p.node.ID, use.Block)
		case use.Used == 0 && !first: // nobody would miss it
		default:
			p.act(Give, use.Block, first, "node %s uses %s already", p.node.ID, use.Block)
			p.taken = append(p.taken, use.Block)
			p.blocks = append(p.blocks, held{use.Block, first, use.Used, use.Empty})
		}
	}
}

// recall asks for blocks that have been empty for long, and for those that hide what the machine reaches otherwise.
func (p *plan) recall() {
	order := slices.Clone(p.blocks)
	slices.SortStableFunc(order, func(a, b held) int { return -a.block.Addr().Compare(b.block.Addr()) }) // the last one first
	for _, h := range order {
		if _, has := p.says[h.block]; !has || h.first || h.used > 0 {
			continue
		}
		hides := overlaps(h.block, p.node.Says.Avoid)
		used, blocks := p.count()
		if !hides && (h.empty < p.times.Return || crowded(used, blocks-1)) {
			continue
		}
		if hides {
			p.act(Recall, h.block, false, "%s would hide what node %s reaches otherwise", h.block, p.node.ID)
		} else {
			p.act(Recall, h.block, false, "%s of node %s has been empty for %s", h.block, p.node.ID, h.empty.Round(time.Second))
		}
		p.blocks = slices.DeleteFunc(p.blocks, func(o held) bool { return o.block == h.block })
	}
}

// count is how many addresses are in use or waited for, and in how many blocks.
func (p *plan) count() (used, blocks int) {
	for _, h := range p.blocks {
		used += h.used
	}
	return used + max(p.node.Says.Want, 0), len(p.blocks)
}

// crowded tells whether a node needs one more block.
func crowded(used, blocks int) bool { return blocks == 0 || used*100 >= blocks*Usable*full }

// give gives as many blocks as the node needs.
func (p *plan) give() {
	for {
		used, blocks := p.count()
		if !crowded(used, blocks) {
			return
		}
		if blocks >= Most {
			p.act(Short, netip.Prefix{}, false, "node %s has %d blocks of addresses, which is the most that one may have", p.node.ID, blocks)
			return
		}
		b, ok := p.free()
		if !ok {
			p.act(Short, netip.Prefix{}, false, "no block of %v is free for node %s: give the VPC one more range", p.node.Pools, p.node.ID)
			return
		}
		first := !slices.ContainsFunc(p.blocks, func(h held) bool { return h.first })
		reason := fmt.Sprintf("node %s uses %d addresses of %d", p.node.ID, used, blocks*Usable)
		if blocks == 0 {
			reason = fmt.Sprintf("node %s has no addresses yet", p.node.ID)
		}
		p.act(Give, b, first, "%s", reason)
		p.taken = append(p.taken, b)
		p.blocks = append(p.blocks, held{block: b, first: first})
	}
}

// free is the first block that nobody has and that hides nothing.
func (p *plan) free() (netip.Prefix, bool) { return p.freeOf(Bits) }

func (p *plan) freeOf(bits int) (netip.Prefix, bool) {
	exact := make(map[netip.Prefix]bool, len(p.taken))
	var odd []netip.Prefix // of another size
	for _, t := range p.taken {
		if exact[t] = true; t.Bits() != bits {
			odd = append(odd, t)
		}
	}
	odd = append(odd, p.node.Says.Avoid...)
	for _, pool := range p.node.Pools {
		for b, ok := netip.PrefixFrom(pool.Masked().Addr(), bits), pool.Bits() <= bits; ok && pool.Contains(b.Addr()); b, ok = next(b) {
			if !exact[b] && !overlaps(b, odd) {
				return b, true
			}
		}
	}
	return netip.Prefix{}, false
}

// Orphans decides about the blocks of nodes that are gone. Their tasks may run on for a while without anybody's knowing.
func Orphans(given []*model.Block, exists func(node string) bool, now time.Time, t Times) []Action {
	p := &plan{}
	for _, b := range given {
		switch here := exists(b.Node); {
		case here && !b.OrphanedAt.IsZero():
			p.act(Claim, b.Prefix(), false, "node %s is there again", b.Node)
		case here:
		case b.OrphanedAt.IsZero():
			p.act(Orphan, b.Prefix(), false, "node %s is gone", b.Node)
		case now.Sub(b.OrphanedAt) >= t.Orphan:
			p.act(Free, b.Prefix(), false, "node %s has been gone since %s", b.Node, b.OrphanedAt.UTC().Format(time.DateTime))
		}
	}
	return p.actions
}

func sorted(m map[netip.Prefix]*model.Block) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(m))
	for b := range m {
		all = append(all, b)
	}
	slices.SortFunc(all, Compare)
	return all
}

// Compare orders blocks by their addresses.
func Compare(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func overlaps(b netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, func(o netip.Prefix) bool { return o.Overlaps(b) })
}

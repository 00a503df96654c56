package blocks

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// Subnets of users' VPCs are divided into blocks too, which a node gets when a task of its needs an address there, and gives back when it
// has had none for a while. They are smaller, as such subnets are, and hold no gateway: that of a machine is in the default VPC.

// BitsIn is the size of the blocks of a subnet.
func BitsIn(subnet netip.Prefix) int { return min(max(subnet.Bits()+4, Bits), 28) }

// roomIn is how many tasks have room in a block of a subnet.
func roomIn(subnet, block netip.Prefix) int {
	n := 1 << (32 - block.Bits())
	if block.Contains(subnet.Masked().Addr()) {
		n -= model.BlockReserved
	}
	if after, ok := next(block); !ok || !subnet.Contains(after.Addr()) {
		n-- // broadcast
	}
	return n
}

// PlanIn decides about the blocks that a node has of one subnet, whose range is the zero Prefix when it is gone. given are all blocks of
// all nodes.
func PlanIn(node, subnet string, cidr netip.Prefix, says model.Addresses, given []*model.Block, t Times) (actions []Action) {
	act := func(k Kind, b netip.Prefix, format string, args ...any) {
		actions = append(actions, Action{Kind: k, Block: b, Subnet: subnet, Reason: fmt.Sprintf(format, args...)})
	}
	p := &plan{node: Node{ID: node, Pools: []netip.Prefix{cidr}, Says: says}, mine: map[netip.Prefix]*model.Block{}, says: map[netip.Prefix]model.BlockUse{}}
	for _, u := range says.Has {
		if u.Subnet == subnet {
			p.says[u.Block] = u
		}
	}
	for _, b := range given {
		if b.Node == node && b.Subnet == subnet {
			p.mine[b.Prefix()] = b
		}
		p.taken = append(p.taken, b.Prefix())
	}
	used, room := says.WantIn[subnet], 0
	var kept []model.BlockUse
	for _, b := range sorted(p.mine) {
		row := p.mine[b]
		use, has := p.says[b]
		switch {
		case row.Recalled && !has:
			act(Free, b, "node %s has let go of %s", node, b)
			p.taken = slices.DeleteFunc(p.taken, func(t netip.Prefix) bool { return t == b })
			continue
		case row.Recalled && use.Used == 0:
			continue
		case row.Recalled:
			act(Keep, b, "node %s uses %s again", node, b)
		}
		used += use.Used
		if cidr.IsValid() {
			room += roomIn(cidr, b)
		}
		kept = append(kept, model.BlockUse{Block: b, Used: use.Used, Empty: use.Empty})
	}
	for _, u := range says.Has { // a state that was restored does not know them
		if u.Subnet != subnet || p.mine[u.Block] != nil || u.Used == 0 {
			continue
		}
		if overlaps(u.Block, p.taken) || !cidr.IsValid() || !cidr.Contains(u.Block.Addr()) || u.Block.Bits() != BitsIn(cidr) || u.Block != u.Block.Masked() {
			act(Refuse, u.Block, "node %s gives addresses of %s, which is not its own: its tasks there are not reached from other machines; stop them", node, u.Block)
			continue
		}
		act(Give, u.Block, "node %s uses %s already", node, u.Block)
		p.taken = append(p.taken, u.Block)
		used, room = used+u.Used, room+roomIn(cidr, u.Block)
	}
	for _, u := range slices.Backward(kept) { // the last one first
		if _, has := p.says[u.Block]; !has || u.Used > 0 {
			continue
		}
		without := room
		if cidr.IsValid() {
			without -= roomIn(cidr, u.Block)
		}
		if cidr.IsValid() && (u.Empty < t.Return || full*without <= used*100 && used > 0) {
			continue
		}
		act(Recall, u.Block, "%s of node %s has been empty for %s", u.Block, node, u.Empty.Round(time.Second))
		room = without
	}
	for cidr.IsValid() && used > 0 && used*100 >= room*full {
		b, ok := p.freeOf(BitsIn(cidr))
		if !ok {
			if says.WantIn[subnet] > 0 {
				act(Short, netip.Prefix{}, "no block of the subnet %s (%s) is free for node %s", subnet, cidr, node)
			}
			break
		}
		act(Give, b, "node %s needs %d addresses of the subnet %s", node, used, subnet)
		p.taken = append(p.taken, b)
		room += roomIn(cidr, b)
	}
	return actions
}

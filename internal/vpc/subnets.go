package vpc

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/blocks"
	"github.com/berthdev/berth/internal/store"
)

// SettleIn decides about the blocks that a node has of users' subnets, as Settle does about those of the default VPC, and returns those that
// it is to have from now on, by subnet.
func (k *Keeper) SettleIn(ctx context.Context, node string, says model.Addresses) (told map[string]model.SubnetBlocks, err error) {
	var actions []blocks.Action
	k.Store.View(func(r store.Reader) { actions, told = planIn(r, node, says), heldIn(r, node) })
	if !slices.ContainsFunc(actions, func(a blocks.Action) bool { return a.Kind != blocks.Refuse && a.Kind != blocks.Short }) { // nearly always
		k.log(node, actions)
		return told, nil
	}
	err = k.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		actions = planIn(tx, node, says)
		apply(tx, node, actions, k.Now())
		told = heldIn(tx, node)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("give addresses of subnets to node %s: %w", node, err)
	}
	k.log(node, actions)
	return told, nil
}

func planIn(r store.Reader, node string, says model.Addresses) (actions []blocks.Action) {
	subnets := map[string]bool{}
	for s, n := range says.WantIn {
		if n > 0 {
			subnets[s] = true
		}
	}
	for _, u := range says.Has {
		subnets[u.Subnet] = true
	}
	for b := range store.Blocks.By(r, store.ByNode, node) {
		subnets[b.Subnet] = true
	}
	if delete(subnets, ""); len(subnets) == 0 {
		return nil
	}
	given := slices.Collect(store.Blocks.Scan(r, ""))
	for _, s := range slices.Sorted(maps.Keys(subnets)) {
		planned := blocks.PlanIn(node, s, rangeOf(r, s), says, given, times)
		for _, a := range planned {
			if a.Kind == blocks.Give {
				given = append(given, &model.Block{CIDR: a.Block.String(), Node: node, Subnet: s})
			}
		}
		actions = append(actions, planned...)
	}
	return actions
}

// rangeOf is the range of a subnet; the zero Prefix when there is none.
func rangeOf(r store.Reader, subnet string) netip.Prefix {
	s, ok := store.Subnets.Get(r, subnet)
	if !ok {
		return netip.Prefix{}
	}
	return s.Range()
}

// heldIn are the blocks of users' subnets that the node is to have.
func heldIn(r store.Reader, node string) map[string]model.SubnetBlocks {
	all := map[string]model.SubnetBlocks{}
	for b := range store.Blocks.By(r, store.ByNode, node) {
		if b.Recalled || b.Subnet == "" {
			continue
		}
		s := all[b.Subnet]
		s.Range, s.Blocks = rangeOf(r, b.Subnet), append(s.Blocks, b.Prefix())
		slices.SortFunc(s.Blocks, blocks.Compare)
		all[b.Subnet] = s
	}
	return all
}

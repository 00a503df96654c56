package network

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/timeouts"
)

// A node gives addresses of the blocks that the servers gave it, so that no start of a task waits for a server. Before it has met one
// it gives addresses of a subnet that it chose itself, and claims what it used of that.

// block is a range that addresses are given from.
type block struct {
	prefix netip.Prefix
	subnet string       // of a user's VPC; "": the default VPC
	whole  netip.Prefix // that subnet's range
	shut   bool         // gives no more: it is to be returned once it is empty
	tasks  int          // how many addresses tasks have
	empty  time.Time    // since when none
}

// storedBlocks is what is remembered of the blocks over a reboot.
type storedBlocks struct {
	Gateway netip.Addr     `json:"gateway"`
	Blocks  []netip.Prefix `json:"blocks"`
	// Subnets are the blocks of users' VPCs, by subnet.
	Subnets map[string]model.SubnetBlocks `json:"subnets,omitempty"`
}

func blocksFile(stateDir string) string { return filepath.Join(stateDir, "blocks.json") }

// Remembered tells whether a node with that folder has been given blocks before.
func Remembered(stateDir string) bool {
	s, ok := readBlocks(stateDir)
	return ok && len(s.Blocks) > 0
}

func readBlocks(stateDir string) (s storedBlocks, ok bool) {
	data, err := os.ReadFile(blocksFile(stateDir))
	return s, err == nil && json.Unmarshal(data, &s) == nil && s.Gateway.Is4()
}

// saveBlocks remembers what n.blocks is. n.mu is held.
func (n *Network) saveBlocks() error {
	s := storedBlocks{Gateway: n.gateway}
	for _, b := range n.blocks {
		if b.subnet == "" {
			s.Blocks = append(s.Blocks, b.prefix)
			continue
		}
		if s.Subnets == nil {
			s.Subnets = map[string]model.SubnetBlocks{}
		}
		in := s.Subnets[b.subnet]
		s.Subnets[b.subnet] = model.SubnetBlocks{Range: b.whole, Blocks: append(in.Blocks, b.prefix)}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := writeFile(blocksFile(n.c.StateDir), data); err != nil {
		return fmt.Errorf("network: remember the blocks of addresses: %w", err)
	}
	return nil
}

// blockOf is the block that holds a; nil when none does. n.mu is held.
func (n *Network) blockOf(a netip.Addr) *block {
	i := slices.IndexFunc(n.blocks, func(b *block) bool { return b.prefix.Contains(a) })
	if i < 0 {
		return nil
	}
	return n.blocks[i]
}

// setBlocks has addresses given from these blocks, of which nothing is remembered. n.mu is held.
func (n *Network) setBlocks(all []netip.Prefix, in map[string]model.SubnetBlocks) {
	n.blocks = nil
	for _, p := range all {
		n.blocks = append(n.blocks, &block{prefix: p, empty: time.Now()})
	}
	for subnet, s := range in {
		for _, p := range s.Blocks {
			n.blocks = append(n.blocks, &block{prefix: p, subnet: subnet, whole: s.Range, empty: time.Now()})
		}
	}
	n.sortBlocks()
	for a := range n.byAddr {
		if b := n.blockOf(a); b != nil {
			b.tasks++
		}
	}
}

// occupy notes that the network id has a. n.mu is held.
func (n *Network) occupy(a netip.Addr, id string) {
	if _, known := n.byAddr[a]; !known {
		if b := n.blockOf(a); b != nil {
			b.tasks++
		}
	}
	n.byAddr[a] = id
	delete(n.resting, a)
}

// vacate notes that nobody has a any more. n.mu is held.
func (n *Network) vacate(a netip.Addr) {
	if _, known := n.byAddr[a]; !known {
		return
	}
	delete(n.byAddr, a)
	n.resting[a] = time.Now()
	if b := n.blockOf(a); b != nil {
		if b.tasks--; b.tasks == 0 {
			b.empty = time.Now()
		}
	}
	n.freed()
}

// freed lets those try again who wait for an address. n.mu is held.
func (n *Network) freed() {
	close(n.more)
	n.more = make(chan struct{})
}

func (n *Network) sortBlocks() {
	slices.SortFunc(n.blocks, func(a, b *block) int { return a.prefix.Addr().Compare(b.prefix.Addr()) })
}

// first and last are the bounds of what tasks get of a block: the first addresses of a subnet are nobody's, and its last.
func (b *block) bounds() (first, end netip.Addr) {
	first = b.prefix.Addr()
	if b.subnet == "" || b.prefix.Contains(b.whole.Addr()) {
		for range model.BlockReserved {
			first = first.Next()
		}
	}
	end = lastOf(b.prefix)
	if b.subnet != "" && end != lastOf(b.whole) {
		end = end.Next()
	}
	return first, end
}

// lastOf is the last address of a range.
func lastOf(p netip.Prefix) netip.Addr {
	if next, ok := after(p); ok {
		return next.Addr().Prev()
	}
	return netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// candidates are the addresses of a subnet that may be given, those after the one that was given last first. n.mu is held.
func (n *Network) candidates(subnet string) iter.Seq[netip.Addr] {
	var all []*block
	for _, b := range n.blocks {
		if b.subnet == subnet {
			all = append(all, b)
		}
	}
	if len(all) == 0 {
		return func(func(netip.Addr) bool) {}
	}
	return func(yield func(netip.Addr) bool) {
		start := max(0, slices.IndexFunc(all, func(b *block) bool { return b.prefix.Contains(n.last) }))
		for i := range len(all) + 1 { // the block of the last address twice: its end first, and its beginning at the end
			b := all[(start+i)%len(all)]
			if b.shut {
				continue
			}
			a, end := b.bounds()
			for ; a.Less(end); a = a.Next() {
				passed := b.prefix.Contains(n.last) && a.Compare(n.last) <= 0
				if i == 0 && passed || i == len(all) && !passed {
					continue
				}
				if !yield(a) {
					return
				}
			}
		}
	}
}

// allocate gives id an address. Addresses go round, and rest for a while, so that one is not used again soon. n.mu is held.
func (n *Network) allocate(id, subnet string) (a netip.Addr, ok bool) {
	now := time.Now()
	var since time.Time
	for c := range n.candidates(subnet) {
		if _, used := n.byAddr[c]; used {
			continue
		}
		left, rests := n.resting[c]
		if rests && now.Sub(left) < timeouts.AddressRest {
			if !a.IsValid() || left.Before(since) {
				a, since = c, left
			}
			continue
		}
		a = c
		break
	}
	if !a.IsValid() {
		return a, false
	}
	n.last = a
	n.occupy(a, id)
	_ = writeFile(n.lastFile(), []byte(a.String())) // a lost note means an early reuse
	if n.crowded(now, subnet) {
		n.tell()
	}
	return a, true
}

// crowded tells whether the next block of a subnet is due. n.mu is held.
func (n *Network) crowded(now time.Time, subnet string) bool {
	used, room := 0, 0
	for _, b := range n.blocks {
		switch {
		case b.subnet != subnet:
			continue
		case !b.shut && subnet == "":
			room += 1<<(32-b.prefix.Bits()) - model.BlockReserved - 1
		case !b.shut:
			room += 1 << (32 - b.prefix.Bits())
		}
		used += b.tasks
	}
	for a, left := range n.resting {
		if now.Sub(left) >= timeouts.AddressRest {
			delete(n.resting, a)
		} else if b := n.blockOf(a); b != nil && b.subnet == subnet {
			used++
		}
	}
	return used*100 >= room*80
}

// tell has the servers told what there is to say of addresses.
func (n *Network) tell() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// AddressesChanged receives when Addresses has something to say that should not wait.
func (n *Network) AddressesChanged() <-chan struct{} { return n.changed }

// await gives id an address of a subnet, and waits for the next block when all are taken.
func (n *Network) await(ctx context.Context, id, subnet string) (netip.Addr, error) {
	var timeout <-chan time.Time
	for {
		n.mu.Lock()
		a, ok := n.allocate(id, subnet)
		if ok {
			n.mu.Unlock()
			return a, nil
		}
		n.wanted[subnet]++
		more := n.more
		n.mu.Unlock()
		n.tell()
		if timeout == nil {
			timeout = time.After(timeouts.AddressWait)
		}
		var err error
		select {
		case <-more:
		case <-ctx.Done():
			err = ctx.Err()
		case <-timeout:
			err = &agent.Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(
				"no address is free in this node's %d blocks of addresses, and no server has given it another; stop tasks, or give the VPC one more range",
				len(n.blocks))}
			if subnet != "" {
				err = &agent.Error{Name: "ResourceInitializationError", Message: "no address of " + subnet +
					" is free on this node, and no server has given it any: the subnet is full, or this machine reaches its range otherwise"}
			}
		}
		n.mu.Lock()
		n.wanted[subnet]--
		n.mu.Unlock()
		if err != nil {
			return netip.Addr{}, err
		}
	}
}

// Addresses is what this node has of the VPC's addresses, and what it needs. The block of its gateway comes first.
func (n *Network) Addresses() model.Addresses {
	avoid, _ := n.avoid() // without it a block may be given that SetBlocks will not take
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.crowded(now, "") // forgets who has rested
	rest := map[netip.Prefix]int{}
	for a := range n.resting {
		if b := n.blockOf(a); b != nil && b.subnet != "" {
			rest[b.prefix]++
			continue
		}
		rest[blockAt(a)]++
	}
	out := model.Addresses{Want: n.wanted[""], Avoid: avoid}
	for subnet, count := range n.wanted {
		if subnet != "" && count > 0 {
			if out.WantIn == nil {
				out.WantIn = map[string]int{}
			}
			out.WantIn[subnet] = count
		}
	}
	for _, b := range n.blocks {
		if b.subnet == "" && b.prefix.Bits() < model.BlockBits { // a subnet of its own choice: it claims what it uses
			out.Has = append(out.Has, n.claims(b, rest)...)
			continue
		}
		use := model.BlockUse{Block: b.prefix, Subnet: b.subnet, Used: b.tasks + rest[b.prefix]}
		if use.Used == 0 {
			use.Empty = now.Sub(b.empty)
		}
		out.Has = append(out.Has, use)
	}
	gateway := blockAt(n.gateway)
	slices.SortStableFunc(out.Has, func(x, y model.BlockUse) int {
		switch {
		case x.Block == gateway && y.Block != gateway:
			return -1
		case y.Block == gateway && x.Block != gateway:
			return 1
		}
		return 0
	})
	return out
}

// blockAt is the block that a lies in.
func blockAt(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, model.BlockBits).Masked() }

// claims are the blocks of a subnet that hold tasks, or the gateway. n.mu is held.
func (n *Network) claims(b *block, rest map[netip.Prefix]int) []model.BlockUse {
	used := map[netip.Prefix]int{blockAt(n.gateway): 0}
	for a := range n.byAddr {
		if b.prefix.Contains(a) {
			used[blockAt(a)]++
		}
	}
	var all []model.BlockUse
	for p, count := range used {
		all = append(all, model.BlockUse{Block: p, Used: count + rest[p]})
	}
	slices.SortFunc(all, func(x, y model.BlockUse) int { return x.Block.Addr().Compare(y.Block.Addr()) })
	return all
}

// avoid are the networks that this machine reaches otherwise than as one of Berth's: where its other devices lead, and its name servers.
func (n *Network) avoid() ([]netip.Prefix, error) {
	taken, err := n.takenPrefixes()
	all := append(taken, n.neighbourhood()...)
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	return slices.Compact(all), err
}

// Taken are the networks that a machine on which no Network was opened yet reaches: no block may lie there.
func Taken(c Config) ([]netip.Prefix, error) {
	n, err := open(c)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	return n.avoid()
}

// SetBlocks has addresses given from these blocks, and from no others; in are those of users' subnets. One that is missing and has tasks is
// kept for them; an empty one is forgotten. A block that would hide what this machine reaches otherwise is not taken.
func (n *Network) SetBlocks(told []netip.Prefix, in map[string]model.SubnetBlocks) error {
	unlock, err := lockMachine()
	if err != nil {
		return err
	}
	defer unlock()
	avoid, err := n.avoid()
	if err != nil {
		return err
	}
	n.setting.Lock() // one at a time
	defer n.setting.Unlock()
	n.mu.Lock()
	before := slices.Clone(n.blocks)
	changed := n.merge(told, avoid)
	changed = n.mergeIn(in, avoid) || changed
	if changed {
		err = n.saveBlocks()
	}
	now := slices.Clone(n.blocks)
	n.freed()
	n.mu.Unlock()
	if !changed || err != nil {
		return err
	}
	n.log.Info("the blocks of addresses have changed", "were", len(before), "are", len(now))
	if err := n.levelBridge(); err != nil {
		return err
	}
	return n.install()
}

// merge makes n.blocks what is told. n.mu is held.
func (n *Network) merge(told, avoid []netip.Prefix) (changed bool) {
	var next []*block
	known := map[netip.Prefix]*block{}
	for _, b := range n.blocks {
		if b.subnet != "" {
			next = append(next, b) // see mergeIn
			continue
		}
		known[b.prefix] = b
		if b.prefix.Bits() < model.BlockBits { // claimed block by block
			changed = true
			for _, u := range n.claims(b, nil) {
				known[u.Block] = &block{prefix: u.Block, tasks: u.Used, empty: time.Now()}
			}
			delete(known, b.prefix)
		}
	}
	for _, p := range told {
		b := known[p]
		if b == nil && overlapsAny(p, avoid) {
			n.log.Warn("a block of addresses is not taken: this machine reaches that network otherwise", "block", p)
			continue
		}
		if b == nil {
			b, changed = &block{prefix: p, empty: time.Now()}, true
		}
		b.shut = false
		next = append(next, b)
		delete(known, p)
	}
	for _, b := range known {
		if b.tasks > 0 || b.prefix.Contains(n.gateway) {
			b.shut = true
			next = append(next, b)
			continue
		}
		changed = true
	}
	n.blocks = next
	n.sortBlocks()
	return changed
}

// mergeIn makes the blocks of users' subnets what is told. n.mu is held.
func (n *Network) mergeIn(told map[string]model.SubnetBlocks, avoid []netip.Prefix) (changed bool) {
	want := map[netip.Prefix]*block{}
	for subnet, s := range told {
		for _, p := range s.Blocks {
			want[p] = &block{prefix: p, subnet: subnet, whole: s.Range, empty: time.Now()}
		}
	}
	var next []*block
	for _, b := range n.blocks {
		w := want[b.prefix]
		switch {
		case b.subnet == "":
		case w != nil && w.subnet == b.subnet:
			b.shut = false
			delete(want, b.prefix)
		case b.tasks > 0:
			b.shut = true
		default:
			changed = true
			continue
		}
		next = append(next, b)
	}
	for p, b := range want {
		if overlapsAny(p, avoid) {
			n.log.Warn("a block of a subnet is not taken: this machine reaches that network otherwise", "block", p, "subnet", b.subnet)
			continue
		}
		next, changed = append(next, b), true
	}
	n.blocks = next
	n.sortBlocks()
	return changed
}

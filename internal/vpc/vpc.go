// Package vpc keeps the addresses of tasks: which node gives those of which block (as plan/blocks decides), and of which machine each
// other machine's tasks are reached through.
package vpc

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/blocks"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what a Keeper needs. Store and Ranges are required.
type Config struct {
	Store store.Store
	// Ranges are the VPC's as long as the cluster's settings name none.
	Ranges []netip.Prefix
	Now    func() time.Time
	Log    *slog.Logger
}

// Keeper gives blocks of addresses to nodes.
type Keeper struct {
	Config
	mu    sync.Mutex
	short map[string]time.Time // by node: when it was last said that it needs more than there is
}

// New makes a Keeper. Now and Log may be left out.
func New(c Config) *Keeper {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{Config: c, short: map[string]time.Time{}}
}

var times = blocks.Times{Return: timeouts.BlockReturn, Orphan: timeouts.BlockOrphan}

// Settle decides about the blocks of a node of a zone that has just said what it has, and returns those that it is to have from now on:
// that of its gateway first. A node must have heard the answer before it asks again.
func (k *Keeper) Settle(ctx context.Context, node, zone string, says model.Addresses) (told []netip.Prefix, err error) {
	if told, settled := k.settled(node, zone, says); settled { // nearly always
		return told, nil
	}
	var actions []blocks.Action
	err = k.Store.Update(store.Freeing(ctx), func(tx store.Tx) error { // a task that starts may have been asked for before the disk was full
		actions = k.plan(tx, node, zone, says)
		apply(tx, node, actions, k.Now())
		told = held(tx, node)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("give addresses to node %s: %w", node, err)
	}
	k.log(node, actions)
	return told, nil
}

// settled tells whether nothing is to be written, and what the node has then.
func (k *Keeper) settled(node, zone string, says model.Addresses) (told []netip.Prefix, ok bool) {
	var actions []blocks.Action
	k.Store.View(func(r store.Reader) {
		actions, told = k.plan(r, node, zone, says), held(r, node)
	})
	ok = !slices.ContainsFunc(actions, func(a blocks.Action) bool { return a.Kind != blocks.Refuse && a.Kind != blocks.Short })
	if ok {
		k.log(node, actions)
	}
	return told, ok
}

func (k *Keeper) plan(r store.Reader, node, zone string, says model.Addresses) []blocks.Action {
	return blocks.Plan(blocks.Node{ID: node, Pools: blocks.Pools(k.ranges(r), zone), Says: says},
		slices.Collect(store.Blocks.Scan(r, "")), times)
}

// ranges are the VPC's.
func (k *Keeper) ranges(r store.Reader) []netip.Prefix {
	s, ok := store.ClusterSettings.Get(r, model.SettingsKey)
	if !ok || len(s.VPC) == 0 {
		return k.Ranges
	}
	var all []netip.Prefix
	for _, text := range s.VPC {
		if p, err := netip.ParsePrefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// apply carries actions out.
func apply(tx store.Tx, node string, actions []blocks.Action, now time.Time) {
	for _, a := range actions {
		old, ok := store.Blocks.Get(tx, a.Block.String())
		switch {
		case a.Kind == blocks.Give:
			store.Blocks.Put(tx, &model.Block{CIDR: a.Block.String(), Node: node, Subnet: a.Subnet, First: a.First, GivenAt: now})
			continue
		case !ok:
			continue
		}
		b := *old
		switch a.Kind {
		case blocks.Free:
			store.Blocks.Delete(tx, b.CIDR)
			continue
		case blocks.Recall, blocks.Keep:
			b.Recalled = a.Kind == blocks.Recall
		case blocks.Orphan:
			b.OrphanedAt = now
		case blocks.Claim:
			b.OrphanedAt = time.Time{}
		default:
			continue
		}
		store.Blocks.Put(tx, &b)
	}
}

// held are the blocks that the node is to have, that of its gateway first.
func held(r store.Reader, node string) []netip.Prefix {
	var all []netip.Prefix
	var first netip.Prefix
	for b := range store.Blocks.By(r, store.ByNode, node) {
		switch {
		case b.Recalled, b.Subnet != "":
		case b.First:
			first = b.Prefix()
		default:
			all = append(all, b.Prefix())
		}
	}
	slices.SortFunc(all, blocks.Compare)
	if first.IsValid() {
		all = slices.Insert(all, 0, first)
	}
	return all
}

// log says what was decided. What is the same at each report is said from time to time.
func (k *Keeper) log(node string, actions []blocks.Action) {
	for _, a := range actions {
		if a.Kind != blocks.Short && a.Kind != blocks.Refuse {
			k.Log.Info("addresses", "what", a.Kind, "block", a.Block, "reason", a.Reason)
			continue
		}
		k.mu.Lock()
		now := k.Now()
		late := now.Sub(k.short[node]) >= timeouts.BlocksWarn
		if late {
			k.short[node] = now
		}
		k.mu.Unlock()
		if late {
			k.Log.Warn("addresses", "what", a.Kind, "reason", a.Reason)
		}
	}
}

// Run frees, from time to time until ctx ends, the blocks of nodes that are gone. One server runs it at a time.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(timeouts.BlocksSaid)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := k.sweep(ctx); err != nil && ctx.Err() == nil {
			k.Log.Error("cannot free the addresses of nodes that are gone", "error", err)
		}
	}
}

func (k *Keeper) sweep(ctx context.Context) error {
	var actions []blocks.Action
	plan := func(r store.Reader) {
		exists := func(node string) bool { _, ok := store.Nodes.Get(r, node); return ok }
		actions = blocks.Orphans(slices.Collect(store.Blocks.Scan(r, "")), exists, k.Now(), times)
	}
	if k.Store.View(plan); len(actions) == 0 {
		return nil
	}
	err := k.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		plan(tx)
		apply(tx, "", actions, k.Now())
		return nil
	})
	if err == nil {
		k.log("", actions)
	}
	return err
}

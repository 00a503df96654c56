package network_test

import (
	"context"
	"testing"

	"github.com/google/nftables"

	"github.com/berthdev/berth/internal/node/agent/network"
)

func TestProbeLeavesNothing(t *testing.T) {
	open(t, 0) // skips without root
	if err := network.Probe(); err != nil {
		t.Fatal(err)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table.Name == "berth-probe" {
			t.Error("the probe's table is left over")
		}
	}
}

// A chain FORWARD that drops, as Docker's, lets the bridge's traffic through while the network is there, and only then.
func TestPassesAForwardChainThatDrops(t *testing.T) {
	n, conf := open(t, 0)
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	if existing, err := c.ListTableOfFamily("filter", nftables.TableFamilyIPv4); err == nil && existing != nil {
		t.Skip("this machine has a table filter already")
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
	drop := nftables.ChainPolicyDrop
	chain := c.AddChain(&nftables.Chain{Table: table, Name: "FORWARD", Type: nftables.ChainTypeFilter,
		Hooknum:  nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &drop})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.DelTable(table)
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
	})
	rules := func() int {
		all, err := c.GetRules(table, chain)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for range 2 { // again: no rule twice
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err = network.Open(context.Background(), conf); err != nil {
			t.Fatal(err)
		}
		if got := rules(); got != 2 {
			t.Errorf("%d rules, want one for each direction", got)
		}
	}
	if err := n.Destroy(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := rules(); got != 0 {
		t.Errorf("%d rules are left over", got)
	}
}

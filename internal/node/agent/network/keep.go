package network

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/nftables"

	"github.com/berthdev/berth/internal/timeouts"
)

// keep has the rules be there until ctx ends.
func (n *Network) keep(ctx context.Context) {
	ticker := time.NewTicker(timeouts.RulesKept)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := n.look(); err != nil {
			n.log.Warn("the rules of the tasks' network cannot be put in order; trying again", "error", err)
		}
	}
}

// look makes the rules anew when some are missing, or when there is a new way outside.
func (n *Network) look() error {
	missing, err := n.nft.missing()
	if err != nil {
		return err
	}
	if n.c.Groups {
		gone, err := n.shield.missing()
		if err != nil {
			return err
		}
		if gone {
			n.shield.forget()
			if err := n.enforce(); err != nil {
				return err
			}
		}
	}
	if on, err := forwards(); err != nil || !on {
		return errors.Join(err, n.ensureForwarding())
	}
	if known, ours := n.readForwarding(); ours {
		outside, err := n.outsiders(known)
		if err != nil {
			return err
		}
		if !slices.Equal(outside, n.outside) {
			n.outside, missing = outside, true
		}
	}
	if !missing {
		return nil
	}
	n.log.Info("the rules of the tasks' network are made anew: another program took some away, or the machine's devices changed")
	return n.install()
}

// missing tells whether our table is gone, or a chain that drops does not let tasks through.
func (f *firewall) missing() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chains, err := f.conn.ListChainsOfTableFamily(nftables.TableFamilyUnspecified)
	if err != nil {
		return false, err
	}
	here := slices.ContainsFunc(chains, func(c *nftables.Chain) bool {
		return c.Table.Name == f.table().Name && c.Table.Family == nftables.TableFamilyIPv4 && c.Name == "forward"
	})
	if !here {
		return true, nil
	}
	for _, c := range droppers(chains) {
		if f.refused[c.Table.Name+" "+c.Name] {
			continue
		}
		marked, err := f.marked(c)
		if err != nil || len(marked) != len(f.passes(c)) {
			return err == nil, err
		}
	}
	return false, nil
}

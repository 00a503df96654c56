package network

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Docker and others set the policy of the chain FORWARD in the table filter, which iptables-nft keeps in nftables, to drop. No
// rule of our own table can accept what another drops, so tasks' traffic is let through in that chain, by rules that iptables
// lists like its own and that are found again by their mark.

func (f *firewall) mark() []byte { return []byte("berth-" + f.id) }

// forwardChain is iptables-nft's FORWARD chain, nil when there is none.
func (f *firewall) forwardChain() (*nftables.Chain, error) {
	chains, err := f.conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if c.Table.Name == "filter" && c.Name == "FORWARD" {
			return c, nil
		}
	}
	return nil, nil
}

// passForward lets the traffic from and to the bridge through a FORWARD chain that drops by default.
func (f *firewall) passForward(bridge string) error {
	if err := f.unpassForward(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.forwardChain()
	if err != nil || c == nil || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
		return err
	}
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		// iptables compares a name with its closing zero and no padding.
		f.conn.InsertRule(&nftables.Rule{Table: c.Table, Chain: c, UserData: f.mark(), Exprs: []expr.Any{
			&expr.Meta{Key: key, Register: reg1}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: append([]byte(bridge), 0)},
			&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}})
	}
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("let tasks through the FORWARD chain: %w", err)
	}
	return nil
}

// unpassForward removes what passForward added.
func (f *firewall) unpassForward() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.forwardChain()
	if err != nil || c == nil {
		return err
	}
	rules, err := f.conn.GetRules(c.Table, c)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the FORWARD chain: %w", err)
	}
	found := false
	for _, r := range rules {
		if bytes.Equal(r.UserData, f.mark()) {
			found = true
			if err := f.conn.DelRule(r); err != nil {
				return err
			}
		}
	}
	if !found {
		return nil
	}
	return f.conn.Flush()
}

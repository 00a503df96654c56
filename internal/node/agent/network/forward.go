package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Docker, ufw and others set the policy of the chain FORWARD in the table filter, which iptables-nft keeps in nftables, to drop, ufw
// that of INPUT too; firewalld's own chains refuse what no zone of it knows. No rule of our own table can accept what another drops,
// so tasks' traffic, and of what is for this machine their questions to the metadata server and the name server and what comes from
// other machines for tasks, is let through in those chains, by rules that iptables lists like its own and that are found again by their
// mark.

func (f *firewall) mark() []byte { return []byte("berth-" + f.id) }

// foreign tells the chains of other firewalls in which Berth puts its rules.
func foreign(c *nftables.Chain) bool {
	return c.Table.Family == nftables.TableFamilyIPv4 && c.Table.Name == "filter" && (c.Name == "FORWARD" || c.Name == "INPUT") ||
		c.Table.Family == nftables.TableFamilyINet && c.Table.Name == "firewalld" && (c.Name == "filter_FORWARD" || c.Name == "filter_INPUT")
}

// passes are what is let through a chain of another firewall.
func (f *firewall) passes(c *nftables.Chain) [][]expr.Any {
	from, to := f.tasks(expr.MetaKeyIIFNAME, true), f.tasks(expr.MetaKeyOIFNAME, true)
	if strings.HasSuffix(c.Name, "FORWARD") {
		return [][]expr.Any{from, to}
	}
	const dns = 53
	toGateway := append(from, destination(netip.PrefixFrom(f.gateway, 32))...)
	all := [][]expr.Any{slices.Concat(toGateway, toPort(unix.IPPROTO_UDP, dns)), slices.Concat(toGateway, toPort(unix.IPPROTO_TCP, dns))}
	if f.metadata != 0 {
		all = append(all, slices.Concat(toGateway, toPort(unix.IPPROTO_TCP, f.metadata)))
	}
	// What is for tasks comes in UDP from other machines, of which package overlay takes that of the fleet's only; and what comes out of
	// that is sifted by our own table.
	all = append(all, toPort(unix.IPPROTO_UDP, OverlayPort), f.overlay(expr.MetaKeyIIFNAME, true))
	if c.Table.Family == nftables.TableFamilyINet { // where addresses are looked at, the family must be known
		for i := range all {
			all[i] = slices.Concat([]expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{unix.NFPROTO_IPV4}}}, all[i])
		}
	}
	return all
}

// droppers are those of chains that drop what is not let through.
func droppers(chains []*nftables.Chain) []*nftables.Chain {
	var all []*nftables.Chain
	for _, c := range chains {
		drops := c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop || c.Table.Name == "firewalld"
		if foreign(c) && drops {
			all = append(all, c)
		}
	}
	return all
}

// passForward lets the traffic from and to tasks through the chains that drop by default.
func (f *firewall) passForward() error {
	if err := f.unpassForward(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	chains, err := f.conn.ListChainsOfTableFamily(nftables.TableFamilyUnspecified)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range droppers(chains) {
		if f.refused[c.Table.Name+" "+c.Name] {
			continue
		}
		for _, pass := range f.passes(c) {
			f.conn.InsertRule(&nftables.Rule{Table: c.Table, Chain: c, UserData: f.mark(),
				Exprs: slices.Concat(pass, []expr.Any{&expr.Counter{}}, verdict(expr.VerdictAccept))})
		}
		if err := f.conn.Flush(); err != nil {
			f.refused[c.Table.Name+" "+c.Name] = true // its owner's; berth doctor says what to do
			errs = append(errs, fmt.Errorf("let tasks through the chain %s %s: %w", c.Table.Name, c.Name, err))
		}
	}
	return errors.Join(errs...)
}

// marked are the rules in c that passForward added.
func (f *firewall) marked(c *nftables.Chain) ([]*nftables.Rule, error) {
	rules, err := f.conn.GetRules(c.Table, c)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the chain %s %s: %w", c.Table.Name, c.Name, err)
	}
	var ours []*nftables.Rule
	for _, r := range rules {
		if bytes.Equal(r.UserData, f.mark()) {
			ours = append(ours, r)
		}
	}
	return ours, nil
}

// unpassForward removes what passForward added.
func (f *firewall) unpassForward() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	chains, err := f.conn.ListChainsOfTableFamily(nftables.TableFamilyUnspecified)
	if err != nil {
		return err
	}
	for _, c := range chains {
		if !foreign(c) {
			continue
		}
		rules, err := f.marked(c)
		if err != nil || len(rules) == 0 {
			if err != nil {
				return err
			}
			continue
		}
		for _, r := range rules {
			if err := f.conn.DelRule(r); err != nil {
				return err
			}
		}
		if err := f.conn.Flush(); err != nil {
			return err
		}
	}
	return nil
}

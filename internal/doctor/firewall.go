package doctor

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/berthdev/berth/internal/node/agent/network"
)

func firewall() []Finding {
	const load = "Load the modules nf_tables, nft_chain_nat, nft_masq, nft_reject_ipv4 and nft_fib_ipv4, or use a kernel that has them."
	c, err := nftables.New()
	if err != nil {
		return found("nftables", Fail, "nftables can't be used: "+err.Error()+".", load)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyUnspecified)
	if err != nil {
		return found("nftables", Fail, "nftables can't be used: "+err.Error()+".", load)
	}
	if os.Geteuid() == 0 {
		if err := network.Probe(); err != nil {
			return found("nftables", Fail, "nftables lacks what networks of tasks need: "+err.Error()+".", load)
		}
	}
	return slices.Concat(ok("nftables", "nftables answers."), forwardPolicy(chains, legacyFilter()), zones(chains))
}

// zones looks for firewalld, whose zones decide what other machines may send.
func zones(chains []*nftables.Chain) []Finding {
	const name = "firewalld"
	if !slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == "firewalld" }) {
		return nil
	}
	return ok(name, "firewalld is on. What tasks send goes through: Berth accepts its devices bv* before the zones, and again after a reload. For a fleet the zone of this "+
		"machine's device needs the ports: firewall-cmd --permanent --add-port=4567/tcp --add-port=4567/udp --add-port=4569/udp (a server's also 4568/tcp).")
}

// legacyFilter tells whether the old iptables, which nftables does not see, has a table of filters.
func legacyFilter() bool {
	data, err := os.ReadFile("/proc/net/ip_tables_names")
	return err == nil && strings.Contains(string(data), "filter")
}

// forwardPolicy looks for firewalls that drop what tasks send and get. What one chain drops, no other can accept.
func forwardPolicy(chains []*nftables.Chain, legacy bool) []Finding {
	const name = "forward policy"
	for _, c := range chains {
		forIPv4 := c.Table.Family == nftables.TableFamilyIPv4 || c.Table.Family == nftables.TableFamilyINet
		if !forIPv4 || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || c.Policy == nil ||
			*c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		if c.Table.Family == nftables.TableFamilyIPv4 && c.Table.Name == "filter" && c.Name == "FORWARD" {
			continue // of iptables-nft, such as Docker's: Berth puts its own rules into it
		}
		return found(name, Warn, fmt.Sprintf("The firewall chain %s %s drops forwarded packets by default: tasks may reach no network "+
			"and their published ports may not answer.", c.Table.Name, c.Name),
			fmt.Sprintf("Let it accept the interfaces bv*, such as by: nft insert rule %s %s %s "+
				"iifname \"bv*\" accept, and the same with oifname.", family(c.Table.Family), c.Table.Name, c.Name))
	}
	if legacy {
		return found(name, Warn, "The old iptables filters packets here, which nftables can't see: if its FORWARD policy is DROP, tasks "+
			"reach no network.",
			"iptables-legacy -I FORWARD -i bv+ -j ACCEPT; iptables-legacy -I FORWARD -o bv+ -j ACCEPT")
	}
	return ok(name, "No other firewall drops what tasks send.")
}

func family(f nftables.TableFamily) string {
	if f == nftables.TableFamilyINet {
		return "inet"
	}
	return "ip"
}

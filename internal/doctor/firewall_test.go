package doctor

import (
	"strings"
	"testing"

	"github.com/google/nftables"
)

func TestForwardPolicy(t *testing.T) {
	drop, accept := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
	chain := func(family nftables.TableFamily, table, name string, hook *nftables.ChainHook,
		policy *nftables.ChainPolicy) *nftables.Chain {
		return &nftables.Chain{Table: &nftables.Table{Family: family, Name: table}, Name: name, Hooknum: hook, Policy: policy}
	}
	forward, input := nftables.ChainHookForward, nftables.ChainHookInput
	for _, c := range []struct {
		name   string
		chain  *nftables.Chain
		legacy bool
		want   Grade
	}{
		{"accepts", chain(nftables.TableFamilyINet, "firewalld", "filter_FORWARD", forward, &accept), false, OK},
		{"drops", chain(nftables.TableFamilyINet, "firewalld", "filter_FORWARD", forward, &drop), false, Warn},
		{"drops IPv4", chain(nftables.TableFamilyIPv4, "own", "fw", forward, &drop), false, Warn},
		{"drops IPv6 only", chain(nftables.TableFamilyIPv6, "own", "fw", forward, &drop), false, OK},
		{"Docker's, into which Berth puts rules", chain(nftables.TableFamilyIPv4, "filter", "FORWARD", forward, &drop), false, OK},
		{"drops what comes in", chain(nftables.TableFamilyINet, "own", "in", input, &drop), false, OK},
		{"no base chain", chain(nftables.TableFamilyINet, "own", "sub", nil, nil), false, OK},
		{"old iptables", chain(nftables.TableFamilyINet, "own", "sub", nil, nil), true, Warn},
	} {
		got := forwardPolicy([]*nftables.Chain{c.chain}, c.legacy)
		if len(got) != 1 || got[0].Grade != c.want || got[0].Grade == Warn && !strings.Contains(got[0].Cure, "bv") {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
}

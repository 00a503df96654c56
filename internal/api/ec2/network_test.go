package ec2

import (
	"net/netip"
	"testing"

	"github.com/berthdev/berth/internal/model"
)

func TestNetworksOfOtherSizes(t *testing.T) {
	n, err := NewNetwork(scope, netip.MustParsePrefix("10.1.2.0/24"))
	if err != nil || n.Subnets[2].CIDR != "10.1.2.32/28" || n.VPC != DefaultNetwork(scope).VPC {
		t.Errorf("%v %+v", err, n)
	}
	if other := DefaultNetwork(model.Scope{Account: "000000000000", Region: "eu-west-1"}); other.VPC == n.VPC {
		t.Error("two regions share a VPC")
	}
	for _, bad := range []string{"10.0.0.0/8", "10.0.0.0/25", "10.0.0.1/16", "fd00::/20"} {
		if _, err := NewNetwork(scope, netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for region, want := range map[string]string{"us-east-1": "use1", "ap-southeast-2": "apse2", "eu-central-1": "euc1",
		"us-gov-west-1": "usgw1",
		"local":         "local"} {
		if got := shortRegion(region); got != want {
			t.Errorf("%s is %s in short, want %s", region, got, want)
		}
	}
}

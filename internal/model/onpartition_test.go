package model

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func TestPartition(t *testing.T) {
	for value, want := range map[string]OnPartition{"replace": {}, "wait": {Wait: true}, "fence=10s": {Fence: 10 * time.Second}, "fence=1h": {Fence: time.Hour}} {
		if got, err := ParseOnPartition(value); err != nil || got != want {
			t.Errorf("%s is %+v (%v)", value, got, err)
		}
	}
	for _, value := range []string{"", "Wait", "fence", "fence=", "fence=10", "fence=4s", "fence=2h", "fence=-10s"} {
		if p, err := ParseOnPartition(value); err == nil {
			t.Errorf("%q was read as %+v", value, p)
		}
	}
	tags := []types.Tag{{Key: new("team"), Value: new("wait")}, {Key: new(PartitionTag), Value: new("wait")}}
	if p := OnPartitionOf(tags); !p.Wait {
		t.Errorf("tags say %+v", p)
	}
	if p := OnPartitionOf(nil); p != (OnPartition{}) {
		t.Errorf("no tags say %+v", p)
	}
}

package task

import (
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func item(name string, base, weight int32) types.CapacityProviderStrategyItem {
	return types.CapacityProviderStrategyItem{CapacityProvider: new(name), Base: base, Weight: weight}
}

func TestChooseProviderMeetsBaseThenWeights(t *testing.T) {
	strategy := []types.CapacityProviderStrategyItem{item("FARGATE", 2, 1), item("FARGATE_SPOT", 0, 3)}
	placed := map[string]int{}
	var order []string
	for range 10 {
		p := ChooseProvider(strategy, placed)
		placed[p]++
		order = append(order, p)
	}
	if order[0] != "FARGATE" || order[1] != "FARGATE" {
		t.Errorf("the base comes first, got %v", order)
	}
	if want := map[string]int{"FARGATE": 4, "FARGATE_SPOT": 6}; !reflect.DeepEqual(placed, want) {
		t.Errorf("2 of base and 8 by weight 1:3: got %v, want %v", placed, want)
	}
	if p := ChooseProvider(nil, nil); p != "" {
		t.Errorf("an empty strategy chooses %q", p)
	}
}

func TestTags(t *testing.T) {
	tag := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	got := Tags([]types.Tag{tag("a", "own")}, []types.Tag{tag("a", "def"), tag("b", "def")}, ManagedTags("c", "s"))
	want := []types.Tag{tag("a", "own"), tag("b", "def"), tag("aws:ecs:clusterName", "c"), tag("aws:ecs:serviceName", "s")}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Tags = %+v", got)
	}
}

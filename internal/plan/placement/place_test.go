package placement

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// fleet makes n nodes (1024 CPU units, 1024 MiB, zones a, b and c in turn) that are instances i00, i01, … of cluster c.
func fleet(n int) ([]*model.Node, []*model.Instance) {
	var nodes []*model.Node
	var instances []*model.Instance
	for k := range n {
		id := fmt.Sprintf("%02d", k)
		nodes = append(nodes, &model.Node{ID: "n" + id, Connected: true,
			Declaration: model.Declaration{CPU: 1024, Memory: 1024, ReservedPorts: []int32{22},
				Attributes: map[string]string{"ecs.availability-zone": string(rune('a' + k%3))}}})
		instances = append(instances, &model.Instance{ID: "i" + id, NodeID: "n" + id, Cluster: "c", Status: "ACTIVE"})
	}
	return nodes, instances
}

// stateOf is a State of the clusters c and d.
func stateOf(nodes []*model.Node, instances []*model.Instance, tasks []*model.Task) *State {
	return NewState([]*model.Cluster{{Name: "c", Status: "ACTIVE"}, {Name: "d", Status: "ACTIVE"}}, nodes, instances, tasks)
}

func constraint(kind types.PlacementConstraintType, expression string) types.PlacementConstraint {
	c := types.PlacementConstraint{Type: kind}
	if expression != "" {
		c.Expression = &expression
	}
	return c
}

func strategy(kind types.PlacementStrategyType, field string) types.PlacementStrategy {
	return types.PlacementStrategy{Type: kind, Field: &field}
}

func small(id string, change func(*model.Task)) *model.Task {
	t := &model.Task{ID: id, Cluster: "c", Group: "service:web", Service: "web", Needs: model.Resources{CPU: 100, Memory: 100}}
	if change != nil {
		change(t)
	}
	return t
}

// TestRefusals: each requirement refuses with its own code and sentence, and the closest instance is the one that got furthest.
func TestRefusals(t *testing.T) {
	tests := []struct {
		name    string
		nodes   func(nodes []*model.Node, instances []*model.Instance)
		task    func(*model.Task)
		reason  string
		closest string
		text    string
	}{
		{"agent", func(n []*model.Node, _ []*model.Instance) { n[0].Connected, n[1].Connected = false, false }, nil,
			"AGENT", "i00", `encountered error "AGENT".`},
		{"cpu beats agent", func(n []*model.Node, _ []*model.Instance) { n[0].Connected = false },
			func(t *model.Task) { t.Needs.CPU = 2000 }, "RESOURCE:CPU", "i01", "has insufficient CPU units available."},
		{"memory", nil, func(t *model.Task) { t.Needs.Memory = 1025 }, "RESOURCE:MEMORY", "i00",
			"has insufficient memory available."},
		{"memory of the nearer one", func(n []*model.Node, _ []*model.Instance) { n[0].CPU = 10 },
			func(t *model.Task) { t.Needs.Memory = 1025 }, "RESOURCE:MEMORY", "i01", "has insufficient memory available."},
		{"reserved port", nil, func(t *model.Task) { t.Needs.Ports = []model.HostPort{{Port: 22, Protocol: "tcp"}} },
			"RESOURCE:PORTS", "i00", "is already using a port required by your task."},
		{"interface", func(n []*model.Node, _ []*model.Instance) {
			n[0].Attributes[ENILimitAttribute], n[1].Attributes[ENILimitAttribute] = "0", "0"
		}, func(t *model.Task) { t.Needs.ENIs = 1 }, "RESOURCE:ENI", "i00", `encountered error "RESOURCE:ENI".`},
		{"member", nil, func(t *model.Task) {
			t.Constraints = []types.PlacementConstraint{constraint("memberOf", "attribute:ecs.availability-zone == z")}
		}, "MemberOf placement constraint unsatisfied.", "i00", `encountered error "MemberOf placement constraint unsatisfied.".`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes, instances := fleet(2)
			if tt.nodes != nil {
				tt.nodes(nodes, instances)
			}
			d := stateOf(nodes, instances, nil).Place(small("t", tt.task))
			want := "The closest matching (container-instance " + tt.closest + ") " + tt.text
			if d.InstanceID != "" || d.Reason != tt.reason || d.ClosestInstanceID != tt.closest || d.Explanation != want {
				t.Errorf("got %+v\nwant %s, %s, %s", d, tt.reason, tt.closest, want)
			}
			total := 0
			for _, r := range d.Refusals {
				total += r.Count
			}
			if total != 2 {
				t.Errorf("refusals count %d instances, want 2: %+v", total, d.Refusals)
			}
		})
	}
}

func TestNoInstances(t *testing.T) {
	nodes, instances := fleet(1)
	instances[0].Status = "DRAINING"
	s := stateOf(nodes, instances, nil)
	for _, cluster := range []string{"c", "other"} {
		d := s.Place(small("t", func(t *model.Task) { t.Cluster = cluster }))
		if d.InstanceID != "" || d.ClosestInstanceID != "" || d.Explanation != "No Container Instances were found in your cluster." {
			t.Errorf("cluster %s: %+v", cluster, d)
		}
	}
}

// TestNodeIsShared: a node's tasks of all clusters share its memory and its ports.
func TestNodeIsShared(t *testing.T) {
	nodes, instances := fleet(1)
	instances = append(instances, &model.Instance{ID: "i99", NodeID: "n00", Cluster: "d", Status: "ACTIVE"})
	s := stateOf(nodes, instances, []*model.Task{{ID: "old", Cluster: "d", InstanceID: "i99", NodeID: "n00",
		Needs: model.Resources{Memory: 1000, Ports: []model.HostPort{{Port: 80, Protocol: "tcp"}}}}})
	if d := s.Place(small("t", nil)); d.Reason != "RESOURCE:MEMORY" {
		t.Errorf("got %+v, want RESOURCE:MEMORY", d)
	}
	onPort := func(protocol string) *model.Task {
		return &model.Task{ID: protocol, Cluster: "c", Needs: model.Resources{Ports: []model.HostPort{{Port: 80, Protocol: protocol}}}}
	}
	if d := s.Place(onPort("tcp")); d.Reason != "RESOURCE:PORTS" {
		t.Errorf("got %+v, want RESOURCE:PORTS", d)
	}
	if d := s.Place(onPort("udp")); d.InstanceID != "i00" {
		t.Errorf("the udp port of the same number is free, got %+v", d)
	}
}

func TestDynamicPortsAreTaken(t *testing.T) {
	nodes, instances := fleet(1)
	port := int32(49160)
	held := small("held", func(t *model.Task) {
		t.InstanceID, t.NodeID = "i00", "n00"
		t.Observed.Containers = []model.Container{{NetworkBindings: []types.NetworkBinding{{HostPort: &port}}}}
	})
	d := stateOf(nodes, instances, []*model.Task{held}).Place(
		small("t", func(t *model.Task) { t.Needs.Ports = []model.HostPort{{Port: port, Protocol: "tcp"}} }))
	if d.Reason != "RESOURCE:PORTS" {
		t.Errorf("got %+v, want RESOURCE:PORTS", d)
	}
}

func TestStrategies(t *testing.T) {
	tests := []struct {
		name       string
		strategies []types.PlacementStrategy
		service    string
		want       string // the instances of six tasks
	}{
		{"service default: zones, then instances", nil, "web", "[i00 i01 i02 i03 i04 i05]"},
		{"standalone default: emptiest", nil, "", "[i00 i01 i02 i03 i04 i05]"},
		{"binpack by memory", []types.PlacementStrategy{strategy("binpack", "memory")}, "web", "[i00 i00 i00 i00 i00 i00]"},
		{"binpack by cpu", []types.PlacementStrategy{strategy("binpack", "CPU")}, "web", "[i00 i00 i00 i00 i00 i00]"},
		{"zones, then binpack", []types.PlacementStrategy{strategy("spread", "attribute:ecs.availability-zone"),
			strategy("binpack", "memory")}, "web", "[i00 i01 i02 i00 i01 i02]"},
		{"instances", []types.PlacementStrategy{strategy("spread", "instanceId")}, "web", "[i00 i01 i02 i03 i04 i05]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes, instances := fleet(6)
			s := stateOf(nodes, instances, nil)
			var got []string
			for k := range 6 {
				d := s.Place(small(fmt.Sprint("t", k), func(t *model.Task) {
					t.Strategy, t.Service = tt.strategies, tt.service
				}))
				got = append(got, d.InstanceID)
			}
			if fmt.Sprint(got) != tt.want {
				t.Errorf("placed on %v, want %v", got, tt.want)
			}
		})
	}
}

// TestSpreadCountsTheGroup: what other groups do does not matter to a spread, what this group has already does.
func TestSpreadCountsTheGroup(t *testing.T) {
	nodes, instances := fleet(3)
	at := func(id, group, instance string) *model.Task {
		return &model.Task{ID: id, Cluster: "c", Group: group, InstanceID: instance, NodeID: "n" + instance[1:]}
	}
	s := stateOf(nodes, instances, []*model.Task{
		at("1", "service:web", "i00"), at("2", "service:web", "i01"), at("3", "service:other", "i02"), at("4", "service:other", "i02"),
	})
	if d := s.Place(small("t", nil)); d.InstanceID != "i02" {
		t.Errorf("placed on %s, want i02, where the service has no task", d.InstanceID)
	}
}

func TestDistinctInstance(t *testing.T) {
	nodes, instances := fleet(2)
	s := stateOf(nodes, instances, nil)
	distinct := func(t *model.Task) {
		t.Constraints = []types.PlacementConstraint{constraint("distinctInstance", "")}
		t.Strategy = []types.PlacementStrategy{strategy("binpack", "memory")}
	}
	a, b, c := s.Place(small("a", distinct)), s.Place(small("b", distinct)), s.Place(small("c", distinct))
	if a.InstanceID == "" || b.InstanceID == "" || a.InstanceID == b.InstanceID {
		t.Errorf("placed on %q and %q, want two instances", a.InstanceID, b.InstanceID)
	}
	if c.Reason != "distinctInstance placement constraint unsatisfied." {
		t.Errorf("third: %+v", c)
	}
}

// TestMemberOfTasks: a query of tasks sees what this batch has placed.
func TestMemberOfTasks(t *testing.T) {
	nodes, instances := fleet(3)
	s := stateOf(nodes, instances, nil)
	beside := func(t *model.Task) {
		t.Group, t.Service = "family:beside", ""
		t.Constraints = []types.PlacementConstraint{constraint("memberOf", "task:group == service:web")}
	}
	if d := s.Place(small("early", beside)); d.InstanceID != "" {
		t.Fatalf("placed beside nothing on %s", d.InstanceID)
	}
	web := s.Place(small("web", nil))
	if d := s.Place(small("late", beside)); d.InstanceID != web.InstanceID {
		t.Errorf("placed on %q, want %q where service:web is", d.InstanceID, web.InstanceID)
	}
}

func TestUnreadableConstraint(t *testing.T) {
	nodes, instances := fleet(1)
	d := stateOf(nodes, instances, nil).Place(small("t", func(t *model.Task) {
		t.Constraints = []types.PlacementConstraint{constraint("memberOf", "attribute:x ~ y")}
	}))
	if d.InstanceID != "" || d.Reason != reasonMemberOf || d.Explanation == "" {
		t.Errorf("got %+v", d)
	}
}

func TestPlaceOn(t *testing.T) {
	nodes, instances := fleet(3)
	nodes[1].Connected = false
	instances[2].Status = "DRAINING"
	s := stateOf(nodes, instances, nil)
	instances = append(instances, &model.Instance{ID: "i77", NodeID: "n77", Cluster: "c", Status: "ACTIVE"})
	tests := []struct {
		instance int
		reason   string
	}{{0, ""}, {0, "RESOURCE:MEMORY"}, {1, "AGENT"}, {2, "INACTIVE"}, {3, "MISSING"}}
	for k, tt := range tests {
		d := s.PlaceOn(instances[tt.instance], small(fmt.Sprint(k), func(t *model.Task) {
			t.Needs.Memory = 600
			t.Constraints = []types.PlacementConstraint{constraint("memberOf", "attribute:ecs.availability-zone == z")}
		}))
		if tt.reason == "" && d.InstanceID != instances[tt.instance].ID || tt.reason != "" && (d.Reason != tt.reason || d.InstanceID != "") {
			t.Errorf("%s: %+v, want %q", instances[tt.instance].ID, d, tt.reason)
		}
	}
}

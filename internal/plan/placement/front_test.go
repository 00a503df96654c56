package placement

import (
	"fmt"
	"testing"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

func listenerAt(arn string, port int32) *model.Listener {
	return &model.Listener{ARN: arn, Listener: elbtypes.Listener{Port: &port}}
}

// TestPortsOfLoadBalancers: a host port that a listener has on a machine is taken there, as long as the machine serves it.
func TestPortsOfLoadBalancers(t *testing.T) {
	const none = "RESOURCE:PORTS"
	own := func(n *model.Node) { n.KeyHash = "k" } // without a server
	says := func(name, value string) func(*model.Node) {
		return func(n *model.Node) { n.KeyHash, n.Attributes[name] = "k", value }
	}
	for _, c := range []struct {
		name   string
		change func(s *State)
		first  func(*model.Node) // what n00 is; n01 is a server's
		want   string            // the instance of a task of port 80, or the refusal
	}{
		{"no listener", func(*State) {}, nil, "i00"},
		{"a listener of the port", func(s *State) { s.PutListener(listenerAt("l", 80)) }, nil, none},
		{"of another port", func(s *State) { s.PutListener(listenerAt("l", 81)) }, nil, "i00"},
		{"a listener that went", func(s *State) { s.PutListener(listenerAt("l", 80)); s.DropListener("l") }, nil, "i00"},
		{"one of two that went", func(s *State) {
			s.PutListener(listenerAt("l", 80))
			s.PutListener(listenerAt("m", 80))
			s.PutListener(listenerAt("m", 80))
			s.DropListener("l")
		}, nil, none},
		{"a listener that moved", func(s *State) { s.PutListener(listenerAt("l", 80)); s.PutListener(listenerAt("l", 443)) }, nil, "i00"},
		{"another program had it before", func(s *State) {
			l := listenerAt("l", 80)
			l.Problem, l.Problems = "n00: port 80 is in use", map[string]string{"n00": "port 80 is in use"}
			s.PutListener(l)
		}, nil, "i00"},
		{"the only machine does not serve it", func(s *State) {
			l := listenerAt("l", 80)
			l.Problem = "port 80 is in use"
			s.PutListener(l)
		}, nil, "i00"},
		{"a machine of the first ones", func(s *State) { s.PutListener(listenerAt("l", 80)) }, own, none},
		{"a machine that serves no load balancers", func(s *State) { s.PutListener(listenerAt("l", 80)) }, says(model.AttributeBalancer, "false"), "i00"},
		{"one that nobody reaches", func(s *State) { s.PutListener(listenerAt("l", 80)) }, says(model.AttributeReachable, "false"), "i00"},
		{"one that became a server's", func(s *State) {
			s.PutListener(listenerAt("l", 80))
			s.Place(onPort80("before"))
			s.DropTask("before")
			s.PutServer("n00")
		}, says(model.AttributeBalancer, "false"), none},
		{"one that is a server's no longer", func(s *State) {
			s.PutListener(listenerAt("l", 80))
			s.PutServer("n00")
			s.Place(onPort80("before"))
			s.DropServer("n00")
		}, says(model.AttributeBalancer, "false"), "i00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes, instances := fleet(2)
			if c.first != nil {
				c.first(nodes[0])
			}
			s := stateOf(nodes, instances, nil)
			c.change(s)
			d := s.Place(onPort80("t"))
			if got := d.InstanceID; got != c.want && (got != "" || d.Reason != c.want) {
				t.Errorf("got %+v, want %s", d, c.want)
			}
		})
	}
}

func onPort80(id string) *model.Task {
	return small(id, func(t *model.Task) { t.Needs.Ports = []model.HostPort{{Port: 80, Protocol: "tcp"}} })
}

// TestPortsOfTheFirstMachines: of many machines that say nothing only the first serve load balancers, whoever comes and goes; a UDP port
// is nobody's.
func TestPortsOfTheFirstMachines(t *testing.T) {
	s := stateOf(nil, nil, nil)
	s.PutListener(listenerAt("l", 80))
	machine := func(k int) *model.Node {
		return &model.Node{ID: fmt.Sprintf("n%02d", k), Connected: true, KeyHash: "k", RegisteredAt: time.Unix(int64(k), 0),
			Declaration: model.Declaration{CPU: 1024, Memory: 1024}}
	}
	for k := range 9 {
		s.PutNode(machine(k))
		if d := s.Place(onPort80("t")); d.Reason != "RESOURCE:PORTS" {
			t.Fatalf("%d machines: %+v", k+1, d)
		}
	}
	udp := onPort80("udp")
	udp.Needs.Ports[0].Protocol = "udp"
	if d := s.Place(udp); d.NodeID == "" {
		t.Errorf("udp: %+v", d)
	}
	s.PutNode(machine(9))
	if d := s.Place(onPort80("t")); d.NodeID != "n09" {
		t.Fatalf("the tenth serves none: %+v", d)
	}
	s.DropTask("t")
	s.DropNode("n03")
	if d := s.Place(onPort80("t")); d.Reason != "RESOURCE:PORTS" {
		t.Fatalf("the tenth has become the ninth: %+v", d)
	}
}

package placement

import (
	"slices"

	"github.com/berthdev/berth/internal/model"
)

// front is what load balancers take of machines: the ports of their listeners, where they are served.
type front struct {
	listeners map[string]*model.Listener // by ARN
	ports     map[int32]int              // how many listeners have each
	servers   map[string]bool            // by their nodes' ids
	serving   map[string]bool            // the nodes that serve load balancers; nil: to be worked out
}

func newFront() *front {
	return &front{listeners: map[string]*model.Listener{}, ports: map[int32]int{}, servers: map[string]bool{}}
}

// PutListener takes in a load balancer's listener that is new or has changed.
func (s *State) PutListener(l *model.Listener) {
	s.DropListener(l.ARN)
	if p := l.Listener.Port; p != nil {
		s.front.listeners[l.ARN] = l
		s.front.ports[*p]++
	}
}

// DropListener forgets a listener: its port is free.
func (s *State) DropListener(arn string) {
	l := s.front.listeners[arn]
	if l == nil {
		return
	}
	delete(s.front.listeners, arn)
	if p := *l.Listener.Port; s.front.ports[p] == 1 {
		delete(s.front.ports, p)
	} else {
		s.front.ports[p]--
	}
	s.frees++
}

// PutServer takes in the id of a node that is a server's.
func (s *State) PutServer(id string) {
	if !s.front.servers[id] {
		s.front.servers[id], s.front.serving = true, nil
		s.frees++ // another machine may serve no longer
	}
}

// DropServer forgets a server.
func (s *State) DropServer(id string) {
	if s.front.servers[id] {
		delete(s.front.servers, id)
		s.front.serving = nil
		s.frees++
	}
}

// holds tells whether a load balancer has the TCP port on the node.
func (s *State) holds(n *node, port int32) bool {
	if s.front.ports[port] == 0 || !s.serves(n.id) {
		return false
	}
	for _, l := range s.front.listeners {
		if *l.Listener.Port == port && !l.Misses(n.id) {
			return true
		}
	}
	return false
}

// Balanced are the TCP ports that load balancers have on a node, in order. Where a machine could not take one, as another program has it,
// it is not among them.
func (s *State) Balanced(node string) (all []int32) {
	if len(s.front.listeners) == 0 || !s.serves(node) {
		return nil
	}
	for _, l := range s.front.listeners {
		if !l.Misses(node) {
			all = append(all, *l.Listener.Port)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// serves tells whether the node serves load balancers.
func (s *State) serves(node string) bool {
	if s.front.serving == nil {
		s.front.serving = model.Balancing(func(yield func(*model.Node) bool) {
			for _, n := range s.nodes {
				if n.Node != nil && !yield(n.Node) {
					return
				}
			}
		}, s.front.servers)
	}
	return s.front.serving[node]
}

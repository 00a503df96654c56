package placement

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/berthdev/berth/internal/model"
)

// ENILimitAttribute is the node attribute that bounds how many awsvpc tasks the node runs at a time; absent or no number: no
// bound.
const ENILimitAttribute = "berth.eni-limit"

// noLimit is more interfaces than a machine has addresses for.
const noLimit = 1 << 30

const tcp = "tcp"

// node is a machine and what its tasks of all clusters leave free. A node may hold more than it has: tasks placed before it shrank.
type node struct {
	*model.Node // nil while only its tasks are known
	id          string
	hash        uint64
	state       *State

	usedCPU    int64
	usedMemory int64
	usedENIs   int
	usedGPUs   int
	tasks      int
	ports      map[model.HostPort]int // taken, by how many
	groups     []*group               // of the tasks here
	limit      int                    // of ENIs

	// What follows is worked out by measure.
	freeCPU    int64
	freeMemory int64
	freeENIs   int
	freeGPUs   int
	load       int64 // the fuller of CPU and memory, in millionths
}

// become takes in what the machine is; nil: it is not known any more.
func (n *node) become(m *model.Node) {
	n.Node, n.limit = m, noLimit
	if m != nil {
		if limit, err := strconv.Atoi(m.Attributes[ENILimitAttribute]); err == nil && limit >= 0 {
			n.limit = limit
		}
	}
	n.measure()
}

func newNode(id string, s *State) *node {
	return &node{id: id, hash: hash(id), state: s, ports: map[model.HostPort]int{}}
}

// connected tells whether the machine is there to take a task.
func (n *node) connected() bool { return n.Node.Takes() }

// measure works out what is free.
func (n *node) measure() {
	if n.Node == nil {
		n.freeCPU, n.freeMemory, n.freeENIs, n.freeGPUs, n.load = 0, 0, 0, 0, 0
		return
	}
	n.freeCPU, n.freeMemory, n.freeENIs = n.CPU-n.usedCPU, n.Memory-n.usedMemory, n.limit-n.usedENIs
	n.freeGPUs = n.GPUs - n.usedGPUs
	n.load = max(filled(n.CPU, n.freeCPU), filled(n.Memory, n.freeMemory))
}

func filled(all, free int64) int64 {
	if all <= 0 {
		return 0
	}
	return (all - free) * 1_000_000 / all
}

// take counts what a task needs, sign 1, or no longer needs, sign -1.
func (n *node) take(t *model.Task, sign int) {
	n.usedCPU += int64(sign) * t.Needs.CPU
	n.usedMemory += int64(sign) * t.Needs.Memory
	n.usedENIs += sign * t.Needs.ENIs
	n.usedGPUs += sign * t.Needs.GPUs
	n.tasks += sign
	for _, p := range t.Needs.Ports {
		n.takePort(p, sign)
	}
	for i := range t.Observed.Containers { // the ports that the agent chose
		for _, b := range t.Observed.Containers[i].NetworkBindings {
			if b.HostPort != nil {
				n.takePort(model.HostPort{Port: *b.HostPort, Protocol: cmp.Or(string(b.Protocol), tcp)}, sign)
			}
		}
	}
	n.measure()
}

func (n *node) takePort(p model.HostPort, sign int) {
	if n.ports[p] += sign; n.ports[p] == 0 {
		delete(n.ports, p)
	}
}

// taken tells whether a task or a load balancer holds the port, or the machine keeps it for itself.
func (n *node) taken(p model.HostPort) bool {
	return n.ports[p] > 0 || p.Protocol == tcp && (slices.Contains(n.ReservedPorts, p.Port) || n.state.holds(n, p.Port))
}

// hash spreads ids over all numbers.
func hash(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return mix(h.Sum64())
}

// mix spreads what differs in the last bytes only, as ids do, over all bits, which FNV does not: the finalizer of SplitMix64
// (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

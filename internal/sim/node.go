package sim

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
)

// What a container does is its image's name, up to a colon.
const (
	good   = "good"   // runs until it is stopped
	crash  = "crash"  // exits with 1 a second after it started
	broken = "broken" // cannot be pulled
	sick   = "sick"   // runs, but its targets are unhealthy
)

func behaviour(image string) string {
	name, _, _ := strings.Cut(image, ":")
	return name
}

// How long a pretended step takes.
const (
	startTime = time.Second
	stopTime  = time.Second
)

// node is a machine that pretends. Its containers live as long as the machine, whatever becomes of the server.
type node struct {
	model.Node
	client *nodelink.Client

	mu     sync.Mutex
	ctx    context.Context // of the server's sessions
	server *nodelink.Server
	conn   nodelink.Conn
	cut    bool      // no session can be opened
	off    time.Time // when it was cut off
	dead   bool      // the machine is off: it neither reports nor acts
	set    []model.Assignment
	runs   map[string]*run // by task id
	ports  int32           // how many host ports were given
}

// run is one task on the machine.
type run struct {
	observed model.Observed
	since    time.Time // when the observed status began
	crash    bool      // its container is to exit now
}

var errNoNetwork = errors.New("the network is down")

// addNode starts a machine and its client.
func (c *Cluster) addNode(n model.Node) {
	out := &node{Node: n, runs: map[string]*run{}, ctx: c.serving, server: c.server}
	out.client = nodelink.NewClient(nodelink.ClientConfig{
		Declare: func() model.Declaration { return out.Declaration },
		Dial:    out.dial,
		OnAssign: func(all []model.Assignment) {
			out.mu.Lock()
			defer out.mu.Unlock()
			out.set = all
		},
	})
	c.nodes = append(c.nodes, out)
	go func() { _ = out.client.Run(c.ctx) }()
}

// serveWith makes the node's next sessions those of another server.
func (n *node) serveWith(ctx context.Context, s *nodelink.Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ctx, n.server = ctx, s
}

func (n *node) dial(context.Context) (nodelink.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		return nil, errNoNetwork
	}
	server, mine := nodelink.Pipe()
	n.conn = mine
	ctx, s := n.ctx, n.server
	go func() { _ = s.Serve(ctx, nodelink.Caller{Node: n.ID}, server) }()
	return mine, nil
}

// kill turns the machine off; its containers are gone.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut, n.dead, n.set, n.runs, n.off = true, true, nil, map[string]*run{}, time.Now()
	n.conn.Close()
}

// unplug breaks the network; the containers run on.
func (n *node) unplug() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut, n.off = true, time.Now()
	n.conn.Close()
}

// revive turns the machine or its network on again.
func (n *node) revive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut, n.dead = false, false
}

// step does what has become due.
func (n *node) step(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return
	}
	wanted := map[string]bool{}
	for _, a := range n.set {
		wanted[a.Task.ID] = true
		r := n.runs[a.Task.ID]
		if r == nil {
			r = n.take(a, now)
		}
		for n.advance(r, a, now) {
			r.observed.Seq++
			o := r.observed
			o.Containers = slices.Clone(o.Containers)
			n.client.Report(model.Report{TaskID: a.Task.ID, Observed: o})
		}
	}
	if n.cut {
		return // what the server wants now is not known
	}
	for id := range n.runs {
		if !wanted[id] {
			delete(n.runs, id)
		}
	}
}

// take begins a task. One that had begun before the machine went off has lost its containers.
func (n *node) take(a model.Assignment, now time.Time) *run {
	r := &run{observed: a.Task.Observed, since: now}
	r.observed.Containers = slices.Clone(r.observed.Containers)
	if !r.observed.Status.Before(model.Running) {
		r.crash = true
	}
	n.runs[a.Task.ID] = r
	return r
}

// advance takes the run one step further; false when nothing is due.
func (n *node) advance(r *run, a model.Assignment, now time.Time) bool {
	o := &r.observed
	kind := behaviour(o.Containers[0].Image)
	due := now.Sub(r.since)
	switch {
	case o.Status == model.Stopped:
		return false
	case o.Status == model.Stopping:
		if due < stopTime {
			return false
		}
		r.end(now, "", "")
	case a.Stop && o.Status.Before(model.Running):
		r.end(now, "", "")
	case a.Stop:
		o.StoppingAt = now
		r.become(model.Stopping, now)
	case o.Status.Before(model.Running) && kind == broken:
		r.end(now, types.TaskStopCodeTaskFailedToStart, "CannotPullContainerError: pull access denied")
	case o.Status.Before(model.Running):
		if due < startTime {
			return false
		}
		o.StartedAt = now
		o.Containers[0].Status = model.Running
		o.Containers[0].NetworkBindings = n.bindings(a, o.Containers[0].Name)
		r.become(model.Running, now)
	case r.crash || kind == crash && due >= time.Second:
		o.Containers[0].ExitCode = new(int32(1))
		r.end(now, types.TaskStopCodeEssentialContainerExited, "Essential container in task exited")
	default:
		return false
	}
	return true
}

func (r *run) become(s model.TaskStatus, now time.Time) { r.observed.Status, r.since = s, now }

func (r *run) end(now time.Time, code types.TaskStopCode, reason string) {
	r.observed.StopCode, r.observed.StoppedReason = code, reason
	r.observed.ExecutionStoppedAt, r.observed.StoppedAt = now, now
	r.observed.Containers[0].Status = model.Stopped
	r.become(model.Stopped, now)
}

// firstPort is the lowest host port that is given to a mapping without one.
const firstPort = 49153

// bindings gives each port of a container a host port that no other task of the machine had for a long time.
func (n *node) bindings(a model.Assignment, container string) []types.NetworkBinding {
	var out []types.NetworkBinding
	for _, d := range a.Definition.ContainerDefinitions {
		if d.Name == nil || *d.Name != container {
			continue
		}
		for _, p := range d.PortMappings {
			host := p.HostPort
			if host == nil || *host == 0 {
				n.ports++
				host = new(firstPort + n.ports%16000)
			}
			out = append(out, types.NetworkBinding{ContainerPort: p.ContainerPort, HostPort: host,
				Protocol: cmp.Or(p.Protocol, types.TransportProtocolTcp)})
		}
	}
	return out
}

// node finds a machine by its name.
func (c *Cluster) node(name string) (*node, bool) {
	at := slices.IndexFunc(c.nodes, func(n *node) bool { return n.Hostname == name })
	if at < 0 {
		return nil, false
	}
	return c.nodes[at], true
}

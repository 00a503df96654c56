package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/life"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/keeper"
	"github.com/berthdev/berth/internal/node/vitals"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// hearBeats has the server hear the beats of nodes at its cluster port, until ctx is done, and the node of this process, if there is one, beat
// from there to all servers. key is the cluster's. Where the port cannot be taken, nodes beat in their sessions.
func (s *server) hearBeats(ctx context.Context, address string, key []byte) error {
	beats := beat.NewServer(beat.ServerConfig{Age: s.leaderAge, OnBye: s.life.Bye, Log: s.log.With("component", "beat")})
	hear := func(ctx context.Context, over func(context.Context, beat.Socket) error) error {
		socket, err := listenBeats(address)
		if err != nil {
			s.log.Warn("beats do not arrive here: nodes are judged by their sessions, which takes longer", "error", err)
			return nil
		}
		s.life.Listen(life.Hearing{Beats: beats, Others: s.otherServers, Key: func(node string) beat.Key { return beat.Key(pki.NodeBeatKey(key, node)) }})
		return over(ctx, socket)
	}
	if s.near == nil {
		return hear(ctx, func(ctx context.Context, socket beat.Socket) error { return beat.NewPort(socket, beats, nil).Run(ctx) })
	}
	p, err := newPulse(s.in, pki.NodeBeatKey(key, s.in.NodeID), s.log.With("component", "beat"))
	if err != nil {
		return err
	}
	p.vitals.Store(s.near.vitals)
	s.near.beatBy(p)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.tellServers(ctx, p.to) })
	g.Go(func() error {
		return p.run(ctx, func(ctx context.Context) error {
			return hear(ctx, func(ctx context.Context, socket beat.Socket) error { return p.over(ctx, socket, beats) })
		}, s.near.end)
	})
	return g.Wait()
}

// tellServers tells where the cluster ports of all servers are, now and after each change, until ctx is done.
func (s *server) tellServers(ctx context.Context, tell func([]string)) error {
	w := s.store.Watch(ctx, store.Servers.All())
	for {
		addresses := []string{}
		s.store.View(func(r store.Reader) {
			for row := range store.Servers.Scan(r, "") {
				addresses = append(addresses, row.Address)
			}
		})
		tell(addresses)
		if _, ok := <-w.C(); !ok {
			return nil
		}
		w.Take()
	}
}

// listenBeats takes the cluster port for packets as listenCluster does for connections.
func listenBeats(address string) (beat.Socket, error) {
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		host = ""
	}
	return beat.Listen(net.JoinHostPort(host, number))
}

// pulse is the node's half of the beats, with what follows from them: the lease of tasks that need one.
type pulse struct {
	in   *Instance
	node *beat.Node
	boot uint64
	key  []byte
	log  *slog.Logger
	// leaving tells, once the node ends, whether its machine does.
	leaving func() bool
	ended   <-chan struct{} // closed when the node ends; nil before run

	vitals atomic.Pointer[vitals.Vitals] // nil as long as nobody looks

	mu     sync.Mutex
	fenced map[string]model.Assignment // those of the last set that need a lease
}

// newPulse makes the pulse of the instance's node; key is that of its beats.
func newPulse(in *Instance, key []byte, log *slog.Logger) (*pulse, error) {
	id, err := beat.ParseID(in.NodeID)
	if err != nil {
		return nil, err
	}
	boot := beat.BootOf(bootID())
	p := &pulse{leaving: sync.OnceValue(shutsDown), in: in, boot: boot, key: key, log: log}
	p.node = beat.NewNode(beat.NodeConfig{ID: id, Boot: boot, Health: p.health, Log: log})
	var told []model.Assignment
	for _, a := range agent.Remembered(in.Path("tasks"), log) { // until a server speaks
		told = append(told, a.Assignment)
	}
	p.assigned(told)
	return p, nil
}

// health is what is wrong with this machine.
func (p *pulse) health() beat.Health {
	if v := p.vitals.Load(); v != nil {
		return v.Health()
	}
	return 0
}

// to beats to these servers from now on.
func (p *pulse) to(servers []string) {
	if err := p.node.Set(beat.Settings{Servers: servers, Key: p.key}); err != nil {
		p.log.Error("this node does not beat", "error", err)
	}
}

// assigned notes which tasks need a lease.
func (p *pulse) assigned(all []model.Assignment) {
	fenced := map[string]model.Assignment{}
	for _, a := range all {
		if a.Fence > 0 && !a.Stop {
			fenced[a.Task.ID] = a
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fenced = fenced
}

// charge is what the keeper needs to stand in.
func (p *pulse) charge() keeper.Charge {
	c := keeper.Charge{Node: p.in.NodeID, Boot: p.boot, Settings: p.node.Settings(), Lease: p.node.LeaseAt()}
	select {
	case <-p.ended:
		c.Bye = p.leaving()
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, a := range p.fenced {
		c.Fences = append(c.Fences, keeper.Fence{Cgroup: path.Join(p.in.cgroup(), id), Lease: a.Fence,
			Stop: model.StopTime(&a.Definition, timeouts.StopDefault, timeouts.StopLongest)})
	}
	return c
}

// run beats over port, once no keeper has it, until ctx is done. end ends a task that has lost its lease.
func (p *pulse) run(ctx context.Context, port func(context.Context) error, end func(task string, code types.TaskStopCode, reason string)) error {
	p.ended = ctx.Done()
	g, ctx := errgroup.WithContext(ctx)
	if p.in.Runtime == "containerd" {
		k := keeper.NewAgent(p.in.daemonConfig().KeeperSocket(), p.charge, p.node.Resume, p.log)
		g.Go(func() error { return k.Run(ctx) })
		select {
		case <-k.Ready():
		case <-ctx.Done():
		}
	}
	g.Go(func() error { return port(ctx) })
	g.Go(func() error { return p.fence(ctx, end) })
	return g.Wait()
}

// alone beats from a port that no server has.
func (p *pulse) alone(ctx context.Context) error {
	socket, err := beat.Listen(fmt.Sprintf(":%d", life.Port))
	if err != nil {
		p.log.Warn("the port of beats is taken: this node beats from another, which firewalls may not let probes to", "error", err)
		if socket, err = beat.Listen(":0"); err != nil {
			p.log.Error("this node beats in its session only", "error", err)
			return nil
		}
	}
	return p.over(ctx, socket, nil)
}

// over beats over a socket, at which server hears too, if there is one.
func (p *pulse) over(ctx context.Context, socket beat.Socket, server *beat.Server) error {
	on, off := context.WithCancel(context.WithoutCancel(ctx))
	defer off()
	defer context.AfterFunc(ctx, func() {
		if p.leaving() {
			p.node.Bye(on)
		}
		off()
	})()
	go p.node.Run(on)
	return beat.NewPort(socket, server, p.node).Run(on)
}

// shutsDown tells whether systemd is ending this machine: its tasks are then to be replaced at once. Elsewhere nobody can tell.
func shutsDown() bool {
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.ByeAsk)
	defer cancel()
	state, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output() // its status is of no interest
	return strings.TrimSpace(string(state)) == "stopping"
}

// fence ends the tasks whose lease is too old: the leader replaces them when that must have been done.
func (p *pulse) fence(ctx context.Context, end func(task string, code types.TaskStopCode, reason string)) error {
	tick := time.NewTicker(timeouts.FenceLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		age, ok := p.node.Lease()
		p.mu.Lock()
		for id, a := range p.fenced {
			if ok && age > a.Fence {
				delete(p.fenced, id)
				p.log.Warn("no server has been heard for longer than the task may run without: it is stopped", "task", id, "lease", a.Fence)
				end(id, types.TaskStopCodeInfrastructureHealth, fmt.Sprintf("Its node heard no server for %s, and the service's tag %s is fence=%s.",
					age.Round(100*time.Millisecond), model.PartitionTag, a.Fence))
			}
		}
		p.mu.Unlock()
	}
}

// Package keeper stands in for a node's agent while that is away: it beats and answers probes in the agent's place, so that a dead agent
// is not taken for a dead machine, and stops the tasks of which there must not be two when the node has been cut off for too long. It is a
// part of `berth containerd`, which outlives the agent.
//
// The agent charges the keeper over a unix socket, and is there for as long as that connection is: the kernel closes it at its death.
package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/timeouts"
)

// Charge is what the agent tells the keeper: all that it needs, each time.
type Charge struct {
	Node     string // its id
	Boot     uint64
	Settings beat.Settings
	Lease    time.Duration // see beat.Node.LeaseAt; 0: none yet
	Fences   []Fence
	// Bye: the machine shuts down, which the agent has said. Nobody is to stand in.
	Bye bool
}

// Fence is a task that must not run without a lease.
type Fence struct {
	Cgroup string        // of the task
	Lease  time.Duration // how old the lease may be
	Stop   time.Duration // what the task has to end after its stop signal
}

// taken is the keeper's answer to the first charge: the port is free, and this is the lease that the keeper has had.
type taken struct{ Lease time.Duration }

// Config is what a keeper needs.
type Config struct {
	Socket string // of the agent
	Listen string // the address of beats; "" means ":4567"
	// Signal sends a signal to all processes of a cgroup.
	Signal func(cgroup string, sig unix.Signal)
	Clock  func() time.Duration // since boot; nil means the kernel's
	Log    *slog.Logger
}

// Keeper is the one in `berth containerd`.
type Keeper struct {
	Config
	mu     sync.Mutex
	charge Charge // the last; its Node is "" before the first
	lease  time.Duration
	agents int                // connections of agents that have charged it
	resign context.CancelFunc // ends the standing in; nil: it does not
	ended  chan time.Duration // gets the lease when that has ended
}

// Run keeps until ctx is done.
func Run(ctx context.Context, c Config) error {
	if c.Listen == "" {
		c.Listen = ":4567"
	}
	k := &Keeper{Config: c}
	if err := os.Remove(c.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", c.Socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	defer func() { _ = l.Close() }()
	if err := os.Chmod(c.Socket, 0o600); err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go k.serve(ctx, conn)
	}
}

// serve listens to an agent until it is gone, and then stands in for it.
func (k *Keeper) serve(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	in := json.NewDecoder(conn)
	charged := false
	for {
		var c Charge
		if err := in.Decode(&c); err != nil {
			break
		}
		k.mu.Lock()
		k.charge, k.lease = c, max(k.lease, c.Lease)
		k.mu.Unlock()
		if charged {
			continue
		}
		charged = true
		if err := json.NewEncoder(conn).Encode(taken{k.yield()}); err != nil {
			break
		}
	}
	if charged {
		k.take(ctx)
	}
}

// yield leaves the port to the agent, and returns the lease.
func (k *Keeper) yield() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.agents++
	if k.resign != nil {
		k.resign()
		k.lease = max(k.lease, <-k.ended)
		k.resign = nil
		k.Log.Info("the agent is back")
	}
	return k.lease
}

// take stands in for the last agent, unless another one is there.
func (k *Keeper) take(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.agents--; k.agents > 0 || ctx.Err() != nil || k.charge.Bye {
		return
	}
	ctx, k.resign = context.WithCancel(ctx)
	ended := make(chan time.Duration, 1)
	k.ended = ended
	charge, lease := k.charge, k.lease
	k.Log.Info("the agent is away: the keeper stands in for it", "tasks with a fence", len(charge.Fences))
	go func() { ended <- k.standIn(ctx, charge, lease) }()
}

// standIn beats and fences until ctx is done, and returns the lease then.
func (k *Keeper) standIn(ctx context.Context, c Charge, lease time.Duration) time.Duration {
	id, err := beat.ParseID(c.Node)
	if err != nil {
		k.Log.Error("the keeper cannot stand in", "error", err)
		return lease
	}
	node := beat.NewNode(beat.NodeConfig{ID: id, Boot: c.Boot, Away: true, Clock: k.Clock, Log: k.Log})
	node.Resume(lease)
	if err := node.Set(c.Settings); err != nil {
		k.Log.Error("the keeper cannot stand in", "error", err)
	}
	var work sync.WaitGroup
	work.Go(func() { k.listen(ctx, node) })
	work.Go(func() { node.Run(ctx) })
	for _, f := range c.Fences {
		work.Go(func() { k.fence(ctx, node, f) })
	}
	work.Wait()
	return node.LeaseAt()
}

// listen answers at the port, which the agent's death frees.
func (k *Keeper) listen(ctx context.Context, node *beat.Node) {
	for {
		s, err := beat.Listen(k.Listen)
		if err == nil {
			err = beat.NewPort(s, nil, node).Run(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(timeouts.KeeperPort):
		}
		_ = err // another's port: it is tried until it is free
	}
}

// fence stops a task when the lease is too old: nobody else knows then whether it runs elsewhere.
func (k *Keeper) fence(ctx context.Context, node *beat.Node, f Fence) {
	wait := func(age time.Duration) bool {
		for {
			left := age
			if old, ok := node.Lease(); ok {
				left = age - old
			}
			if left <= 0 {
				return true
			}
			select {
			case <-ctx.Done():
				return false
			case <-time.After(min(left, timeouts.FenceLook)):
			}
		}
	}
	if !wait(f.Lease) {
		return
	}
	k.Log.Warn("no server has been heard for longer than the task may run without: it is stopped", "cgroup", f.Cgroup, "lease", f.Lease)
	k.Signal(f.Cgroup, unix.SIGTERM)
	select {
	case <-ctx.Done():
	case <-time.After(f.Stop):
		k.Signal(f.Cgroup, unix.SIGKILL)
	}
}

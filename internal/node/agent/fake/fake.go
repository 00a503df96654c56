// Package fake is a machine that keeps its containers in memory: the Runtime, Images, Network and Logs of an agent for
// `berth up --runtime fake`, for simulated clusters and for tests. What a container does is told by its image's name (ScriptOf)
// or by Config.Script; everything else behaves as the real machine does, so that an agent cannot tell them apart.
package fake

import (
	"net/netip"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
)

// Config is how a Machine behaves. The zero Config is useful.
type Config struct {
	// Script tells what a container does; nil means ScriptOf.
	Script func(image string, command []string) Script
	// Subnet gives tasks their addresses; the zero Prefix means 10.88.0.0/16.
	Subnet netip.Prefix
	// StartFor is how long a container takes to start.
	StartFor time.Duration
	Now      func() time.Time // nil means time.Now
}

// Machine is one fake machine. It outlives its agents, as containers do.
type Machine struct {
	Runtime *Runtime
	Images  *Images
	Network *Network
	Logs    *Logs
}

// New makes a machine.
func New(cfg Config) *Machine {
	if cfg.Script == nil {
		cfg.Script = ScriptOf
	}
	if !cfg.Subnet.IsValid() {
		cfg.Subnet = netip.MustParsePrefix("10.88.0.0/16")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	logs := newLogs(cfg.Now)
	network := &Network{subnet: cfg.Subnet, networks: map[string]*network{}, next: cfg.Subnet.Addr().Next().Next()}
	return &Machine{
		Runtime: newRuntime(cfg, logs, network),
		Images:  &Images{cfg: cfg, pulls: map[string]int{}, logins: map[string]model.RegistryLogin{}},
		Network: network,
		Logs:    logs,
	}
}

// faults are errors that calls will return, by the name of the call.
type faults struct {
	mu     sync.Mutex
	queued map[string][]error
}

// Fail makes the next times calls of op ("Create", "Setup", …) return err. For tests of what an agent does about it.
func (f *faults) Fail(op string, err error, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.queued == nil {
		f.queued = map[string][]error{}
	}
	for range times {
		f.queued[op] = append(f.queued[op], err)
	}
}

func (f *faults) take(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.queued[op]
	if len(q) == 0 {
		return nil
	}
	f.queued[op] = q[1:]
	return q[0]
}

var (
	_ agent.Runtime = (*Runtime)(nil)
	_ agent.Images  = (*Images)(nil)
	_ agent.Network = (*Network)(nil)
	_ agent.Logs    = (*Logs)(nil)
)

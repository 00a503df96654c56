package keeper

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// Agent is the agent's side: it charges the keeper, for as long as it lives.
type Agent struct {
	Socket string
	// Charge is asked for whenever the keeper is told.
	Charge func() Charge
	// OnTaken, which may be nil, is told once, before Ready, of the lease that the keeper has had.
	OnTaken func(lease time.Duration)
	Log     *slog.Logger

	once  sync.Once
	ready chan struct{}
}

// NewAgent makes an Agent. onTaken may be nil.
func NewAgent(socket string, charge func() Charge, onTaken func(lease time.Duration), log *slog.Logger) *Agent {
	return &Agent{Socket: socket, Charge: charge, OnTaken: onTaken, Log: log, ready: make(chan struct{})}
}

// Ready is closed when the keeper has left the port to the agent, or does not answer.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Run tells the keeper what it needs, each second, until ctx is done. A keeper that is away is waited for.
func (a *Agent) Run(ctx context.Context) error {
	give := time.AfterFunc(timeouts.KeeperAnswer, func() { a.once.Do(func() { close(a.ready) }) })
	defer give.Stop()
	for {
		if err := a.session(ctx); err != nil && ctx.Err() == nil {
			a.Log.Debug("no keeper", "error", err)
			a.once.Do(func() { close(a.ready) }) // where none is, none has the port
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(timeouts.KeeperTell):
		}
	}
}

func (a *Agent) session(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", a.Socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(timeouts.KeeperTell)) })()
	defer func() { _ = conn.Close() }()
	out := json.NewEncoder(conn)
	if err := out.Encode(a.Charge()); err != nil {
		return err
	}
	var t taken
	if err := json.NewDecoder(conn).Decode(&t); err != nil {
		return err
	}
	a.once.Do(func() {
		if a.OnTaken != nil {
			a.OnTaken(t.Lease)
		}
		close(a.ready)
	})
	tick := time.NewTicker(timeouts.KeeperTell)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return out.Encode(a.Charge()) // the last word
		case <-tick.C:
		}
		if err := out.Encode(a.Charge()); err != nil {
			return err
		}
	}
}

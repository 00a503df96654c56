package app

import (
	"context"
	"log/slog"
	"net"

	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/relay"
)

// relay has the API of the cluster's servers answer on this machine. Without its address, which another Berth may have, the node works
// all the same.
func (r *remote) relay(ctx context.Context, listen string, log *slog.Logger) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		log.Warn("the cluster's API does not answer on this machine; choose another address with --listen", "error", err)
		return nil
	}
	return relay.New(relay.Config{Servers: r.known, Dial: r.dialer.Dial, Log: log.With("component", "relay")}).
		Serve(ctx, apiGate(log, 0).Listener(l))
}

// relays are the connections of other machines' relays.
func (p *port) relays() net.Listener {
	return p.peer.Listen(relay.Protocol, peer.Machines|peer.Clients)
}

// localAPI is where the API answers for programs on this machine.
func (in *Instance) localAPI() string {
	host, number, _ := net.SplitHostPort(in.Listen) // checked when the instance was opened
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, number)
}

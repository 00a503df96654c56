package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/network"
	"github.com/berthdev/berth/internal/node/overlay"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
	"github.com/berthdev/berth/internal/vpc"
)

// fabric is the servers' half of the network of tasks.
type fabric struct {
	*vpc.Keeper
	peers  *vpc.Peers
	groups *vpc.Groups
	call   func(ctx context.Context, path string, in, out any) error // the leader
}

func (s *server) newFabric(log *slog.Logger) *fabric {
	network, _ := s.in.network(s.in.Scope()) // the instance was checked when it was opened
	keeper := vpc.New(vpc.Config{Store: s.store, Ranges: s.in.ranges(s.gateway), Log: log})
	return &fabric{keeper, vpc.NewPeers(s.store), vpc.NewGroups(s.store, network.Rows(), network.SecurityGroup, keeper), s.call}
}

// pathSettle is where a server asks the leader for a node's addresses.
const pathSettle = "/v1/nodes/addresses"

type settling struct {
	Node, Zone string
	Says       model.Addresses
}

// Settle implements nodelink.Fabric: what is to be written, the leader writes.
func (f *fabric) Settle(ctx context.Context, node, zone string, says model.Addresses) (told []netip.Prefix, err error) {
	told, err = f.Keeper.Settle(ctx, node, zone, says)
	if errors.Is(err, store.ErrNotLeader) {
		err = f.call(ctx, pathSettle, settling{node, zone, says}, &told)
	}
	return told, err
}

// pathSettleIn is where a server asks the leader for a node's addresses of users' subnets.
const pathSettleIn = "/v1/nodes/addresses-in"

// SettleIn implements nodelink.Fabric, as Settle.
func (f *fabric) SettleIn(ctx context.Context, node string, says model.Addresses) (told map[string]model.SubnetBlocks, err error) {
	told, err = f.Keeper.SettleIn(ctx, node, says)
	if errors.Is(err, store.ErrNotLeader) {
		err = f.call(ctx, pathSettleIn, settling{Node: node, Says: says}, &told)
	}
	return told, err
}

func (s *server) settleIn(ctx context.Context, _ string, in settling) (map[string]model.SubnetBlocks, error) {
	return s.fabric.Keeper.SettleIn(ctx, in.Node, in.Says)
}

func (s *server) settle(ctx context.Context, _ string, in settling) ([]netip.Prefix, error) {
	return s.fabric.Keeper.Settle(ctx, in.Node, in.Zone, in.Says)
}

// Follow implements nodelink.Fabric.
func (f *fabric) Follow() nodelink.Following { return f.peers.Subscribe() }

// FollowGroups implements nodelink.Fabric.
func (f *fabric) FollowGroups(node string) nodelink.FollowingGroups { return f.groups.Subscribe(node) }

// Encrypted implements nodelink.Fabric.
func (f *fabric) Encrypted() (yes bool) {
	f.Store.View(func(r store.Reader) {
		if s, ok := store.ClusterSettings.Get(r, model.SettingsKey); ok {
			yes = s.Encrypt
		}
	})
	return yes
}

// carriers names, by node, what carries its tasks' traffic to other machines, "" for nothing: what a machine makes of what it is told.
func (f *fabric) carriers() func(node string) string {
	known, encrypt := f.peers.Known(), f.Encrypted()
	all := slices.Collect(maps.Values(known))
	return func(node string) string {
		self, ok := known[node]
		if !ok {
			return ""
		}
		return overlay.Wanted{Self: self, Peers: all, Encrypt: encrypt}.Carrier()
	}
}

// ranges are those of the VPC on the first server's first start: what the user chose, or the default; where the machine itself lives in
// that, the network that this machine's tasks have their addresses from.
func (in *Instance) ranges(gateway string) []netip.Prefix {
	all, err := netip.ParsePrefix(in.vpc())
	if err != nil {
		return nil // check has refused it
	}
	if a, err := netip.ParseAddr(gateway); err == nil && in.VPCCIDR == "" && !all.Contains(a) {
		all = netip.PrefixFrom(a, all.Bits()).Masked()
	}
	return []netip.Prefix{all}
}

// vpcRanges are the ranges as the cluster's settings spell them.
func (s *server) vpcRanges() (all []string) {
	for _, r := range s.in.ranges(s.gateway) {
		all = append(all, r.String())
	}
	return all
}

// across is this machine's half of the network of tasks: its addresses, and the ways to other machines.
type across struct {
	*network.Network
	node    string
	overlay *overlay.Overlay
	log     *slog.Logger
	key     string // its public one, for what is encrypted between machines
}

// SetPeers implements nodelink.Network.
func (a *across) SetPeers(peers []model.Peer, encrypt bool) {
	w := overlay.Wanted{Peers: peers, Encrypt: encrypt}
	var gateways []netip.Addr // from which the others speak
	for _, p := range peers {
		if p.Node == a.node { // as others know it
			w.Self = p
		} else if len(p.Blocks) > 0 {
			gateways = append(gateways, p.Blocks[0].Addr().Next())
		}
	}
	a.overlay.Set(w)
	if err := a.SetMachines(gateways); err != nil {
		a.log.Error("cannot let other machines reach this one's tasks", "error", err)
	}
}

// overlayKey is this machine's private key for what is encrypted between machines.
func (in *Instance) overlayKey() (string, error) {
	return overlay.LoadKey(in.Path("network", "overlay.key"))
}

// firstBlocks asks for the addresses of a node that has none yet, where there may be other nodes, until it is answered.
func firstBlocks(ctx context.Context, in *Instance, up uplink, c network.Config, log *slog.Logger) ([]netip.Prefix, error) {
	if network.Remembered(c.StateDir) || up.alone && !in.Peers {
		return nil, nil
	}
	avoid, err := network.Taken(c)
	if err != nil {
		return nil, err
	}
	if in.Peers { // a server that has just joined, whose own part of the cluster is not open yet
		var told []netip.Prefix
		err := in.askLeader(ctx, pathSettle, settling{in.NodeID, in.zone(), model.Addresses{Avoid: avoid}}, &told, func(string) {})
		if err != nil { // one that went on alone has nobody to ask, and nobody whose addresses it could take
			log.Warn("no other server gives this machine's tasks addresses; it begins with its own", "reason", err)
		}
		return told, nil
	}
	for wait := timeouts.SessionRetry; ; wait = min(2*wait, timeouts.SessionLonger) {
		blocks, err := nodelink.AskBlocks(ctx, up.dial, in.zone(), avoid)
		if err == nil || ctx.Err() != nil {
			return blocks, err
		}
		log.Warn("this machine's tasks have no addresses yet", "reason", err, "again in", wait)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

package vpc_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
	"github.com/berthdev/berth/internal/timeouts"
	"github.com/berthdev/berth/internal/vpc"
)

func prefixes(all ...string) (ps []netip.Prefix) {
	for _, s := range all {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// fabric is what a server has of the network.
type fabric struct {
	*vpc.Keeper
	peers  *vpc.Peers
	groups *vpc.Groups
}

func (f fabric) Follow() nodelink.Following { return f.peers.Subscribe() }

func (f fabric) FollowGroups(node string) nodelink.FollowingGroups { return f.groups.Subscribe(node) }
func (f fabric) Encrypted() bool                                   { return false }

// world is a server and its nodes, without machines.
type world struct {
	t      *testing.T
	ctx    context.Context
	store  store.Store
	fabric fabric
	server *nodelink.Server
}

func newWorld(t *testing.T, ranges ...string) *world {
	ctx, cancel := context.WithCancel(t.Context())
	s := mem.New(store.Schema())
	f := fabric{vpc.New(vpc.Config{Store: s, Ranges: prefixes(ranges...)}), vpc.NewPeers(s), vpc.NewGroups(s, nil, "hosts", nil)}
	w := &world{t, ctx, s, f, nodelink.NewServer(nodelink.ServerConfig{Store: s, Fabric: f})}
	done := make(chan struct{})
	go func() { defer close(done); f.peers.Run(ctx) }()
	go f.Run(ctx)
	go f.groups.Run(ctx)
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *world) update(f func(store.Tx)) {
	w.t.Helper()
	if err := w.store.Update(w.ctx, func(tx store.Tx) error { f(tx); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// node is a machine's half: what it was told, and what it says.
type node struct {
	mu      sync.Mutex
	id      string
	used    map[netip.Prefix]int
	blocks  []netip.Prefix
	peers   []model.Peer
	guard   model.Guard
	in      map[string]model.SubnetBlocks
	wantIn  map[string]int
	changed chan struct{}
	stop    context.CancelFunc
	empty   time.Duration
}

func (n *node) Addresses() (a model.Addresses) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.blocks {
		a.Has = append(a.Has, model.BlockUse{Block: b, Used: n.used[b]})
	}
	for subnet, s := range n.in {
		for _, b := range s.Blocks {
			a.Has = append(a.Has, model.BlockUse{Block: b, Subnet: subnet, Used: n.used[b], Empty: n.empty})
		}
	}
	a.WantIn = n.wantIn
	return a
}
func (n *node) AddressesChanged() <-chan struct{} { return n.changed }
func (n *node) SetBlocks(all []netip.Prefix, in map[string]model.SubnetBlocks) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocks, n.in = all, in
	return nil
}
func (n *node) SetPeers(all []model.Peer, _ bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers = all
}

func (n *node) SetGroups(g model.Guard) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.guard = g
	return nil
}

// knows is what the node knows of other machines: "a 192.0.2.1 [172.31.0.0/26]; …".
func (n *node) knows() (s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		s += fmt.Sprintf("%s %s %v; ", p.Node, p.Address, p.Blocks)
	}
	return s
}

func (w *world) dial(id string) func(context.Context) (nodelink.Conn, error) {
	return func(context.Context) (nodelink.Conn, error) {
		server, node := nodelink.Pipe()
		go w.server.Serve(w.ctx, nodelink.Caller{Node: id}, server)
		return node, nil
	}
}

func (w *world) join(id, address string) *node {
	n := &node{id: id, used: map[netip.Prefix]int{}, changed: make(chan struct{}, 1)}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(w.ctx)
	c := nodelink.NewClient(nodelink.ClientConfig{Dial: w.dial(id), OnAssign: func([]model.Assignment) {}, Network: n,
		Declare: func() model.Declaration {
			return model.Declaration{Address: address, Attributes: map[string]string{"ecs.availability-zone": "us-east-1a"}}
		}})
	go c.Run(ctx)
	return n
}

func TestNodesGetBlocksAndKnowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "172.31.0.0/16")
		a := w.join("a", "192.0.2.1")
		synctest.Wait()
		b := w.join("b", "192.0.2.2")
		synctest.Wait()
		const both = "a 192.0.2.1 [172.31.0.0/26]; b 192.0.2.2 [172.31.0.64/26]; "
		if a.knows() != both || b.knows() != both {
			t.Errorf("a knows %s\nb knows %s", a.knows(), b.knows())
		}
		a.mu.Lock()
		a.used[a.blocks[0]] = 50
		a.mu.Unlock()
		a.changed <- struct{}{}
		time.Sleep(timeouts.BlocksAsk)
		synctest.Wait()
		if want := "a 192.0.2.1 [172.31.0.0/26 172.31.0.128/26]; b 192.0.2.2 [172.31.0.64/26]; "; b.knows() != want {
			t.Errorf("b knows %s", b.knows())
		}
		w.update(func(tx store.Tx) { // the node is removed
			store.Nodes.Delete(tx, "a")
		})
		a.stop()
		synctest.Wait()
		if want := "b 192.0.2.2 [172.31.0.64/26]; "; b.knows() != want {
			t.Errorf("b knows %s", b.knows())
		}
		left := func() (n int) {
			w.store.View(func(r store.Reader) { n = len(slices.Collect(store.Blocks.By(r, store.ByNode, "a"))) })
			return n
		}
		if left() != 2 {
			t.Errorf("the blocks of a node that has just gone are another's already")
		}
		time.Sleep(timeouts.BlockOrphan + 2*timeouts.BlocksSaid)
		synctest.Wait()
		if left() != 0 {
			t.Errorf("the blocks of a node that is gone are kept")
		}
		b.stop()
	})
}

func TestTheFirstQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "172.31.0.0/24")
		for i, want := range []string{"[172.31.0.64/26]", "[172.31.0.128/26]", "[172.31.0.192/26]"} {
			got, err := nodelink.AskBlocks(w.ctx, w.dial(fmt.Sprint(i)), "us-east-1a", prefixes("172.31.0.2/32"))
			if err != nil || fmt.Sprint(got) != want {
				t.Errorf("%d: %v %v", i, got, err)
			}
		}
		again, err := nodelink.AskBlocks(w.ctx, w.dial("1"), "us-east-1a", nil)
		if err != nil || fmt.Sprint(again) != "[172.31.0.128/26]" {
			t.Errorf("again: %v %v", again, err)
		}
		if got, err := nodelink.AskBlocks(w.ctx, w.dial("last"), "us-east-1a", prefixes("172.31.0.2/32")); err == nil {
			t.Errorf("a VPC without addresses gave %v", got)
		}
		w.update(func(tx store.Tx) {
			store.ClusterSettings.Put(tx, &model.Settings{VPC: []string{"172.31.0.0/24", "10.9.0.0/24"}})
		})
		got, err := nodelink.AskBlocks(w.ctx, w.dial("last"), "us-east-1a", prefixes("172.31.0.2/32"))
		if err != nil || fmt.Sprint(got) != "[10.9.0.0/26]" {
			t.Errorf("one more range: %v %v", got, err)
		}
	})
}

func TestManyPeersComeInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "172.16.0.0/12")
		w.update(func(tx store.Tx) {
			for i := range 2500 {
				id := fmt.Sprintf("n%04d", i)
				store.Nodes.Put(tx, &model.Node{ID: id, Declaration: model.Declaration{Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)}})
				store.Blocks.Put(tx, &model.Block{CIDR: fmt.Sprintf("172.%d.%d.%d/26", 16+i>>10, i>>2&255, i&3<<6), Node: id, First: true})
			}
		})
		n := w.join("z", "192.0.2.1")
		synctest.Wait()
		n.mu.Lock()
		if len(n.peers) != 2501 {
			t.Errorf("it knows %d machines", len(n.peers))
		}
		n.mu.Unlock()
		n.stop()
	})
}

func TestADiskThatIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "172.31.0.0/16")
		k := vpc.New(vpc.Config{Store: broken{w.store}, Ranges: prefixes("172.31.0.0/16")})
		if _, err := k.Settle(w.ctx, "a", "us-east-1a", model.Addresses{}); !errors.Is(err, store.ErrFull) {
			t.Error(err)
		}
	})
}

type broken struct{ store.Store }

func (broken) Update(context.Context, func(store.Tx) error) error { return store.ErrFull }

// What is said of the network comes out of a transport as it went in.
func TestMessagesAreReadBack(t *testing.T) {
	for _, m := range []nodelink.Message{
		{Addresses: &nodelink.Addresses{Epoch: 3, Zone: "us-east-1a", Addresses: model.Addresses{Want: 2, Avoid: prefixes("10.0.0.0/8"),
			Has: []model.BlockUse{{Block: prefixes("172.31.0.0/26")[0], Used: 5}, {Block: prefixes("172.31.0.64/26")[0], Empty: time.Hour}}}}},
		{Blocks: &nodelink.Blocks{Blocks: prefixes("172.31.0.0/26"), Failed: "x"}},
		{Peers: &nodelink.Peers{Full: true, Encrypt: true, Remove: []string{"b"}, Put: []model.Peer{{Node: "a", Address: netip.MustParseAddr("2001:db8::1"), MTU: 9000,
			Blocks: prefixes("172.31.0.0/26"), Key: "k"}}}},
		{Peers: &nodelink.Peers{}},
	} {
		data, err := model.EncodeRow(m)
		if err != nil {
			t.Fatal(err)
		}
		var got nodelink.Message
		if err := model.DecodeJSON(data, &got); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: %v", data, err)
		}
	}
}

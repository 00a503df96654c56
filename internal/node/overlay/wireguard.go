package overlay

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/network"
	"github.com/berthdev/berth/internal/timeouts"
)

const (
	wireguardOverhead = 60 // IPv4, UDP, WireGuard
	// MostEncrypted is how many other machines there may be with encryption: each of them costs memory and handshakes.
	MostEncrypted = 500
)

// LoadKey reads or makes a machine's private WireGuard key, in base64.
func LoadKey(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err == nil {
		if _, err := PublicKey(string(data)); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		return string(data), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	text := base64.StdEncoding.EncodeToString(key.Bytes())
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", err
	}
	return text, errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file))
}

// PublicKey is that of a private key, both in base64.
func PublicKey(private string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(private)
	if err != nil {
		return "", errors.New("it is no WireGuard key")
	}
	key, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return "", errors.New("it is no WireGuard key")
	}
	return base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()), nil
}

// tunnel is WireGuard in this process: it ends with it, and the next process makes another.
type tunnel struct {
	device *device.Device
	peers  map[string]string // what was said of each peer, by its public key in hexadecimal
}

// quiet is a TUN device that does not tell WireGuard when it goes up or down: level decides that.
type quiet struct {
	tun.Device
	events chan tun.Event
	once   sync.Once
}

func newQuiet(t tun.Device) *quiet {
	go func() {
		for range t.Events() { // else the device waits
		}
	}()
	return &quiet{Device: t, events: make(chan tun.Event)}
}

func (q *quiet) Events() <-chan tun.Event { return q.events }

func (q *quiet) Close() error {
	q.once.Do(func() { close(q.events) })
	return q.Device.Close()
}

func tunnelName(id string) string { return network.OverlayPrefix(id) + "w" }

// ensureTunnel makes the device, and sets it up.
func (o *Overlay) ensureTunnel(self model.Peer) error {
	name := tunnelName(o.c.ID)
	if o.tunnel != nil {
		if l, err := o.link.LinkByName(name); err == nil && l.Attrs().Index == o.device {
			return nil
		}
		o.closeTunnel() // somebody has removed its device
	}
	key, err := hexKey(o.c.Key)
	if err != nil {
		return fmt.Errorf("overlay: this machine's key: %w", err)
	}
	if err := o.removeDevices(); err != nil { // an earlier process's, or VXLAN's
		return err
	}
	o.device, o.have = 0, tables{routes: map[netip.Prefix]route{}, neighbours: map[netip.Addr]string{}, fdb: map[string]netip.Addr{}, allowed: o.have.allowed}
	t, err := tun.CreateTUN(name, mtu(self)-wireguardOver(self))
	if err != nil {
		return fmt.Errorf("overlay: make the device %s: %w", name, err)
	}
	d := device.NewDevice(newQuiet(t), conn.NewDefaultBind(), &device.Logger{Verbosef: device.DiscardLogf, Errorf: func(format string, args ...any) {
		o.log.Warn("encryption between machines", "error", fmt.Sprintf(format, args...))
	}})
	o.tunnel = &tunnel{d, map[string]string{}}
	if err := d.IpcSet(fmt.Sprintf("private_key=%s\nlisten_port=%d\n", key, Port)); err != nil {
		o.closeTunnel()
		return fmt.Errorf("overlay: take UDP port %d: %w", Port, err)
	}
	l, err := o.link.LinkByName(name)
	if err == nil {
		err = errors.Join(setUp(o.link, l), d.Up())
	}
	if err != nil {
		o.closeTunnel()
		return fmt.Errorf("overlay: set %s up: %w", name, err)
	}
	o.device = l.Attrs().Index
	o.log.Info("made the encrypted device that leads to tasks of other machines; it is of this process, as the kernel's WireGuard is not used", "device", name)
	return nil
}

func (o *Overlay) closeTunnel() {
	if o.tunnel != nil {
		o.tunnel.device.Close()
		o.tunnel = nil
	}
}

func wireguardOver(p model.Peer) int {
	if p.Address.Is6() {
		return wireguardOverhead + ipv6Overhead
	}
	return wireguardOverhead
}

// set says to WireGuard what has changed of its peers. The sessions of others go on.
func (t *tunnel) set(peers []model.Peer) error {
	want := map[string]string{}
	for _, p := range peers {
		key, err := hexKey(p.Key)
		if err != nil {
			continue // encryptable has left it out
		}
		var b strings.Builder
		// The first keepalive goes out at once, so that the other side learns of a machine that began anew: it would go on with the keys
		// of before for 15 s.
		fmt.Fprintf(&b, "public_key=%s\nendpoint=%s\npersistent_keepalive_interval=%d\nreplace_allowed_ips=true\n", key,
			netip.AddrPortFrom(p.Address, Port), timeouts.OverlayAlive/time.Second)
		for _, block := range p.Blocks {
			fmt.Fprintf(&b, "allowed_ip=%s\n", block)
		}
		want[key] = b.String()
	}
	put, extra := missing(t.peers, want)
	for key := range extra { // first: a block may be another's now
		if err := t.device.IpcSet("public_key=" + key + "\nremove=true\n"); err != nil {
			return fmt.Errorf("overlay: forget a peer: %w", err)
		}
		delete(t.peers, key)
	}
	for key, text := range put {
		if err := t.device.IpcSet(text); err != nil {
			return fmt.Errorf("overlay: add a peer: %w", err)
		}
		t.peers[key] = text
	}
	return nil
}

// encryptable are the peers that have a key; why tells of the others.
func encryptable(peers []model.Peer, why map[string]string) []model.Peer {
	return slices.DeleteFunc(peers, func(p model.Peer) bool {
		if _, err := hexKey(p.Key); err != nil {
			why[p.Node] = "what is between machines is to be encrypted, and it has no key for that: its Berth is older"
			return true
		}
		return false
	})
}

// wireguardTables are the routes to the peers; WireGuard has the rest.
func wireguardTables(self model.Peer, peers []model.Peer) tables {
	t := newTables()
	for _, p := range peers {
		t.allowed[p.Address] = true
		for _, b := range p.Blocks {
			t.routes[b] = route{mtu: min(mtu(self), mtu(p)) - wireguardOver(p)}
		}
	}
	return t
}

// levelEncrypted makes the tunnel what is wanted.
func (o *Overlay) levelEncrypted(self model.Peer, peers []model.Peer, all bool) error {
	if len(peers) > MostEncrypted {
		return fmt.Errorf("overlay: %d other machines are too many to encrypt what is between them: %d at most", len(peers), MostEncrypted)
	}
	want := wireguardTables(self, peers)
	if err := o.filterPeers(want, all); err != nil {
		return err
	}
	if err := o.ensureTunnel(self); err != nil {
		return err
	}
	if err := o.tunnel.set(peers); err != nil {
		return err
	}
	if all {
		if err := o.read(); err != nil {
			return err
		}
		o.have.neighbours, o.have.fdb = map[netip.Addr]string{}, map[string]netip.Addr{}
	}
	return o.apply(want)
}

// hexKey is a key as WireGuard's own protocol spells it.
func hexKey(key string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != 32 {
		return "", errors.New("it is no WireGuard key")
	}
	return hex.EncodeToString(raw), nil
}

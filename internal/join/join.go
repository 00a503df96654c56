// Package join is how a machine becomes one of a cluster: it dials a server, sees that the server's authority is the token's, sends a
// certificate request with the token's secret, and is told whom to believe and where the servers are. Whatever is refused is one sentence with its
// cure, and changes nothing on either side. It builds on every system: laptops join too.
package join

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
)

// Config is what a join is told. URL and Machine.ID are required; for laptops Machine.ID is ignored.
type Config struct {
	URL     pki.JoinURL
	Dir     string // the machine's pki folder; "" keeps nothing on the disk
	Machine Machine
	Ports   []Port     // which the server tries to reach; those that others have open already are not tried
	Clock   *pki.Clock // learns the server's, if the two are apart; nil: nobody cares
	Dial    peer.Dial  // nil: TCP
}

// Machine is what a machine says of itself.
type Machine struct {
	ID       string // 32 hexadecimal digits
	Hostname string
	Address  string // an IP address at which other machines reach it; "": that of the connection to the server
	Version  string // of Berth
	Level    int    // its feature level; for servers
	Boot     string // the kernel's id of the machine's run
	Replace  string // the machine whose place it takes: an id, a beginning of one that is unique, or a hostname; "": nobody's
}

// Site is what holds for the whole cluster.
type Site struct {
	Account, Region string
	Pace            string
	VPC             []string
}

// Result is what a machine is after it has joined.
type Result struct {
	Identity *pki.Identity
	Servers  []string // host:port of their cluster ports
	Site     Site
	Address  string        // the machine's, as the cluster knows it
	BeatKey  []byte        // a server's is the cluster's
	Ahead    time.Duration // by which the server's clock is ahead of this machine's
	Apart    bool          // so much that certificates are read by the server's clock
	Ports    []Port        // which were tried
	Again    bool          // the cluster knew this machine already
	CA       *pki.CA       // for servers, as RootKey: the file with the root access key
	RootKey  []byte
}

// Closed are the ports that the server could not reach.
func (r *Result) Closed() []Port {
	var closed []Port
	for _, p := range r.Ports {
		if !p.Open {
			closed = append(closed, p)
		}
	}
	return closed
}

// serverSlack is how far apart servers' clocks may be when one joins: theirs are what nodes set their own by.
const serverSlack = time.Minute

// Join makes this machine one of the cluster. It may be repeated: a machine that is known joins again without using the token.
func Join(ctx context.Context, c Config) (*Result, error) {
	old, key, made, err := c.key()
	if err != nil {
		return nil, err
	}
	res, err := c.firstOf(ctx, key)
	if err != nil {
		if made && !errors.Is(err, errLost) { // with the same key it can be tried again without using the token again
			if drop := pki.DropKey(c.Dir); drop != nil {
				return nil, errors.Join(err, drop)
			}
		}
		return nil, err
	}
	if old != nil && old.Peer.ID != res.Identity.Peer.ID {
		return nil, fmt.Errorf("the server calls this machine %s, which was %s; nothing has changed here", res.Identity.Peer.ID, old.Peer.ID)
	}
	return res, c.save(res)
}

// key is that of the machine's identity, if it has one of this cluster, that of a join that was interrupted, or a new one.
func (c *Config) key() (old *pki.Identity, key *ecdsa.PrivateKey, made bool, err error) {
	if c.Dir == "" {
		key, err = pki.NewKey()
		return nil, key, false, err
	}
	old, err = pki.Load(c.Dir)
	if err == nil {
		return old, old.Key, false, c.mayJoinAs(old)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, false, err
	}
	key, made, err = pki.LoadOrMakeKey(c.Dir)
	return nil, key, made, err
}

// mayJoinAs refuses a machine that is somebody already.
func (c *Config) mayJoinAs(old *pki.Identity) error {
	known := false
	for _, root := range old.Roots {
		known = known || pki.Pin(root) == c.URL.Token.Pin
	}
	switch role := c.URL.Token.Role; {
	case !known:
		return fmt.Errorf("this machine is %s of another cluster (%s); to leave that for good, run: berth node reset", old.Peer, old.Peer.Cluster)
	case old.Peer.Role != role:
		return fmt.Errorf("this machine is already %s of this cluster, and joins as a %s only after: berth node reset", old.Peer, role)
	case c.Machine.Replace != "" && !strings.HasPrefix(old.Peer.ID, c.Machine.Replace):
		return fmt.Errorf("this machine is already %s; it takes the place of %s only after: berth node reset", old.Peer, c.Machine.Replace)
	case c.Machine.ID != old.Peer.ID:
		return fmt.Errorf("this machine's certificate is that of %s, and its instance.json says %s: was one of them copied from another machine? Run: berth node reset",
			old.Peer.ID, c.Machine.ID)
	}
	return nil
}

// firstOf joins at the first server that answers.
func (c *Config) firstOf(ctx context.Context, key *ecdsa.PrivateKey) (*Result, error) {
	var unreached []string
	why := errUnreached
	tried := map[string]bool{}
	for queue := c.URL.Addresses; len(queue) > 0; {
		address := queue[0]
		queue = queue[1:]
		if tried[address] {
			continue
		}
		tried[address] = true
		res, err := c.at(ctx, address, key)
		if err == nil {
			return res, nil
		}
		if elsewhere, ok := errors.AsType[*peer.Elsewhere](err); ok {
			queue = append([]string{elsewhere.Address}, queue...)
			unreached = append(unreached, fmt.Sprintf("%s: %v", address, err))
			continue
		}
		if _, refused := errors.AsType[*peer.Refusal](err); refused || ctx.Err() != nil || !errors.Is(err, errUnreached) && !errors.Is(err, errLost) {
			return nil, err
		}
		if errors.Is(err, errLost) {
			why = errLost
		}
		unreached = append(unreached, err.Error())
	}
	return nil, fmt.Errorf("%w: %s; is Berth running there, is its cluster port open (berth token node opens it), and does its firewall let 4567/tcp through?",
		why, strings.Join(unreached, "; "))
}

// save writes what the machine has become; the certificate, which says that it has, last.
func (c *Config) save(r *Result) error {
	if c.Dir == "" {
		return nil
	}
	err := errors.Join(pki.SaveServers(c.Dir, r.Servers), pki.SaveBeatKey(c.Dir, r.BeatKey))
	if r.CA != nil {
		err = errors.Join(err, r.CA.Save(c.Dir))
	}
	if err == nil {
		err = r.Identity.Save(c.Dir)
	}
	if err != nil {
		return fmt.Errorf("the cluster has taken this machine in, but that cannot be written down here: %w; mend that and join again with the same token", err)
	}
	return nil
}

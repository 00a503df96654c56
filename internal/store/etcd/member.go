package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Peers is how a server meets the others.
type Peers struct {
	// Name is the server's id, by which the others know its member.
	Name string
	// Listen is the address and port to listen at, the former a number; Address is what the others dial.
	Listen, Address string
	// CertFile, KeyFile and CAFile are PEM, read anew at each handshake but for CAFile. Both sides of a connection demand a certificate
	// of CAFile's that names ServerName.
	CertFile, KeyFile, CAFile, ServerName string
	// ElectionMs is how long a silent leader is waited for, in milliseconds; 0: 1000. Heartbeats come ten times as often.
	ElectionMs int
	// Join begins as one more member of a cluster that has this one on its list already. It lists all, this one among them, and means
	// nothing once the directory holds a state.
	Join []Member
	// Forced makes the directory's state that of a cluster of this one member: for a quorum that is lost for good.
	Forced bool

	together string // for tests: all of Join begin at once, as a cluster of this name
}

// Member is a server as etcd knows it.
type Member struct {
	ID      uint64
	Name    string // the server's id; "" until it has started for the first time
	Address string // host:port of its peer listener
	Learner bool   // it is still being brought up to date and has no vote
	Leader  bool
	Self    bool
}

// member is an etcd that runs in this process.
type member struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	kv     kv
	alone  bool // it has no listener, and so nobody to wait for
}

// run starts etcd as c says.
func run(ctx context.Context, c Config) (*member, error) {
	e, err := start(ctx, c)
	if err != nil {
		return nil, explain(c.Dir, fmt.Errorf("start etcd in %s: %w", c.Dir, err))
	}
	client := v3client.New(e.Server)
	return &member{etcd: e, client: client, kv: client, alone: c.Peers == nil}, nil
}

// stop ends it; a leader hands its office over before.
func (m *member) stop() error {
	err := m.client.Close()
	m.etcd.Close()
	<-m.etcd.Server.StopNotify()
	if errors.Is(err, context.Canceled) { // how the in-process client says that it was closed
		return nil
	}
	return err
}

// leads tells whether raft has made this member the leader, as far as it knows.
func (m *member) leads() bool { return m.etcd.Server.Leader() == m.etcd.Server.MemberID() }

// leader is the name of raft's leader, "" while there is none.
func (m *member) leader() string {
	id := m.etcd.Server.Leader()
	if id == 0 {
		return ""
	}
	for _, one := range m.etcd.Server.Cluster().Members() {
		if one.ID == id {
			return one.Name
		}
	}
	return ""
}

// sole tells whether nobody but this member can lead.
func (m *member) sole() bool {
	if m.alone {
		return true
	}
	all := m.etcd.Server.Cluster().Members()
	return len(all) == 1 && all[0].ID == m.etcd.Server.MemberID() && !all[0].IsLearner
}

// voters is how many members vote.
func (m *member) voters() (n int) {
	for _, one := range m.etcd.Server.Cluster().Members() {
		if !one.IsLearner {
			n++
		}
	}
	return n
}

const peerScheme = "https"

func peerURL(address string) string { return peerScheme + "://" + address }

func peerAddress(urls []string) string {
	if len(urls) == 0 {
		return ""
	}
	if u, err := url.Parse(urls[0]); err == nil {
		return u.Host
	}
	return urls[0]
}

// Members lists the members as this one knows them, by name.
func (s *Store) Members() []Member {
	m := s.member.Load()
	var all []Member
	for _, one := range m.etcd.Server.Cluster().Members() {
		all = append(all, Member{ID: uint64(one.ID), Name: one.Name, Address: peerAddress(one.PeerURLs), Learner: one.IsLearner,
			Leader: one.ID == m.etcd.Server.Leader(), Self: one.ID == m.etcd.Server.MemberID()})
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// AddLearner lets a server in that will listen at address. It gets the state and has no vote until Promote. The answer is what it needs to
// know in its Peers.Join; a server that is on the list already is not added twice. Refusals of etcd's pass: another change was just
// made, or a member is away.
func (s *Store) AddLearner(ctx context.Context, name, address string) ([]Member, error) {
	if err := s.announce(ctx); err != nil {
		return nil, err
	}
	m := s.member.Load()
	known := func(one Member) bool { return one.Name == name || one.Address == address }
	if !slices.ContainsFunc(s.Members(), known) {
		if _, err := m.client.MemberAddAsLearner(ctx, []string{peerURL(address)}); err != nil {
			return nil, fmt.Errorf("let server %s in: %w", name, err)
		}
	}
	all := s.Members()
	for i := range all {
		if all[i].Address == address {
			all[i].Name = name // it says so itself when it starts
		}
	}
	return all, nil
}

// Promote gives a learner its vote; etcd refuses while it is behind.
func (s *Store) Promote(ctx context.Context, id uint64) error {
	_, err := s.member.Load().client.MemberPromote(ctx, id)
	return err
}

// Remove takes a member off the list; etcd refuses when the others that are up would be no majority.
func (s *Store) Remove(ctx context.Context, id uint64) error {
	_, err := s.member.Load().client.MemberRemove(ctx, id)
	return err
}

// Transfer has another voting member lead, if this one does; it returns when one leads or none would.
func (s *Store) Transfer(ctx context.Context) error {
	m := s.member.Load()
	var errs error
	for _, one := range s.Members() {
		if one.Self || one.Learner || !m.leads() {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, transferPatience)
		err := m.etcd.Server.MoveLeader(attempt, uint64(m.etcd.Server.MemberID()), one.ID)
		cancel()
		if err == nil {
			return nil
		}
		errs = errors.Join(errs, fmt.Errorf("hand over to %s: %w", one.Name, err))
	}
	return errs
}

// announce tells the members where this one listens, if they know another address.
func (s *Store) announce(ctx context.Context) error {
	p := s.config().Peers
	if p == nil {
		return errors.New("this server has no listener for others yet")
	}
	m := s.member.Load()
	for _, one := range s.Members() {
		if one.Self && one.Address != p.Address {
			if _, err := m.client.MemberUpdate(ctx, one.ID, []string{peerURL(p.Address)}); err != nil {
				return fmt.Errorf("announce the address %s: %w", p.Address, err)
			}
		}
	}
	return nil
}

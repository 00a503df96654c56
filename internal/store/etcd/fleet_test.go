package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
)

// certificates makes a cluster's certificate for its servers, which all servers of a test share.
func certificates(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	ca, err := pki.NewCA("c0ffee", time.Now())
	if err == nil {
		err = ca.EnsureEtcd(dir, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// fleet is servers in one process.
type fleet struct {
	t     testing.TB
	pki   string
	dirs  map[string]string
	peers map[string]*Peers
	up    map[string]*Store
}

func newFleet(t testing.TB, n int) *fleet {
	f := &fleet{t: t, pki: certificates(t), dirs: map[string]string{}, peers: map[string]*Peers{}, up: map[string]*Store{}}
	t.Cleanup(func() {
		for name := range f.up {
			f.kill(name)
		}
	})
	var all []Member
	for i := 1; i <= n; i++ {
		name := fmt.Sprint("s", i)
		all = append(all, Member{Name: name, Address: f.peersOf(name).Address})
		f.peersOf(name).together = t.Name()
	}
	for _, m := range all {
		f.start(m.Name, all)
	}
	f.leader()
	return f
}

func (f *fleet) peersOf(name string) *Peers {
	if f.peers[name] == nil {
		at := freeAddress(f.t)
		f.dirs[name] = f.t.TempDir()
		f.peers[name] = &Peers{Name: name, Listen: at, Address: at, ServerName: pki.EtcdName("c0ffee"),
			CertFile: filepath.Join(f.pki, pki.EtcdCertFile), KeyFile: filepath.Join(f.pki, pki.EtcdKeyFile), CAFile: filepath.Join(f.pki, pki.EtcdCAFile)}
	}
	return f.peers[name]
}

func (f *fleet) start(name string, join []Member) *Store {
	f.t.Helper()
	p := *f.peersOf(name)
	p.Join = join
	s, err := Open(ctx, Config{Dir: f.dirs[name], Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler), Peers: &p})
	if err != nil {
		f.t.Fatalf("start %s: %v", name, err)
	}
	f.up[name] = s
	return s
}

// leader waits for the one that leads.
func (f *fleet) leader() *Store {
	f.t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		for _, s := range f.up {
			if role, _ := s.Role(); role.Leading {
				return s
			}
		}
	}
	f.t.Fatal("nobody leads")
	return nil
}

func (f *fleet) leaderName() string {
	role, _ := f.leader().Role()
	return role.Leader
}

// eventually tries what is refused for reasons that pass.
func (f *fleet) eventually(what string, try func() error) {
	f.t.Helper()
	var err error
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	f.t.Fatalf("%s: %v", what, err)
}

func (f *fleet) join(name string) *Store {
	f.t.Helper()
	var all []Member
	f.eventually("let "+name+" in", func() (err error) {
		all, err = f.leader().AddLearner(ctx, name, f.peersOf(name).Address)
		return err
	})
	s := f.start(name, all)
	f.eventually("promote "+name, func() error {
		for _, m := range f.leader().Members() {
			if m.Name == name && !m.Learner {
				return nil
			} else if m.Address == f.peers[name].Address {
				return f.leader().Promote(ctx, m.ID)
			}
		}
		return errors.New("it is not on the list")
	})
	return s
}

// kill ends a server as a power cut does: the others are told nothing.
func (f *fleet) kill(name string) {
	s := f.up[name]
	delete(f.up, name)
	f.end(name, s)
}

func (f *fleet) end(name string, s *Store) {
	e := s.member.Load().etcd
	for _, l := range e.Peers {
		l.Close()
	}
	e.Server.HardStop()
	if err := s.Close(); err != nil {
		f.t.Errorf("close %s: %v", name, err)
	}
}

// cut keeps a server's messages from the others and theirs from it.
func (f *fleet) cut(name string, on bool) {
	mine := f.up[name].member.Load().etcd.Server
	for other, s := range f.up {
		if theirs := s.member.Load().etcd.Server; other != name && on {
			mine.CutPeer(types.ID(theirs.MemberID()))
			theirs.CutPeer(types.ID(mine.MemberID()))
		} else if other != name {
			mine.MendPeer(types.ID(theirs.MemberID()))
			theirs.MendPeer(types.ID(mine.MemberID()))
		}
	}
}

// write puts a family through whoever leads; nil: it was acknowledged.
func (f *fleet) write(name string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return f.leader().Update(ctx, func(tx store.Tx) error { store.Families.Put(tx, &model.Family{Name: name}); return nil })
}

// same waits until a server shows what the leader does.
func (f *fleet) same(name string) {
	f.t.Helper()
	f.eventually(name+" follows", func() error {
		if got, want := names(f.up[name]), names(f.leader()); got != want {
			return fmt.Errorf("it shows %q, the leader %q", got, want)
		}
		return nil
	})
}

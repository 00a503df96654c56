package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
	"github.com/berthdev/berth/internal/timeouts"
)

// The paths by which servers come and go.
const (
	pathEnter  = "/v1/servers/enter"
	pathRow    = "/v1/servers/row"
	pathRemove = "/v1/servers/remove"
)

type entering struct{ Address string } // of its etcd's port

type entered struct{ Members []etcd.Member }

type removing struct{ Server string } // an id, a beginning of one that is unique, or a host's name

func (s *server) memberAsks() asks {
	return asks{pathEnter: typed(s.letIn), pathRow: typed(s.noteServer), pathRemove: typed(s.remove), pathSettle: typed(s.settle), pathSettleIn: typed(s.settleIn), pathHealth: typed(s.noteHealth),
		pathAuthority: typed(s.takeAuthority), pathElection: typed(s.setElection),
		pathMaster:  typed(s.giveMaster),
		pathSamples: typed(s.noteSamples),
		pathProtect: typed(s.protectHere),
		pathCall:    typed(s.callNode),
		pathForget: typed(func(ctx context.Context, from string, _ nothing) (nothing, error) {
			return nothing{}, s.book().Forget(ctx, from)
		})}
}

// letIn puts a server on etcd's list. The first one that comes makes this server listen for others, within a second; Updates wait.
func (s *server) letIn(ctx context.Context, from string, in entering) (out entered, err error) {
	if role, _ := s.store.Role(); !role.Leading {
		return out, &store.NotLeaderError{Leader: role.Leader}
	}
	if err := s.listenForServers(ctx); err != nil {
		return out, err
	}
	out.Members, err = s.store.AddLearner(ctx, from, in.Address)
	switch {
	case errors.Is(err, rpctypes.ErrMemberNotEnoughStarted), errors.Is(err, rpctypes.ErrUnhealthy):
		return out, fmt.Errorf("%w: etcd has just changed its members, or one of them is away; one that is dead is removed first (berth server rm): %w", errLater, err)
	case errors.Is(err, rpctypes.ErrTooManyLearners):
		return out, fmt.Errorf("%w: another server is joining: %w", errLater, err)
	case err != nil:
		return out, fmt.Errorf("%w: %w", errLater, err)
	}
	s.log.Info("a server joins", "id", from, "address", in.Address)
	return out, nil
}

// listenForServers opens etcd's port, if it is closed.
func (s *server) listenForServers(ctx context.Context) error {
	s.growing.Lock()
	defer s.growing.Unlock()
	if s.several.Load() {
		return nil
	}
	kept := *s.in
	kept.Advertise, kept.Peers = s.port.address(), true
	footing, err := s.footing()
	if err != nil {
		return err
	}
	kept.ElectionMs = footing.election
	p, err := kept.peers(s.port.ca.Load(), kept.Advertise)
	if err != nil {
		return err
	}
	if err := kept.save(); err != nil { // first: an etcd that others know must listen after the next start, too
		return err
	}
	if err := s.store.Reconfigure(ctx, p); err != nil {
		return fmt.Errorf("%w: open etcd's port at %s: %w", errLater, p.Address, err)
	}
	s.began.Store(&footing)
	s.several.Store(true)
	return nil
}

// noteServer writes a server's row.
func (s *server) noteServer(ctx context.Context, from string, row model.Server) (nothing, error) {
	return nothing{}, s.store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Servers.Get(tx, from)
		if !ok {
			return fmt.Errorf("server %s is not of this cluster any more", from)
		}
		next := *old
		next.Name, next.Address, next.Version, next.Level = row.Name, row.Address, row.Version, row.Level
		next.Trusts, next.Authority = row.Trusts, row.Authority
		if next != *old {
			store.Servers.Put(tx, &next)
		}
		return nil
	})
}

// remove takes a server off the lists.
func (s *server) remove(ctx context.Context, _ string, in removing) (row model.Server, err error) {
	if role, _ := s.store.Role(); !role.Leading {
		return row, &store.NotLeaderError{Leader: role.Leader}
	}
	var found []*model.Server
	s.store.View(func(r store.Reader) {
		for one := range store.Servers.Scan(r, "") {
			if one.ID == in.Server || one.Name == in.Server || in.Server != "" && strings.HasPrefix(one.ID, in.Server) {
				found = append(found, one)
			}
		}
	})
	switch {
	case len(found) == 0:
		return row, fmt.Errorf("no server %q; see: berth server ls", in.Server)
	case len(found) > 1:
		return row, fmt.Errorf("%q is %d servers; say its id (berth server ls)", in.Server, len(found))
	}
	row = *found[0]
	members := s.store.Members()
	if len(members) == 1 {
		return row, errors.New("it is the only server; berth down --purge ends the cluster")
	}
	for _, m := range members {
		if m.Name != row.ID {
			continue
		}
		err := s.store.Remove(ctx, m.ID)
		switch {
		case errors.Is(err, rpctypes.ErrMemberNotEnoughStarted), errors.Is(err, rpctypes.ErrUnhealthy):
			return row, fmt.Errorf("without %s the servers that are up would be no majority, and nothing could be written any more: start the others first", row.Name)
		case err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound):
			return row, fmt.Errorf("remove %s: %w", row.Name, err)
		}
	}
	s.log.Info("a server was removed", "id", row.ID, "name", row.Name)
	return row, s.store.Update(ctx, func(tx store.Tx) error {
		store.Servers.Delete(tx, row.ID)
		return nil
	})
}

// promote gives servers that have joined their votes, once they have the state, until ctx is done.
func (s *server) promote(ctx context.Context) error {
	return every(ctx, timeouts.ServerRetry, func() {
		for _, m := range s.store.Members() {
			if !m.Learner || m.Name == "" {
				continue
			}
			err := s.store.Promote(ctx, m.ID)
			if err == nil {
				s.log.Info("a server has the state and votes", "id", m.Name, "address", m.Address)
			} else if ctx.Err() == nil {
				s.log.Debug("a server cannot vote yet", "id", m.Name, "reason", err)
			}
		}
	})
}

// enter has the cluster's leader put this server on etcd's list. It tries for a while: the list is changed once every few seconds.
func (in *Instance) enter(ctx context.Context, say func(string)) ([]etcd.Member, error) {
	address, err := peersAddress(in.Advertise)
	if err != nil {
		return nil, err
	}
	var answer entered
	err = in.askLeader(ctx, pathEnter, entering{address}, &answer, say)
	return answer.Members, err
}

// askLeader asks the leader for something while this server's own part of the cluster is not open yet. It tries for a while, and says why
// it waits.
func (in *Instance) askLeader(ctx context.Context, path string, question, answer any, say func(string)) error {
	id, err := pki.Load(in.pkiDir())
	if err != nil {
		return err
	}
	addresses, err := pki.LoadServers(in.pkiDir())
	if err != nil {
		return err
	}
	if len(addresses) == 0 {
		return errors.New("no address of another server is known")
	}
	d := peer.NewDialer(peer.Config{Identity: func() *pki.Identity { return id }})
	ctx, cancel := context.WithTimeout(ctx, timeouts.ServerEnter)
	defer cancel()
	var said string
	for n := 0; ; n++ {
		at := addresses[n%len(addresses)]
		client := d.HTTP(at)
		attempt, done := context.WithTimeout(ctx, timeouts.ServerCall)
		err := join.Post(attempt, client, path, question, answer)
		done()
		client.CloseIdleConnections()
		if err == nil {
			return nil
		}
		if elsewhere, ok := errors.AsType[*peer.Elsewhere](err); ok && elsewhere.Address != "" {
			addresses, n = append([]string{elsewhere.Address}, addresses...), -1
		} else if _, refused := errors.AsType[*peer.Refusal](err); refused {
			return err
		}
		if err.Error() != said {
			said = err.Error()
			say("waits to be let in: " + said)
		}
		pause := time.NewTimer(timeouts.ServerRetry)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return fmt.Errorf("the servers have not let this one in: %w", err)
		}
	}
}

// joinServers makes the machine a server of the cluster that c.Join names, if it is not one yet.
func (in *Instance) joinServers(ctx context.Context, c Config) error {
	target, err := pki.ParseJoinURL(c.Join, pki.RoleServer)
	if err != nil {
		return &SettingError{"join", c.Join, err.Error()}
	}
	if in.Peers {
		return nil
	}
	if _, err := os.Stat(in.Path("etcd", "data")); err == nil {
		return fmt.Errorf("%s holds a state of its own, and a server that joins begins with the cluster's: use another --data-dir", in.dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	host := ""
	if in.Advertise != "" {
		host = hostOf(in.Advertise)
	}
	joined, err := join.Join(ctx, join.Config{URL: target, Dir: in.pkiDir(), Ports: []join.Port{{Network: "tcp", Number: 4567}, {Network: "tcp", Number: 4568}},
		Machine: join.Machine{ID: in.NodeID, Hostname: hostname(), Address: host, Version: c.Version, Level: model.Level, Boot: bootID()}})
	if err != nil {
		return err
	}
	in.NodeID, in.Account, in.Region, in.Pace = joined.Identity.Peer.ID, joined.Site.Account, joined.Site.Region, model.Pace(joined.Site.Pace)
	if len(joined.Site.VPC) > 0 {
		in.VPCCIDR = joined.Site.VPC[0]
	}
	if in.Advertise == "" {
		if in.Advertise, err = advertised(joined.Address); err != nil {
			return err
		}
	}
	if err := writeFile(in.RootKey(), joined.RootKey); err != nil {
		return err
	}
	in.Peers = true
	return in.save()
}

func hostOf(address string) string {
	u := url.URL{Host: address}
	return u.Hostname()
}

// etcdConfig is how this server's etcd runs. One that has just joined asks the others to let it in.
func (in *Instance) etcdConfig(ctx context.Context, c etcd.Config, say func(string)) (etcd.Config, error) {
	if !in.Peers {
		return c, nil
	}
	ca, err := pki.LoadCA(in.pkiDir())
	if err != nil {
		return c, fmt.Errorf("the cluster's authority: %w", err)
	}
	if c.Peers, err = in.peers(ca, in.Advertise); err != nil {
		return c, err
	}
	if begun, err := filepath.Glob(filepath.Join(c.Dir, "data", "member", "wal", "*.wal")); err == nil && len(begun) > 0 {
		return c, nil
	}
	c.Peers.Join, err = in.enter(ctx, say)
	return c, err
}

// serveServers adds what is asked about servers on the admin socket.
func (s *server) serveServers(mux *http.ServeMux) {
	mux.HandleFunc("DELETE /servers/{id}", func(w http.ResponseWriter, r *http.Request) {
		var row model.Server
		if err := s.call(r.Context(), pathRemove, removing{r.PathValue("id")}, &row); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_ = json.NewEncoder(w).Encode(row) // who has gone asks again
	})
}

// RemoveServer takes a server out of the cluster: its id, a beginning of it, or its host's name.
func RemoveServer(ctx context.Context, dir, server string) (row model.Server, err error) {
	return row, askAdmin(ctx, dir, http.MethodDelete, "/servers/"+url.PathEscape(server), &row)
}

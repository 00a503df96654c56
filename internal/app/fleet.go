package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/serve/fleet"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
	"github.com/berthdev/berth/internal/timeouts"
)

// Fleet asks the server that runs on the data directory what it sees of the cluster's machines.
func Fleet(ctx context.Context, dir string) (fleet.Report, error) {
	var r fleet.Report
	in, err := LoadInstance(dir)
	if err != nil {
		return r, err
	}
	body, err := in.admin(ctx, http.MethodGet, "/fleet")
	if err != nil {
		return r, fmt.Errorf("no server answers here: %w; start it with: berth up --data-dir %s", err, dir)
	}
	defer body.Close()
	return r, json.NewDecoder(body).Decode(&r)
}

// admin asks the running server of the instance. An answer that is no success is an error with its text.
func (in *Instance) admin(ctx context.Context, method, path string) (io.ReadCloser, error) {
	return in.adminSend(ctx, method, path, nil)
}

// adminSend does it with a body.
func (in *Instance) adminSend(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", in.adminSocket())
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://berth"+path, body)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
		return nil, errors.Join(fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(text))), err, res.Body.Close())
	}
	return res.Body, nil
}

// fleet is what this server sees of the cluster's machines.
func (s *server) fleet(now time.Time) (out fleet.Report) {
	src := fleet.Sources{Servers: s.servers, Heard: s.life.Heard, Network: s.fabric.carriers()}
	if s.places != nil {
		src.Free = s.places.Free
	}
	s.store.View(func(r store.Reader) { out = fleet.Look(r, s.in.Region, src, now) })
	if files := s.in.ownBackups(); len(files) > 0 {
		if info, err := os.Stat(files[0]); err == nil {
			out.Backup = info.ModTime()
		}
	}
	return out
}

// servers completes what is stored of the servers: who leads and votes, and what each says of itself now. One that is alone leads.
func (s *server) servers(all []fleet.Server) []fleet.Server {
	if len(all) == 0 {
		all = []fleet.Server{{Name: hostname(), Address: s.in.Listen}}
	}
	if len(all) == 1 {
		all[0].ID, all[0].Leader, all[0].Behind = s.in.NodeID, true, 0
		all[0].Fsync, _ = etcd.FsyncP99()
		all[0].Version = s.version
		return all
	}
	members := map[string]etcd.Member{}
	for _, m := range s.store.Members() {
		members[m.Name] = m
	}
	states := make([]serverState, len(all))
	var asked sync.WaitGroup
	for i := range all {
		asked.Go(func() { states[i] = s.stateOf(all[i]) })
	}
	asked.Wait()
	var newest uint64
	for _, state := range states {
		newest = max(newest, state.Revision)
	}
	for i, state := range states {
		m, known := members[all[i].ID]
		all[i].Leader, all[i].Joining, all[i].Away = m.Leader, !known || m.Learner, state.Heard.IsZero()
		if all[i].ID != s.in.NodeID {
			all[i].Heard = state.Heard
		}
		if !all[i].Away {
			all[i].Fsync, all[i].Behind = state.Fsync, int64(newest-state.Revision)
		}
	}
	return all
}

// pathState is where a server tells others about itself.
const pathState = "/v1/servers/state"

type serverState struct {
	Revision uint64        // of the state that it shows
	Fsync    time.Duration // 0: unknown
	Heard    time.Time     // the asker's: when it answered
}

// state is this server's own.
func (s *server) state() (now serverState) {
	s.store.View(func(r store.Reader) { now.Revision = r.Revision() })
	now.Fsync, _ = etcd.FsyncP99()
	now.Heard = time.Now()
	return now
}

// stateOf asks a server; the answer is zero when it does not answer.
func (s *server) stateOf(one fleet.Server) (now serverState) {
	if one.ID == s.in.NodeID {
		return s.state()
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.ServerState)
	defer cancel()
	if err := join.Get(ctx, s.port.client(one.Address), pathState, &now); err != nil {
		return serverState{}
	}
	now.Heard = time.Now()
	return now
}

func (s *server) serveFleet(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(s.fleet(time.Now())); err != nil {
		s.log.Warn("cannot tell the state of the machines", "error", err)
	}
}

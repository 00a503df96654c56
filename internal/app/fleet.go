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
	"time"

	"github.com/berthdev/berth/internal/serve/fleet"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
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
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", in.adminSocket())
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://berth"+path, nil)
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
	src := fleet.Sources{Servers: s.servers, Heard: s.life.Heard}
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

// servers names this server when none is stored: one that is alone leads.
func (s *server) servers(all []fleet.Server) []fleet.Server {
	if len(all) == 0 {
		host, _ := os.Hostname()
		all = []fleet.Server{{Name: host, Address: s.in.Listen}}
	}
	if len(all) == 1 {
		all[0].Leader, all[0].Behind = true, 0
		all[0].Fsync, _ = etcd.FsyncP99()
		all[0].Version = s.version
	}
	return all
}

func (s *server) serveFleet(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(s.fleet(time.Now())); err != nil {
		s.log.Warn("cannot tell the state of the machines", "error", err)
	}
}

package app

import (
	"context"
	"time"

	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// pathMaster is where a server that lacks the cluster's master key asks the leader for it.
const pathMaster = "/v1/servers/master"

// given is the master key's file; empty where each server has the key from its operator.
type given struct{ File []byte }

func (s *server) giveMaster(_ context.Context, from string, _ nothing) (out given, err error) {
	if role, _ := s.store.Role(); !role.Leading {
		return out, &store.NotLeaderError{Leader: role.Leader}
	}
	s.log.Info("a server is given the cluster's master key", "server", from)
	out.File, err = s.master.File()
	return out, err
}

// keepMaster sees to it that this server has the cluster's master key: it may lead one day.
func (s *server) keepMaster(ctx context.Context) error {
	w := s.store.Watch(ctx, store.MasterKeys.All())
	retry := time.NewTicker(timeouts.MasterRetry)
	defer retry.Stop()
	var said string
	for {
		var err error
		lacking := s.master.Lacks()
		if lacking {
			err = s.takeMaster(ctx)
		} else if s.leads() {
			err = s.master.Ensure(ctx)
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			s.log.Error("this server has no master key: what is encrypted cannot be read here", "error", err)
		}
		changed := w.C()
		tries := retry.C
		if err == nil && (lacking || s.leads()) {
			tries, said = nil, ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tries:
		case _, ok := <-changed:
			if !ok {
				return nil
			}
			w.Take()
		}
	}
}

func (s *server) takeMaster(ctx context.Context) error {
	if s.leads() || !s.several.Load() {
		return s.master.Ensure(ctx) // says what is wrong
	}
	var from given
	if err := s.call(ctx, pathMaster, nothing{}, &from); err != nil {
		return err
	}
	if err := s.master.Take(from.File); err != nil {
		return err
	}
	s.log.Info("this server has the cluster's master key")
	return nil
}

func (s *server) newRing(r *region) *keys.Ring {
	return keys.New(keys.Config{Store: r.store, Scope: r.scope, Master: s.master, Now: time.Now})
}

// vault is the region's parameters and secrets.
func (r *region) vault() *vault.Vault {
	return &vault.Vault{Store: r.store, Scope: r.scope, Ring: r.keys}
}

// keepDue does, on the leader, what is due of keys and secrets in every region.
func (s *server) keepDue(ctx context.Context) error {
	w := s.store.Watch(ctx, store.KMSKeys.All(), store.Secrets.All(), store.Regions.All())
	for {
		next := timeouts.KeysDue
		for _, r := range s.regionsHeld() {
			deleted, rotated, at, err := r.keys.Due(ctx)
			switch {
			case err != nil && ctx.Err() == nil:
				s.log.Error("what is due of keys is not done", "region", r.scope.Region, "error", err)
			case len(deleted)+len(rotated) > 0:
				s.log.Info("keys were deleted or rotated", "region", r.scope.Region, "deleted", deleted, "rotated", rotated)
			}
			secrets, then, err := r.vault().Due(ctx, time.Now())
			switch {
			case err != nil && ctx.Err() == nil:
				s.log.Error("secrets whose recovery window is over are not deleted", "region", r.scope.Region, "error", err)
			case len(secrets) > 0:
				s.log.Info("secrets were deleted: their recovery window is over", "region", r.scope.Region, "secrets", secrets)
			}
			for _, at := range []time.Time{at, then} {
				if !at.IsZero() {
					next = min(next, max(time.Until(at), timeouts.ControlStep))
				}
			}
		}
		wait := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-wait.C:
		case _, ok := <-w.C():
			if ok {
				w.Take()
			}
		}
		wait.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// regionsHeld are the home region and those that hold something.
func (s *server) regionsHeld() []*region {
	all := []*region{s.homeRegion}
	var names []string
	s.store.View(func(r store.Reader) {
		for row := range store.Regions.Scan(r, "") {
			names = append(names, row.Name)
		}
	})
	for _, name := range names {
		r, err := s.region(name)
		if err != nil {
			s.log.Error("cannot look after a region", "region", name, "error", err)
			continue
		}
		all = append(all, r)
	}
	return all
}

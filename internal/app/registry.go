package app

import (
	"context"
	"time"

	"github.com/berthdev/berth/internal/api/ecr"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/serve/registry/expiry"
)

// ecr is the registry's API in a region.
func (s *server) ecr(r *region) *wire.Service {
	return ecr.New(ecr.Config{Store: r.store, Scope: r.scope, Manifests: s.registry, Layers: s.registry, Tokens: s.keys, Host: s.in.RegistryHost(), Now: time.Now,
		Log: s.log.With("component", "ecr")})
}

// tidyRegistry removes what lifecycle policies expire and what nobody refers to; images and blobs go on the leader's word.
func (s *server) tidyRegistry(ctx context.Context) {
	if !s.leads() {
		return
	}
	if err := expiry.Run(ctx, s.store, time.Now(), s.log.With("component", "registry")); err != nil {
		s.log.Error("cannot apply the lifecycle policies", "error", err)
	}
	if n, bytes, err := s.registry.Collect(ctx); err != nil {
		s.log.Error("cannot collect unused blobs", "error", err)
	} else if n > 0 {
		s.log.Info("collected unused blobs", "blobs", n, "bytes", bytes)
	}
}

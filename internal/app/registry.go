package app

import (
	"time"

	"github.com/berthdev/berth/internal/api/ecr"
	"github.com/berthdev/berth/internal/api/wire"
)

// ecr is the registry's API in a region.
func (s *server) ecr(r *region) *wire.Service {
	return ecr.New(ecr.Config{Store: r.store, Scope: r.scope, Manifests: s.registry, Layers: s.registry, Tokens: s.keys, Host: s.in.RegistryHost(), Now: time.Now,
		Log: s.log.With("component", "ecr")})
}

package app

import (
	"time"

	"github.com/berthdev/berth/internal/serve/scaling"
)

// scaler scales a region's services.
func (s *server) scaler(r *region) *scaling.Scaler {
	return &scaling.Scaler{Store: r.store, Series: s.series.In(r.scope.Region), Pace: s.in.Pace, Now: time.Now, NewID: newID,
		Log: s.log.With("component", "scaling", "region", r.scope.Region)}
}

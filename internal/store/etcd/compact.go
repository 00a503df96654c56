package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// What of etcd's past is kept. A server alone needs none: nobody reads it, and its pages cost memory. A follower that was away reads on
// where it was if that is not forgotten, and loads everything anew else.
const (
	compactEvery = 1000
	keepPast     = 10_000
	keepBytes    = 256 << 20
)

// weight is how many bytes were committed up to one of etcd's revisions, since the weight before.
type weight struct {
	at    int64
	bytes int
}

// compact has etcd forget old revisions, now and then. Commits do not wait for it. size is how many bytes the commit at has.
func (s *Store) compact(m *member, at int64, size int) {
	keep := at
	if !m.alone {
		if n := len(s.weights); n == 0 || at-s.weights[n-1].at >= compactEvery {
			s.weights = append(s.weights, weight{at: at})
		}
		s.weights[len(s.weights)-1].bytes += size
		keep = s.past(at)
	}
	if keep-s.compacted < compactEvery || s.pinned.Load() > 0 {
		return
	}
	s.compacted = keep
	s.compacting.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.patience)
		defer cancel()
		if _, err := m.kv.Compact(ctx, keep); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			s.log.Warn("cannot compact the store", "revision", keep, "error", err)
		}
	})
}

// past is the oldest revision to keep: keepPast of them, less when they hold more than keepBytes.
func (s *Store) past(at int64) int64 {
	bytes := 0
	for n := len(s.weights) - 1; n >= 0; n-- {
		if bytes += s.weights[n].bytes; bytes > keepBytes || at-s.weights[n].at >= keepPast {
			keep := min(s.weights[n].at, at-compactEvery)
			s.weights = s.weights[n:]
			return max(keep, 0)
		}
	}
	return 0
}

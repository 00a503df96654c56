package containerd

import (
	"context"
	"time"

	"github.com/containerd/containerd/v2/core/leases"

	"github.com/berthdev/berth/internal/timeouts"
)

// tidy has containerd collect its garbage after the last of some deletions. Its own collector forgets a deletion that comes while
// it works: the snapshot's files would stay until something else is deleted.
func (r *Runtime) tidy(ctx context.Context) {
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.deleted:
			due = time.After(timeouts.TidyAfter)
		case <-due:
			due = nil
			if err := r.collectGarbage(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("containerd cannot collect its garbage; it will with the next deletion", "error", err)
			}
			if err := r.sweepDisk(); err != nil {
				r.log.Warn("the disk quotas of ended tasks are left over", "error", err)
			}
		}
	}
}

// collectGarbage returns when containerd has: that is what the end of a lease can wait for.
func (r *Runtime) collectGarbage(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.CollectCall)
	defer cancel()
	manager := r.client.LeasesService()
	lease, err := manager.Create(ctx, leases.WithRandomID(), leases.WithExpiration(timeouts.CollectLease))
	if err != nil {
		return err
	}
	return manager.Delete(ctx, lease, leases.SynchronousDelete)
}

// noteDeletion makes tidy look, soon.
func (r *Runtime) noteDeletion() {
	select {
	case r.deleted <- struct{}{}:
	default:
	}
}

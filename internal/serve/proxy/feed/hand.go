package feed

import (
	"context"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Report is what a server that follows has its leader write.
type Report struct {
	Viewer   string `json:",omitempty"` // the machine whose load balancers see it
	Health   []model.TargetHealth
	Problems map[string]string // by listener
	Orphans  []string          // keys of healths whose target is gone
	Doubts   []string          `json:",omitempty"` // keys of targets to judge anew
}

// handAtATime bounds the healths of one Report.
const handAtATime = 1000

// Receive stores what another server's proxy sees.
func Receive(ctx context.Context, s store.Store, r Report) error {
	b := batch{r.Viewer, nothingWaits()}
	b.problems = r.Problems
	for _, h := range r.Health {
		b.health[h.Key()] = h
	}
	for _, key := range r.Orphans {
		b.orphans[key] = struct{}{}
	}
	for _, key := range r.Doubts {
		b.doubts[key] = struct{}{}
	}
	return s.Update(store.Freeing(ctx), func(tx store.Tx) error {
		b.write(tx)
		return nil
	})
}

// handOn has the leader write b, and returns what it has not written. That a target is drained waits here until its deregistration delay has
// passed, unless each machine's view is stored: other servers' proxies may have requests in flight, which end by then.
func (f *Viewer) handOn(ctx context.Context, b batch) (left batch, err error) {
	now, waits := b.split(f.store, time.Now())
	for len(now.health)+len(now.problems)+len(now.orphans)+len(now.doubts) > 0 {
		r := Report{Viewer: f.id, Problems: now.problems}
		for key, h := range now.health {
			if len(r.Health) == handAtATime {
				break
			}
			r.Health = append(r.Health, h)
			delete(now.health, key)
		}
		for key := range now.orphans {
			r.Orphans = append(r.Orphans, key)
		}
		for key := range now.doubts {
			r.Doubts = append(r.Doubts, key)
		}
		if err = f.Hand(ctx, r); err != nil {
			for _, h := range r.Health {
				now.health[h.Key()] = h
			}
			break
		}
		now.problems, now.orphans, now.doubts = nil, nil, nil
	}
	if len(waits) > 0 {
		f.putBack(batch{waiting: waiting{health: waits}})
		f.again()
	}
	return now, err
}

// split takes the healths out of b that wait for the end of a deregistration delay.
func (b batch) split(s store.Store, now time.Time) (rest batch, waits map[string]model.TargetHealth) {
	waits = map[string]model.TargetHealth{}
	s.View(func(r store.Reader) {
		if views(r) {
			return
		}
		for key, h := range b.health {
			t, ok := store.Targets.Get(r, key)
			if !h.Drained || !ok || t.DrainingSince.IsZero() {
				continue
			}
			if g, ok := store.TargetGroups.Get(r, t.TargetGroupARN); ok && now.Before(t.DrainingSince.Add(delay(g))) {
				waits[key] = h
				delete(b.health, key)
			}
		}
	})
	return b, waits
}

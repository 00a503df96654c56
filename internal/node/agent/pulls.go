package agent

import (
	"context"
	"sync"

	"github.com/berthdev/berth/internal/model"
)

// pulls merges pulls of one reference that are in flight at the same time. A pull ends early only when nobody waits for it.
type pulls struct {
	images Images

	mu      sync.Mutex
	running map[string]*pull // by pullKey
}

type pull struct {
	waiting int
	cancel  context.CancelFunc
	done    chan struct{} // closed when image and err are set
	image   Image
	err     error
}

func newPulls(images Images) *pulls { return &pulls{images: images, running: map[string]*pull{}} }

// get pulls ref, with the password of somebody or without, or waits for the pull of it that is in flight.
func (p *pulls) get(ctx context.Context, ref string, as *model.RegistryLogin) (Image, error) {
	key := pullKey(ref, as)
	p.mu.Lock()
	flight := p.running[key]
	if flight == nil {
		flight = p.start(ctx, ref, as)
	}
	flight.waiting++
	p.mu.Unlock()
	select {
	case <-flight.done:
		return flight.image, flight.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	flight.waiting--
	last := flight.waiting == 0
	if last && p.running[key] == flight {
		delete(p.running, key) // a newcomer starts afresh
	}
	p.mu.Unlock()
	if last {
		flight.cancel()
		<-flight.done // so that no pull outlives the tasks that asked for it
	}
	return Image{}, ctx.Err()
}

// start begins a pull that outlives ctx's cancellation. p.mu is held.
func (p *pulls) start(ctx context.Context, ref string, as *model.RegistryLogin) *pull {
	key := pullKey(ref, as)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	flight := &pull{cancel: cancel, done: make(chan struct{})}
	p.running[key] = flight
	go func() {
		defer cancel()
		flight.err = attempt(ctx, func() (err error) {
			if as != nil {
				flight.image, err = p.images.PullAs(ctx, ref, *as)
			} else {
				flight.image, err = p.images.Pull(ctx, ref)
			}
			return err
		})
		p.mu.Lock()
		if p.running[key] == flight {
			delete(p.running, key)
		}
		p.mu.Unlock()
		close(flight.done)
	}()
	return flight
}

package agent

import (
	"context"
	"sync"
)

// pulls merges pulls of one reference that are in flight at the same time. A pull ends early only when nobody waits for it.
type pulls struct {
	images Images

	mu      sync.Mutex
	running map[string]*pull
}

type pull struct {
	waiting int
	cancel  context.CancelFunc
	done    chan struct{} // closed when image and err are set
	image   Image
	err     error
}

func newPulls(images Images) *pulls { return &pulls{images: images, running: map[string]*pull{}} }

// get pulls ref or waits for the pull of it that is in flight.
func (p *pulls) get(ctx context.Context, ref string) (Image, error) {
	p.mu.Lock()
	flight := p.running[ref]
	if flight == nil {
		flight = p.start(ctx, ref)
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
	if last && p.running[ref] == flight {
		delete(p.running, ref) // a newcomer starts afresh
	}
	p.mu.Unlock()
	if last {
		flight.cancel()
		<-flight.done // so that no pull outlives the tasks that asked for it
	}
	return Image{}, ctx.Err()
}

// start begins a pull that outlives ctx's cancellation. p.mu is held.
func (p *pulls) start(ctx context.Context, ref string) *pull {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	flight := &pull{cancel: cancel, done: make(chan struct{})}
	p.running[ref] = flight
	go func() {
		defer cancel()
		flight.err = attempt(ctx, func() (err error) {
			flight.image, err = p.images.Pull(ctx, ref)
			return err
		})
		p.mu.Lock()
		if p.running[ref] == flight {
			delete(p.running, ref)
		}
		p.mu.Unlock()
		close(flight.done)
	}()
	return flight
}

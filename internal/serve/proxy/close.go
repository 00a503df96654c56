package proxy

import (
	"context"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// Close ends every listener and check; requests in flight get a moment to end.
func (p *Proxy) Close() error {
	p.leave(false)
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.ProxyClose)
	defer cancel()
	p.shut(ctx)
	return nil
}

// Leave is Close for a proxy whose ports another process has taken over: no client notices. Its listeners are closed at once. Clients'
// connections are asked to end with their next answer; those that stay silent are closed after idle, and what is in flight goes on
// until ctx is done. Meanwhile Change and the checks go on, so that what is left of the requests goes where it should.
func (p *Proxy) Leave(ctx context.Context, idle time.Duration) {
	p.leave(true)
	timer := time.NewTimer(idle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	p.shut(ctx)
}

// leave gives up the ports. One that is taken over keeps its targets and what it learns of them.
func (p *Proxy) leave(succeeded bool) {
	p.leaving.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = p.closed || !succeeded
	for _, q := range p.ports {
		q.leave()
	}
}

// shut waits for requests in flight until ctx is done, and ends everything.
func (p *Proxy) shut(ctx context.Context) {
	defer p.cancel()
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	p.mu.Lock()
	ports := p.ports
	p.ports = map[int]*port{}
	if p.closed {
		for _, t := range p.targets {
			t.stop()
		}
	}
	p.mu.Unlock()
	for _, q := range ports {
		p.closing.Go(func() { q.shut(ctx) })
	}
	p.closing.Wait()
	p.mu.Lock()
	p.closed = true
	for _, t := range p.targets {
		t.retire() // ends what was upgraded
	}
	p.targets = map[string]*target{}
	p.mu.Unlock()
	p.forward.close()
}

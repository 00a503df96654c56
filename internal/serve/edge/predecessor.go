package edge

import (
	"context"
	"log/slog"
	"sync"

	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/serve/proxy/link"
)

// predecessor is the process that this one takes over from, until it has ended: it still answers what came to it, follows changes of
// the table, and says which targets that drain it has requests at.
type predecessor struct {
	conn    *link.Conn
	settle  func() // looks again at what elsewhere tells
	log     *slog.Logger
	done    chan struct{} // closed when it has ended
	sending sync.Mutex    // orders changes

	mu    sync.Mutex
	ended bool
	heard bool   // a first report has come
	sent  uint64 // number of the last change
	seen  uint64 // number of the change that the last report is of
	busy  map[string]bool
}

// elsewhere tells whether the predecessor may have requests at a target that drains: what it has not said yet, it may have.
func (p *predecessor) elsewhere(target string) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended && (!p.heard || p.seen < p.sent || p.busy[target])
}

// announce counts a change that is about to be made, and tells the predecessor of it.
func (p *predecessor) announce(epoch string, d proxy.Delta) {
	if p == nil {
		return
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	p.mu.Lock()
	p.sent++
	seq, ended := p.sent, p.ended
	p.mu.Unlock()
	if ended {
		return
	}
	for _, a := range link.Parts(epoch, seq, d) {
		if p.conn.Send(&link.Message{Apply: a}) != nil {
			p.conn.Close() // follow says the rest
			return
		}
	}
}

// quit has the predecessor end soon.
func (p *predecessor) quit() {
	if p != nil {
		_ = p.conn.Send(&link.Message{Quit: true}) // one that is gone has ended
	}
}

// await waits for the predecessor's end.
func (p *predecessor) await(ctx context.Context) {
	if p != nil {
		select {
		case <-p.done:
		case <-ctx.Done():
		}
	}
}

// follow takes the predecessor's reports until it has ended.
func (p *predecessor) follow() {
	defer close(p.done)
	defer p.conn.Close()
	for {
		m, _, err := p.conn.Receive(0)
		p.mu.Lock()
		switch {
		case err != nil:
			p.ended = true
		case m.Busy != nil:
			p.heard, p.seen, p.busy = true, m.Busy.Seq, map[string]bool{}
			for _, key := range m.Busy.Keys {
				p.busy[key] = true
			}
		}
		p.mu.Unlock()
		p.settle()
		if err != nil {
			p.log.Info("the process that this one took over from has ended")
			return
		}
	}
}

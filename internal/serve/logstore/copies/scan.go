package copies

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/berthdev/berth/internal/serve/logstore"
)

// Scan yields the events that q chooses, of all servers that answer: each once, in the order of their positions.
func (l *Logs) Scan(ctx context.Context, group string, q logstore.Query) iter.Seq2[logstore.Event, error] {
	if len(l.c.Others()) == 0 {
		return l.Store.Scan(ctx, group, q)
	}
	return func(yield func(logstore.Event, error) bool) {
		if err := l.exist(ctx, group, q); err != nil {
			yield(logstore.Event{}, err)
			return
		}
		q.Lenient = true
		parts := []*part{begin(l.scan(ctx, holder{}, group, q))}
		for _, o := range l.others() {
			parts = append(parts, begin(l.scan(ctx, holder{o}, group, q)))
		}
		defer func() {
			for _, p := range parts {
				p.stop()
			}
		}()
		merge(parts, q.Backward, yield)
	}
}

// exist is an error when the group, or a stream that q names, is nowhere.
func (l *Logs) exist(ctx context.Context, group string, q logstore.Query) error {
	if _, err := l.Store.Group(group); errors.Is(err, logstore.ErrNoGroup) {
		l.learn(ctx)
	}
	for _, name := range q.Streams {
		if _, err := l.known(ctx, stream{group, name}); err != nil {
			return err
		}
	}
	return nil
}

// part is one server's events; ok tells that there is one more.
type part struct {
	event logstore.Event
	err   error
	ok    bool
	next  func() (logstore.Event, error, bool)
	stop  func()
}

func begin(events iter.Seq2[logstore.Event, error]) *part {
	p := &part{}
	p.next, p.stop = iter.Pull2(events)
	p.step()
	return p
}

func (p *part) step() { p.event, p.err, p.ok = p.next() }

// merge yields the parts' events in order, those of several parts once.
func merge(all []*part, backward bool, yield func(logstore.Event, error) bool) {
	parts := slices.Clone(all)
	for {
		parts = slices.DeleteFunc(parts, func(p *part) bool { return !p.ok })
		var first *part
		for _, p := range parts {
			if p.err != nil {
				yield(logstore.Event{}, p.err)
				return
			}
			order := 0
			if first != nil {
				order = p.event.Compare(first.event.Position)
			}
			if backward {
				order = -order
			}
			if first == nil || order < 0 {
				first = p
			}
		}
		if first == nil {
			return
		}
		e := first.event
		for _, p := range parts {
			if p.event.Position == e.Position {
				p.step()
			}
		}
		if !yield(e, nil) {
			return
		}
	}
}

// page is what a server is asked for at once, and answers.
type page struct {
	Group  string           `json:"group"`
	Query  logstore.Query   `json:"query"`
	Events []logstore.Event `json:"events,omitempty"`
	More   bool             `json:"more,omitempty"`
}

// pageEvents and pageBytes bound a page.
const (
	pageEvents = 2000
	pageBytes  = 1 << 20
)

// scan yields one server's events. A server that does not answer has none: what it has others have too.
func (l *Logs) scan(ctx context.Context, h holder, group string, q logstore.Query) iter.Seq2[logstore.Event, error] {
	if h.here() {
		return l.Store.Scan(ctx, group, q)
	}
	return func(yield func(logstore.Event, error) bool) {
		for more := true; more; {
			var p page
			if err := l.send(ctx, h.Server, "scan", page{Group: group, Query: q}, &p); err != nil {
				if ctx.Err() != nil {
					yield(logstore.Event{}, ctx.Err())
				} else if !refused(err) {
					l.failed(ctx, h.Server, err)
				}
				return
			}
			for _, e := range p.Events {
				if !yield(e, nil) {
					return
				}
			}
			if more = p.More; more {
				q.From = &p.Events[len(p.Events)-1].Position
			}
		}
	}
}

package copies

import (
	"context"
	"errors"

	"github.com/berthdev/berth/internal/serve/logstore"
)

// Mend has the servers know each other's groups, and gives what is on one server only a second copy. Run it every few seconds.
func (l *Logs) Mend(ctx context.Context) {
	if len(l.c.Others()) == 0 {
		return
	}
	l.learn(ctx)
	singles, err := l.Store.Singles()
	if err != nil {
		l.c.Log.Error("it is not known which log streams have no second copy", "error", err)
	}
	for _, single := range singles {
		s := stream{single.Group, single.Stream}
		l.mu.Lock()
		delete(l.single, s) // what is written from now on is noted anew
		l.mu.Unlock()
		if err := l.copy(ctx, s); err == nil || refused(err) {
			err := l.Store.NoteSingle(s.group, s.name, false)
			l.mu.Lock()
			again := l.single[s]
			l.mu.Unlock()
			if again {
				err = errors.Join(err, l.Store.NoteSingle(s.group, s.name, true))
			}
			if err != nil {
				l.c.Log.Error("a log stream that has its copies is copied again", "error", err)
			}
		} else if !errors.Is(err, ErrAlone) {
			l.c.Log.Warn("a log stream has no second copy yet", "group", s.group, "stream", s.name, "error", err)
		}
	}
}

// Spread gives every stream of this server a second copy where it has none: after a server was lost for good.
func (l *Logs) Spread(ctx context.Context) (streams int, err error) {
	groups, err := l.Store.Groups("", "", 0)
	for _, g := range groups {
		all, serr := l.Store.Streams(g.Name, "", "", 0)
		err = errors.Join(err, serr)
		for _, st := range all {
			if ctx.Err() != nil {
				return streams, ctx.Err()
			}
			if !st.HasEvents {
				continue
			}
			streams++
			err = errors.Join(err, l.copy(ctx, stream{g.Name, st.Name}))
		}
	}
	return streams, err
}

// copy gives the two servers that are to have a stream all that any server has of it.
func (l *Logs) copy(ctx context.Context, s stream) error {
	made, err := l.known(ctx, s)
	if err != nil {
		return err
	}
	if len(l.c.Others()) == 0 {
		return nil
	}
	to := l.live(s)
	if to = to[:min(copiesOf, len(to))]; len(to) < copiesOf {
		return ErrAlone
	}
	for _, h := range to {
		if err := l.fill(ctx, h, s, made); err != nil {
			if !h.here() {
				l.failed(ctx, h.Server, err)
			}
			return ErrAlone
		}
	}
	return nil
}

// fill gives a server what it lacks of a stream.
func (l *Logs) fill(ctx context.Context, h holder, s stream, made logstore.Piece) error {
	if err := l.ready(ctx, h, made, func() error { return l.take(ctx, h, made) }); err != nil {
		return err
	}
	q := logstore.Query{Streams: []string{s.name}, Lenient: true}
	has := begin(l.scan(ctx, h, s.group, q))
	defer has.stop()
	piece, size := made, 0
	flush := func() error {
		if len(piece.Events) == 0 {
			return nil
		}
		err := l.take(ctx, h, piece)
		piece.Events, size = nil, 0
		return err
	}
	for e, err := range l.Scan(ctx, s.group, q) {
		if err != nil {
			return err
		}
		if has.err != nil {
			return has.err
		}
		if has.ok && has.event.Position == e.Position {
			has.step()
			continue
		}
		piece.Events = append(piece.Events, e)
		if size += len(e.Message); size > pageBytes || len(piece.Events) == pageEvents {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

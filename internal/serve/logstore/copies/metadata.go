package copies

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/timeouts"
)

// tell gives the other servers this one's groups; those that are away ask when they are back.
func (l *Logs) tell(groups ...string) {
	others := l.others()
	if len(others) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.LogCopy)
	defer cancel()
	records, err := l.Store.GroupRecords()
	if err != nil {
		l.c.Log.Error("the other servers are not told of log groups", "error", err)
		return
	}
	records = slices.DeleteFunc(records, func(r logstore.GroupRecord) bool { return !slices.Contains(groups, r.Name) })
	for _, o := range others {
		if err := l.send(ctx, o, "groups", records, nil); err != nil {
			l.failed(ctx, o, err)
		}
	}
}

// CreateGroup makes a group on all servers.
func (l *Logs) CreateGroup(g logstore.Group) error {
	err := l.Store.CreateGroup(g)
	if err == nil {
		l.tell(g.Name)
	}
	return err
}

// UpdateGroup changes a group's record on all servers.
func (l *Logs) UpdateGroup(name string, f func(*logstore.Group) error) error {
	err := l.Store.UpdateGroup(name, f)
	if err == nil {
		l.tell(name)
	}
	return err
}

// DeleteGroup deletes a group on all servers.
func (l *Logs) DeleteGroup(name string) error {
	err := l.Store.DeleteGroup(name)
	if err == nil {
		l.tell(name)
	}
	return err
}

// CreateStream makes an empty stream.
func (l *Logs) CreateStream(group, name string) error {
	if len(l.c.Others()) == 0 {
		return l.Store.CreateStream(group, name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.LogSend)
	defer cancel()
	if _, err := l.look(ctx, group, name); err == nil {
		return logstore.ErrStreamExists
	} else if !errors.Is(err, logstore.ErrNoStream) {
		return err
	}
	if err := l.Store.CreateStream(group, name); err != nil { // which checks its name
		return err
	}
	return l.place(ctx, stream{group, name})
}

// place has a stream that is known here on the servers that are to have it, be it empty.
func (l *Logs) place(ctx context.Context, s stream) error {
	made, err := l.known(ctx, s)
	if err != nil {
		return err
	}
	return l.store(ctx, s, func(ctx context.Context, h holder) error {
		return l.ready(ctx, h, made, func() error { return l.take(ctx, h, made) })
	})
}

// DeleteStream deletes a stream and its events on all servers; on one that is away, when it is back.
func (l *Logs) DeleteStream(group, name string) error {
	if len(l.c.Others()) == 0 {
		return l.Store.DeleteStream(group, name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.LogSend)
	defer cancel()
	made, err := l.known(ctx, stream{group, name})
	if err == nil {
		err = l.Store.Take(ctx, made) // so that its deletion is known here
	}
	if err == nil {
		err = l.Store.DeleteStream(group, name)
	}
	if err == nil {
		l.tell(group)
	}
	return err
}

// Prepare implements the log driver's sink.
func (l *Logs) Prepare(ctx context.Context, group, name string, createGroup bool) error {
	if _, err := l.Store.Group(group); errors.Is(err, logstore.ErrNoGroup) && len(l.c.Others()) > 0 {
		l.learn(ctx) // another server may have made it just now
	}
	_, before := l.Store.Group(group)
	err := l.Store.Prepare(ctx, group, name, createGroup)
	if err == nil && before != nil {
		l.tell(group)
	}
	if err == nil && len(l.c.Others()) > 0 {
		err = l.place(ctx, stream{group, name})
	}
	return err
}

// learn takes over what the other servers know of groups.
func (l *Logs) learn(ctx context.Context) {
	for _, o := range l.others() {
		var records []logstore.GroupRecord
		err := l.ask(ctx, o, "groups", &records)
		if err == nil {
			err = l.Store.MergeGroups(records)
		}
		if err != nil {
			l.failed(ctx, o, err)
		}
	}
}

// Position implements the log driver's sink: a source's lines are stored up to there on as many servers as they are to be on.
func (l *Logs) Position(ctx context.Context, group, name, source string) (at model.LogPosition, err error) {
	if len(l.c.Others()) == 0 {
		return l.Store.Position(ctx, group, name, source)
	}
	s := stream{group, name}
	if _, err := l.known(ctx, s); err != nil {
		return at, err
	}
	all, best := l.live(s), -1
	found := make([]logstore.Source, len(all))
	for i, h := range all {
		if found[i], err = l.source(ctx, h, s, source); err != nil {
			found[i] = logstore.Source{}
			continue
		}
		if best < 0 || beyond(found[i].At, found[best].At) {
			best = i
		}
	}
	if best < 0 {
		return at, cmp.Or(err, ErrAlone)
	}
	have := 0
	for _, f := range found {
		if !beyond(found[best].At, f.At) {
			have++
		}
	}
	if have < min(copiesOf, len(l.c.Others())+1) && found[best].At != (model.LogPosition{}) {
		// The last batch may be on one server only, as nobody was answered: what is said to be stored must be on two.
		if err := l.copyTail(ctx, s, all, best, source, found[best]); err != nil {
			l.note(s)
			l.c.Log.Warn("the end of a log stream is on one server only", "group", group, "stream", name, "error", err)
		}
	}
	return found[best].At, nil
}

// beyond tells whether p has something that q has not.
func beyond(p, q model.LogPosition) bool { return p[0] > q[0] || p[1] > q[1] }

// source asks a server for what it knows of a source; one that does not know the stream knows nothing.
func (l *Logs) source(ctx context.Context, h holder, s stream, source string) (known logstore.Source, err error) {
	if h.here() {
		known, err = l.Store.Source(s.group, s.name, source)
	} else {
		err = l.ask(ctx, h.Server, "source?"+query("group", s.group, "stream", s.name, "source", source), &known)
		if err != nil {
			l.failed(ctx, h.Server, err)
		}
	}
	if refused(err) {
		return logstore.Source{}, nil
	}
	return known, err
}

// tailEvents and tailBytes are how much of a stream's end Position copies: more than a source has under way.
const (
	tailEvents = 10_000
	tailBytes  = 4 << 20
)

// copyTail copies the end of a stream from the server that has most of a source to one more.
func (l *Logs) copyTail(ctx context.Context, s stream, all []holder, best int, source string, known logstore.Source) error {
	piece, err := l.known(ctx, s)
	if err != nil {
		return err
	}
	q := logstore.Query{Streams: []string{s.name}, Backward: true, Lenient: true}
	size := 0
	for e, err := range l.scan(ctx, all[best], s.group, q) {
		if err != nil {
			return err
		}
		size += len(e.Message)
		if piece.Events = append(piece.Events, e); len(piece.Events) == tailEvents || size > tailBytes {
			break
		}
	}
	piece.Source = map[string]logstore.Source{source: known}
	err = ErrAlone
	for i, h := range all {
		if i == best {
			continue
		}
		if err = l.ready(ctx, h, logstore.Piece{Group: s.group, Stream: piece.Stream}, func() error { return l.take(ctx, h, piece) }); err == nil {
			return nil
		}
	}
	return err
}

// Stream returns a stream as all servers know it together.
func (l *Logs) Stream(group, name string) (logstore.Stream, error) {
	if len(l.c.Others()) == 0 {
		return l.Store.Stream(group, name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.LogSend)
	defer cancel()
	return l.look(ctx, group, name)
}

func (l *Logs) look(ctx context.Context, group, name string) (st logstore.Stream, err error) {
	streams, err := l.all(ctx, group, name)
	if err != nil {
		return st, err
	}
	for _, st := range streams {
		if st.Name == name {
			return st, nil
		}
	}
	return st, logstore.ErrNoStream
}

// Streams returns up to limit streams of the group as all servers know them together.
func (l *Logs) Streams(group, prefix, after string, limit int) ([]logstore.Stream, error) {
	if len(l.c.Others()) == 0 {
		return l.Store.Streams(group, prefix, after, limit)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.LogSend)
	defer cancel()
	streams, err := l.all(ctx, group, prefix)
	streams = slices.DeleteFunc(streams, func(st logstore.Stream) bool { return st.Name <= after && after != "" })
	if limit > 0 && len(streams) > limit {
		streams = streams[:limit]
	}
	return streams, err
}

// all unites the streams that all servers that answer have.
func (l *Logs) all(ctx context.Context, group, prefix string) ([]logstore.Stream, error) {
	here, err := l.Store.Streams(group, prefix, "", 0)
	if errors.Is(err, logstore.ErrNoGroup) {
		l.learn(ctx)
		here, err = l.Store.Streams(group, prefix, "", 0)
	}
	if err != nil {
		return nil, err
	}
	united := map[string]logstore.Stream{}
	add := func(streams []logstore.Stream) {
		for _, st := range streams {
			united[st.Name] = unite(united[st.Name], st)
		}
	}
	add(here)
	for _, o := range l.others() {
		var there []logstore.Stream
		if err := l.ask(ctx, o, "streams?"+query("group", group, "prefix", prefix), &there); err != nil {
			l.failed(ctx, o, err)
			continue
		}
		add(there)
	}
	return slices.SortedFunc(maps.Values(united), func(a, b logstore.Stream) int { return cmp.Compare(a.Name, b.Name) }), nil
}

// unite makes one record of two servers' of a stream; a has no name when there is one only.
func unite(a, b logstore.Stream) logstore.Stream {
	if a.Name == "" {
		return b
	}
	switch {
	case !a.HasEvents:
		a.FirstAt, a.LastAt, a.HasEvents = b.FirstAt, b.LastAt, b.HasEvents
	case b.HasEvents:
		a.FirstAt, a.LastAt = min(a.FirstAt, b.FirstAt), max(a.LastAt, b.LastAt)
	}
	a.ID = min(a.ID, b.ID)
	a.CreatedAt, a.LastIngestion, a.Next = min(a.CreatedAt, b.CreatedAt), max(a.LastIngestion, b.LastIngestion), max(a.Next, b.Next)
	return a
}

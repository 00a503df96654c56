// Package copies keeps each log stream on two servers: what is answered outlasts the loss of either, and any server reads all of it.
//
// An event's place in its stream is the same on every server (logstore.Position), so a stream is a set: copies are joined by uniting
// them, in whatever order and however often, and nobody has to be asked who is right. Who has a stream is told by rendezvous hashing over
// the servers that answer; reads ask all of them, so that what was written while a server was away is read wherever it is. Groups are on
// every server; of two records of one the later counts.
package copies

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/timeouts"
)

// Server is another server of the cluster.
type Server struct {
	ID     string
	Client *http.Client // to its cluster port, where its Logs is served at Path
}

// Config is what Logs needs.
type Config struct {
	Self  string // this server's id
	Local *logstore.Store
	// Others are the cluster's other servers, dead ones too. While there are none, Logs is the local store.
	Others func() []Server
	// Path is where Logs is served, with a slash at both ends; the same on all servers.
	Path string
	Now  func() time.Time // nil: time.Now
	Log  *slog.Logger
}

// Logs is a log store on several servers. Of the local store it has what concerns one server: sizes, retention, followers.
type Logs struct {
	*logstore.Store
	c   Config
	mux *http.ServeMux

	mu     sync.Mutex
	away   map[string]time.Time // servers that did not answer, and when
	single map[stream]bool      // streams with events on one server only, which Mend copies; noted in the store
	last   uint64               // number given to an event without a source
}

type stream struct{ group, name string }

// New makes Logs.
func New(c Config) *Logs {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	l := &Logs{Store: c.Local, c: c, away: map[string]time.Time{}, single: map[stream]bool{}}
	l.mux = l.routes()
	return l
}

// copiesOf is how many servers a stream is on, if there are as many.
const copiesOf = 2

// ErrAlone says that no server stored what it was given.
var ErrAlone = errors.New("no server stores the log events")

// holder is a server as a place for streams: this one when its client is nil.
type holder struct{ Server }

func (h holder) here() bool { return h.Client == nil }

// holders are all servers in the order in which they are to have a stream; those that just did not answer are last.
func (l *Logs) holders(s stream) []holder {
	all := []holder{{Server{ID: l.c.Self}}}
	for _, o := range l.c.Others() {
		all = append(all, holder{o})
	}
	ranks := make(map[string]uint64, len(all))
	l.mu.Lock()
	for _, h := range all {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", h.ID, s.group, s.name))
		ranks[h.ID] = binary.BigEndian.Uint64(sum[:]) >> 1
		if !h.here() && time.Since(l.away[h.ID]) < timeouts.LogAway {
			ranks[h.ID] |= 1 << 63
		}
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b holder) int { return cmp.Compare(ranks[a.ID], ranks[b.ID]) })
	return all
}

// live are the holders of a stream that answered when they were last asked.
func (l *Logs) live(s stream) []holder {
	all := l.holders(s)
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(all, func(h holder) bool { return !h.here() && time.Since(l.away[h.ID]) < timeouts.LogAway })
}

// others are the other servers that answered when they were last asked.
func (l *Logs) others() (others []Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.c.Others() {
		if time.Since(l.away[o.ID]) >= timeouts.LogAway {
			others = append(others, o)
		}
	}
	return others
}

// failed notes that a server did not answer; a refusal is an answer.
func (l *Logs) failed(ctx context.Context, at Server, err error) {
	var said *refusal
	if ctx.Err() != nil || errors.As(err, &said) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.away[at.ID]) >= timeouts.LogAway {
		l.c.Log.Warn("another server does not answer for its logs; they go to those that do", "server", at.ID, "error", err)
	}
	l.away[at.ID] = time.Now()
}

// store has two servers do what to does, each of which syncs it; one, when no other answers. The error is the first server's.
func (l *Logs) store(ctx context.Context, s stream, to func(context.Context, holder) error) error {
	all := l.holders(s)
	done, first := 0, error(nil)
	for len(all) > 0 && done < copiesOf {
		n := min(copiesOf-done, len(all))
		errs := make([]error, n)
		var wait sync.WaitGroup
		for i, h := range all[:n] {
			wait.Go(func() { errs[i] = to(ctx, h) })
		}
		wait.Wait()
		for i, h := range all[:n] {
			if errs[i] == nil {
				done++
				continue
			}
			first = cmp.Or(first, errs[i])
			if !h.here() {
				l.failed(ctx, h.Server, errs[i])
			}
		}
		all = all[n:]
		if refused(first) { // by every server the same way
			break
		}
	}
	switch {
	case done == 0:
		return cmp.Or(first, ErrAlone)
	case done < copiesOf && first != nil:
		l.note(s)
	}
	return nil
}

// refused tells an error that is no server's fault.
func refused(err error) bool {
	return errors.Is(err, logstore.ErrNoGroup) || errors.Is(err, logstore.ErrNoStream) || errors.Is(err, logstore.ErrBadName)
}

// note remembers a stream that Mend must look after, also after a restart.
func (l *Logs) note(s stream) {
	l.mu.Lock()
	known := l.single[s]
	l.single[s] = true
	l.mu.Unlock()
	if known {
		return
	}
	if err := l.Store.NoteSingle(s.group, s.name, true); err != nil {
		l.c.Log.Warn("it is not noted that a log stream has no second copy", "group", s.group, "stream", s.name, "error", err)
	}
}

// Append implements the log driver's sink.
func (l *Logs) Append(ctx context.Context, batch model.LogBatch) error {
	if len(l.c.Others()) == 0 {
		return l.Store.Append(ctx, batch)
	}
	if len(batch.Lines) == 0 {
		return nil
	}
	made, err := l.known(ctx, stream{batch.Group, batch.Stream})
	if err != nil {
		return err
	}
	data, err := batch.AppendBinary(nil)
	if err != nil {
		return err
	}
	return l.store(ctx, stream{batch.Group, batch.Stream}, func(ctx context.Context, h holder) error {
		return l.ready(ctx, h, made, func() error {
			if h.here() {
				return l.Store.Append(ctx, batch)
			}
			return l.call(ctx, h.Server, "append", data, nil)
		})
	})
}

// Write adds events that come from no container's output.
func (l *Logs) Write(ctx context.Context, group, name string, events []model.LogEvent) error {
	if len(l.c.Others()) == 0 {
		return l.Store.Write(ctx, group, name, events)
	}
	s := stream{group, name}
	made, err := l.known(ctx, s)
	if err != nil {
		return err
	}
	piece := logstore.Piece{Group: group, Stream: made.Stream}
	now := l.c.Now().UnixMilli()
	for _, e := range events {
		piece.Events = append(piece.Events, logstore.Event{Ingested: now, Message: e.Message,
			Position: logstore.Position{At: max(0, e.At.UnixMilli()), Stream: made.Stream.ID, N: l.number()}})
	}
	return l.store(ctx, s, func(ctx context.Context, h holder) error {
		return l.ready(ctx, h, made, func() error { return l.take(ctx, h, piece) })
	})
}

// number is one that no other event of this server's has: it rises with the clock, by tenths of milliseconds.
func (l *Logs) number() uint64 {
	const bits = 44 // below the number of the source, which is this server
	sum := sha256.Sum256([]byte("server " + l.c.Self))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last+1, uint64(l.c.Now().UnixMicro()/100)&(1<<bits-1))
	return binary.BigEndian.Uint64(sum[:])>>45<<(bits+1) | l.last
}

// take gives a piece to a server.
func (l *Logs) take(ctx context.Context, h holder, p logstore.Piece) error {
	if h.here() {
		return l.Store.Take(ctx, p)
	}
	return l.send(ctx, h.Server, "take", p, nil)
}

// ready does what f does, after the server was told of a group or stream that it does not know.
func (l *Logs) ready(ctx context.Context, h holder, made logstore.Piece, f func() error) error {
	err := f()
	if errors.Is(err, logstore.ErrNoGroup) && !h.here() {
		records, rerr := l.Store.GroupRecords()
		if rerr != nil {
			return rerr
		}
		if err := l.send(ctx, h.Server, "groups", records, nil); err != nil {
			return err
		}
		err = f()
	}
	if errors.Is(err, logstore.ErrNoStream) {
		if err := l.take(ctx, h, made); err != nil {
			return err
		}
		err = f()
	}
	return err
}

// known finds a stream, which every holder then has with the same id.
func (l *Logs) known(ctx context.Context, s stream) (made logstore.Piece, err error) {
	made.Group = s.group
	if made.Stream, err = l.Store.Stream(s.group, s.name); err == nil {
		return made, nil
	}
	if !refused(err) {
		return made, err
	}
	if made.Stream, err = l.look(ctx, s.group, s.name); err == nil {
		_ = l.Store.Take(ctx, made) // so that it is found here the next time
	}
	return made, err
}

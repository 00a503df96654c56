package app

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/control"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	sessions "github.com/berthdev/berth/internal/nodelink/ledger"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

var errRemoved = errors.New("this server was removed from its cluster (berth server rm): to let it in again, start it on another --data-dir with a new token " +
	"(on a server: berth token server)")

// lead does what the leader alone does, whenever this server leads, until ctx is done.
func (s *server) lead(ctx context.Context) error {
	for {
		role, changed := s.store.Role()
		if role.Removed {
			return errRemoved
		}
		if role.Leading {
			if err := s.reign(ctx, changed); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// reign does it until over is closed. What control and placement know is warm: they follow the store on every server.
func (s *server) reign(ctx context.Context, over <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-over:
			cancel()
		case <-ctx.Done():
		}
	}()
	if s.several.Load() {
		s.log.Info("this server leads")
	}
	err := s.defaultCluster(ctx)
	if err == nil {
		g, ctx := errgroup.WithContext(ctx)
		c := control.New(control.Config{Store: s.store, Places: s.places, Scope: s.in.Scope(), Now: time.Now, NewID: newID, Pace: s.in.Pace,
			Log: s.log.With("component", "control")})
		g.Go(func() error { return c.Run(ctx) })
		g.Go(func() error { return s.controlRegions(ctx) })
		g.Go(func() error { return s.tell(ctx, s.home()) })
		g.Go(func() error { return s.fabric.Run(ctx) })
		g.Go(func() error { return s.promote(ctx) })
		g.Go(func() error { return s.raiseLevel(ctx) })
		g.Go(func() error { return s.undertaker().run(ctx) })
		g.Go(func() error { return s.keepDue(ctx) })
		err = g.Wait()
	}
	select {
	case <-over: // what failed may have failed for that
		return nil
	default:
	}
	if passes(err) {
		return nil
	}
	return err
}

// passes tells whether an error is of the moment: the server lost, or gave up, its office while something was being written.
func passes(err error) bool {
	return errors.Is(err, store.ErrNotLeader) || errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrClosed)
}

// raiseLevel lets new features be used once all servers know them.
func (s *server) raiseLevel(ctx context.Context) error {
	w := s.store.Watch(ctx, store.Servers.All(), store.ClusterSettings.All())
	for {
		if err := s.store.Update(ctx, raiseLevel); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot raise the feature level", "error", err)
		}
		if _, ok := <-w.C(); !ok {
			return nil
		}
		w.Take()
	}
}

// raiseLevel sets the level to the least of the servers', if that is more.
func raiseLevel(tx store.Tx) error {
	old, ok := store.ClusterSettings.Get(tx, model.SettingsKey)
	if !ok {
		return nil
	}
	least := model.Level
	for server := range store.Servers.Scan(tx, "") {
		least = min(least, server.Level)
	}
	if least > old.Level {
		settings := *old
		settings.Level = least
		store.ClusterSettings.Put(tx, &settings)
	}
	return nil
}

// pathForget is where a server that starts says that it holds no session.
const pathForget = "/v1/servers/forget"

type nothing struct{}

func (s *server) book() nodelink.Book { return nodelink.Book{Store: s.store, Now: time.Now} }

// ledger is where sessions of this server are written down, wherever the leader is.
func (s *server) ledger() nodelink.Ledger {
	return &ledger{sessions.New(sessions.Config{Local: s.book(), Client: s.port.client, Leader: func() (bool, string) {
		o := s.office()
		return o.Here, o.Address
	}}), s.announced}
}

// ledger begins nothing before the sessions of this server's last run are forgotten: it would be forgotten with them.
type ledger struct {
	nodelink.Ledger
	announced <-chan struct{}
}

// Begin implements nodelink.Ledger.
func (l *ledger) Begin(ctx context.Context, o nodelink.Opening) (now nodelink.Seen, err error) {
	select {
	case <-l.announced:
		return l.Ledger.Begin(ctx, o)
	case <-ctx.Done():
		return now, ctx.Err()
	}
}

// announce tells the leader that this server has started: what it is, and that it holds no session. It tries until that is written down.
func (s *server) announce(ctx context.Context) error {
	var said time.Time
	for {
		err := s.call(ctx, pathForget, nothing{}, &nothing{})
		if err == nil && s.several.Load() {
			err = s.call(ctx, pathRow, s.row(s.began.Load().roots), &nothing{})
		}
		if err == nil && s.election != nil && s.several.Load() {
			err = s.call(ctx, pathElection, *s.election, &nothing{})
		}
		if err == nil {
			close(s.announced)
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(said) > timeouts.ServerSay {
			said = time.Now()
			s.log.Warn("this server waits for a leader; if the others are lost for good, see: berth server --recover", "reason", err, "others", s.otherNames())
		}
		pause := time.NewTimer(timeouts.ServerRetry)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// otherNames names the other servers.
func (s *server) otherNames() (all []string) {
	s.store.View(func(r store.Reader) {
		for row := range store.Servers.Scan(r, "") {
			if row.ID != s.in.NodeID {
				all = append(all, row.Name+" "+row.Address)
			}
		}
	})
	return slices.Clip(all)
}

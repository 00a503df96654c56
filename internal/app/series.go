package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/serve/metrics/gather"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// measures is what a server knows of metrics. Every server has all of them: whoever measures gives its samples to the others too, without
// waiting, so that one that takes over knows the past; what another missed while it was away, it lacks.
type measures struct {
	series *metrics.Series
	gather *gather.Gatherer
	// stats reads the proxy's counters; nil where there is no proxy.
	stats func(context.Context) (proxy.Snapshot, error)
	// metricsListen is where /metrics answers; "" is nowhere.
	metricsListen string
	away          chan samples // on their way to the other servers
}

// samples are those of a region.
type samples struct {
	Region string
	Batch  []model.Sample
}

// pathSamples is where servers give each other samples.
const pathSamples = "/v1/metrics/samples"

// maxAway bounds the batches that wait for the other servers.
const maxAway = 64

func (s *server) openMetrics() (err error) {
	s.away = make(chan samples, maxAway)
	s.gather = &gather.Gatherer{Store: s.store, Sink: func(batch []model.Sample) { s.measured(s.in.Region, batch) }, Now: time.Now}
	s.series, err = metrics.Open(s.in.Path("metrics"), s.in.Region, metrics.Config{Now: time.Now, Log: s.log.With("component", "metrics")})
	return err
}

// measured takes samples of this server's: its own, and those that clients put here.
func (s *server) measured(region string, batch []model.Sample) {
	s.series.In(region).Append(batch)
	if !s.several.Load() {
		return
	}
	select {
	case s.away <- samples{region, batch}:
	default: // others are slow: they lack it
	}
}

// noteSamples takes those of another server.
func (s *server) noteSamples(_ context.Context, _ string, in samples) (nothing, error) {
	s.series.In(in.Region).Append(in.Batch)
	return nothing{}, nil
}

// shareSamples gives samples to the other servers.
func (s *server) shareSamples(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case batch := <-s.away:
			var g errgroup.Group
			s.others.each(func(_ string, client *http.Client) {
				g.Go(func() error {
					ctx, cancel := context.WithTimeout(ctx, timeouts.ServerCall)
					defer cancel()
					return join.Post(ctx, client, pathSamples, batch, &nothing{})
				})
			})
			if err := g.Wait(); err != nil && ctx.Err() == nil {
				s.log.Debug("another server did not take samples", "error", err)
			}
		}
	}
}

// measure runs what fills the metrics, until ctx is done.
func (s *server) measure(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.shareSamples(ctx) })
	g.Go(func() error {
		return every(ctx, timeouts.MetricsWrite, func() {
			s.gather.Tick()
			s.series.Tend()
		})
	})
	g.Go(func() error {
		return every(ctx, timeouts.MetricsMinute, func() {
			if s.leads() {
				s.gather.Counts()
			}
		})
	})
	if s.stats != nil {
		pause := timeouts.Count
		if s.in.Pace == model.PaceFast {
			pause = timeouts.CountOften
		}
		g.Go(func() error {
			return every(ctx, pause, func() {
				ask, cancel := context.WithTimeout(ctx, timeouts.Count)
				defer cancel()
				if counts, err := s.stats(ask); err == nil {
					s.gather.Balancers(counts)
				}
			})
		})
	}
	return g.Wait()
}

// stats reads the proxy's counters.
func (p *plane) stats(ctx context.Context) (proxy.Snapshot, error) {
	switch {
	case p.keeper != nil:
		return p.keeper.Stats(ctx)
	case p.proxy != nil:
		return p.proxy.Snapshot(), nil
	}
	return proxy.Snapshot{}, errors.New("the proxy is not there yet")
}

// meter sends what the tasks of this machine use, until ctx is done.
func (n *node) meter(ctx context.Context) error {
	m := n.agent.NewMeter()
	last := time.Now()
	return every(ctx, timeouts.MeasureOften, func() {
		pause := timeouts.Measure
		if n.in.Pace == model.PaceFast && m.Tasks() <= timeouts.MeasureFew {
			pause = timeouts.MeasureOften
		}
		if time.Since(last) < pause-timeouts.MeasureOften/2 {
			return
		}
		last = time.Now()
		if u := m.Take(ctx); len(u.Tasks) > 0 {
			n.client.Use(u)
		}
	})
}

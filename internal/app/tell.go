package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/alarms"
	"github.com/berthdev/berth/internal/serve/outbox"
	"github.com/berthdev/berth/internal/store"
)

// tell runs what the leader does of alarms and deliveries for a region, until ctx is done.
func (s *server) tell(ctx context.Context, r *region) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.judge(r).Run(ctx) })
	out := &outbox.Runner{Store: r.store, Now: time.Now, Log: s.log.With("component", "outbox", "region", r.scope.Region),
		Handlers: map[string]outbox.Handler{"http": outbox.Post()}}
	g.Go(func() error { return out.Run(ctx) })
	return g.Wait()
}

// judge judges a region's alarms.
func (s *server) judge(r *region) *alarms.Judge {
	return &alarms.Judge{Store: r.store, Series: s.series.In(r.scope.Region), Scope: r.scope, Now: time.Now, Act: s.act(r),
		Log: s.log.With("component", "alarms", "region", r.scope.Region)}
}

// act tells the actions of alarms.
func (s *server) act(r *region) func(store.Tx, string, alarms.Notice) error {
	return func(tx store.Tx, arn string, n alarms.Notice) error {
		if url, ok := outbox.WebhookURL(arn); ok {
			if outbox.Put(tx, outbox.Hook(n.At, "alarm-"+n.Alarm.Name+"-"+n.New+"-"+url, url, n.Message, n.Alarm.ARN)) > 0 {
				return fmt.Errorf("too many deliveries wait already")
			}
			return nil
		}
		if strings.HasPrefix(arn, "arn:"+model.Partition+":autoscaling:") {
			return nil // who scales looks at the alarm itself
		}
		return fmt.Errorf("Berth does not know how to act on %s", arn)
	}
}

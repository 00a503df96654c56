package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/api/autoscaling"
	"github.com/berthdev/berth/internal/api/cloudwatch"
	eventsapi "github.com/berthdev/berth/internal/api/events"
	"github.com/berthdev/berth/internal/api/scheduler"
	"github.com/berthdev/berth/internal/api/sns"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/alarms"
	"github.com/berthdev/berth/internal/serve/events"
	"github.com/berthdev/berth/internal/serve/outbox"
	"github.com/berthdev/berth/internal/serve/topics"
	"github.com/berthdev/berth/internal/store"
)

// tell runs what the leader does of alarms and deliveries for a region, until ctx is done.
func (s *server) tell(ctx context.Context, r *region) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.judge(r).Run(ctx) })
	g.Go(func() error { return s.engine(r).Run(ctx) })
	g.Go(func() error { return s.scaler(r).Run(ctx) })
	out := &outbox.Runner{Store: r.store, Now: time.Now, Log: s.log.With("component", "outbox", "region", r.scope.Region),
		Handlers: map[string]outbox.Handler{"http": outbox.Post(), events.KindCall: s.callAPI(r), events.KindLogs: writeLog(r)}}
	g.Go(func() error { return out.Run(ctx) })
	return g.Wait()
}

// eventServices are the APIs of a region's metrics, events, schedules and topics.
func (s *server) eventServices(r *region) []*wire.Service {
	return []*wire.Service{
		cloudwatch.New(cloudwatch.Config{Store: r.store, Scope: r.scope, Series: s.series.In(r.scope.Region), Transit: s.judge(r).Transit, Now: time.Now,
			Put: func(batch []model.Sample) { s.measured(r.scope.Region, batch) }, Log: s.log.With("component", "cloudwatch")}),
		autoscaling.New(autoscaling.Config{Store: r.store, Scope: r.scope, Now: time.Now}),
		eventsapi.New(eventsapi.Config{Store: r.store, Scope: r.scope, Send: s.engine(r).Send, Now: time.Now, NewID: newID, Log: s.log.With("component", "events")}),
		scheduler.New(scheduler.Config{Store: r.store, Scope: r.scope, Now: time.Now, Log: s.log.With("component", "scheduler")}),
		sns.New(sns.Config{Store: r.store, Scope: r.scope, URL: "http://" + s.in.Listen + sns.ConfirmPath, Now: time.Now, NewID: newID, Log: s.log.With("component", "sns")}),
	}
}

// judge judges a region's alarms.
func (s *server) judge(r *region) *alarms.Judge {
	return &alarms.Judge{Store: r.store, Series: s.series.In(r.scope.Region), Scope: r.scope, Now: time.Now, Act: s.act(r),
		Changed: s.alarmChanged(r), Log: s.log.With("component", "alarms", "region", r.scope.Region)}
}

// alarmChanged tells rules of alarms' transitions.
func (s *server) alarmChanged(r *region) func(store.Tx, alarms.Notice) {
	engine := s.engine(r)
	return func(tx store.Tx, n alarms.Notice) {
		detail, err := json.Marshal(map[string]any{"alarmName": n.Alarm.Name, "state": map[string]any{"value": n.New, "reason": n.Alarm.Reason, "timestamp": n.At.UTC().Format(time.RFC3339)},
			"previousState": map[string]any{"value": n.Old}})
		if err != nil {
			return
		}
		ev := events.Event{Version: "0", ID: uuid(newID()), DetailType: "CloudWatch Alarm State Change", Source: "aws.cloudwatch", Account: r.scope.Account,
			Time: n.At.UTC().Format("2006-01-02T15:04:05Z"), Region: r.scope.Region, Resources: []string{n.Alarm.ARN}, Detail: detail}
		if _, err := engine.Send(tx, ev, n.At, ""); err != nil {
			s.log.Warn("an alarm's event is not sent", "alarm", n.Alarm.Name, "error", err)
		}
	}
}

// uuid writes 32 hexadecimal digits as a UUID.
func uuid(h string) string {
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// engine runs a region's schedules and tells of its events.
func (s *server) engine(r *region) *events.Engine {
	return &events.Engine{Store: r.store, Scope: r.scope, Now: time.Now, NewID: newID, Log: s.log.With("component", "events", "region", r.scope.Region),
		Publish: func(tx store.Tx, topic, message, id string) error {
			return topics.Publish(tx, topic, topics.Message{ID: id, Body: message}, time.Now())
		},
		Describe: func(ctx context.Context, t *model.Task) string {
			in, err := json.Marshal(map[string]any{"cluster": t.Cluster, "tasks": []string{t.ID}, "include": []string{"TAGS"}})
			if err != nil {
				return ""
			}
			out, err := s.endpoint.Invoke(ctx, s.itself(r), "ecs", "DescribeTasks", in)
			var answer struct{ Tasks []json.RawMessage }
			if err != nil || json.Unmarshal(out, &answer) != nil || len(answer.Tasks) != 1 {
				return ""
			}
			return string(answer.Tasks[0])
		}}
}

// itself is Berth as a caller: the root.
func (s *server) itself(r *region) wire.Caller {
	return wire.Caller{Account: r.scope.Account, ARN: "arn:" + model.Partition + ":iam::" + r.scope.Account + ":root", UserID: r.scope.Account, Region: r.scope.Region}
}

// callAPI runs an operation as the role of a rule's target. What the role may not do, or what the API refuses, is tried again like what
// fails: a policy or a task definition may come later.
func (s *server) callAPI(r *region) outbox.Handler {
	return func(ctx context.Context, d *model.Delivery) error {
		role := d.Parameters["role"]
		name := role[strings.LastIndexByte(role, '/')+1:]
		caller := wire.Caller{Account: r.scope.Account, ARN: fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/berth-events", model.Partition, r.scope.Account, name),
			UserID: "AROA" + name + ":berth-events", Region: r.scope.Region, Grant: &model.Grant{Role: role, Session: "berth-events"}}
		out, err := s.endpoint.Invoke(ctx, caller, d.Parameters["service"], d.Parameters["operation"], []byte(d.Body))
		if err != nil {
			return err
		}
		var answer struct {
			Failures []struct{ Reason, Detail string }
			Tasks    []struct{}
		}
		if json.Unmarshal(out, &answer) == nil && len(answer.Tasks) == 0 && len(answer.Failures) > 0 {
			return fmt.Errorf("no task was started: %s %s", answer.Failures[0].Reason, answer.Failures[0].Detail)
		}
		return nil
	}
}

// writeLog writes a delivery into a log group, which must be there.
func writeLog(r *region) outbox.Handler {
	return func(ctx context.Context, d *model.Delivery) error {
		_, group, _ := strings.Cut(d.Target, ":log-group:")
		group = strings.TrimSuffix(group, ":*")
		stream := d.Created.UTC().Format("2006-01-02")
		if err := r.lines.Prepare(ctx, group, stream, false); err != nil {
			return err
		}
		return r.lines.Write(ctx, group, stream, []model.LogEvent{{At: d.Created, Message: d.Body}})
	}
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
		if strings.HasPrefix(arn, "arn:"+model.Partition+":sns:") {
			return topics.Publish(tx, arn, topics.Message{ID: uuid(newID()), Subject: n.Subject, Body: n.Message}, n.At)
		}
		if strings.HasPrefix(arn, "arn:"+model.Partition+":autoscaling:") {
			return nil // who scales looks at the alarm itself
		}
		return fmt.Errorf("Berth does not know how to act on %s", arn)
	}
}

// confirmSubscription is what a subscriber of a topic visits to confirm: the token is the proof, there is no signature.
func (s *server) confirmSubscription(w http.ResponseWriter, q *http.Request) {
	topic, token := q.URL.Query().Get("TopicArn"), q.URL.Query().Get("Token")
	r := s.home()
	if parts := strings.Split(topic, ":"); len(parts) == 6 && parts[3] != s.in.Region && slices.Contains(knownRegions, parts[3]) {
		var err error
		if r, err = s.region(parts[3]); err != nil {
			http.Error(w, "The region is not there.", http.StatusServiceUnavailable)
			return
		}
	}
	arn, err := sns.Confirm(q.Context(), r.store, topic, token, time.Now())
	if refusal, ok := errors.AsType[*model.Error](err); ok {
		http.Error(w, refusal.Message, http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, "The subscription cannot be confirmed now.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Subscription confirmed: %s\n", arn)
}

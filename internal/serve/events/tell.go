package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// tell tells rules of what changes, until ctx is done. While no rule waits for events nothing is noted.
func (e *Engine) tell(ctx context.Context) error {
	w := e.Store.Watch(ctx, store.Tasks.All(), store.Deployments.All(), store.ServiceEvents.All(), store.EventRules.All())
	all := true
	for {
		b := w.Take()
		if since, any := e.waiting(); any {
			if err := e.tellOf(ctx, b, all || b.All, since); err != nil {
				return err
			}
			all = false
		}
		if _, ok := <-w.C(); !ok {
			return nil
		}
	}
}

// waiting tells whether a rule waits for events, and since when one has.
func (e *Engine) waiting() (since time.Time, any bool) {
	e.Store.View(func(r store.Reader) {
		for rule := range store.EventRules.Scan(r, "") {
			if rule.Pattern == "" || rule.State == ebtypes.RuleStateDisabled || len(rule.Targets) == 0 {
				continue
			}
			if !any || rule.ChangedAt.Before(since) {
				since = rule.ChangedAt
			}
			any = true
		}
	})
	return since, any
}

// told is an event that is to be sent, and the note that it was.
type told struct {
	Event
	at    time.Time
	order string
	task  *model.Task
}

// perUpdate is how many events one transaction sends.
const perUpdate = 50

// tellOf tells of a batch of changes. all: of every task whose newest change was not told; such as after a change of the leader.
func (e *Engine) tellOf(ctx context.Context, b store.Batch, all bool, since time.Time) error {
	var out []told
	var tasks []*model.Task
	gone := map[string]bool{}
	if all {
		e.Store.View(func(r store.Reader) {
			for t := range store.Tasks.Scan(r, "") {
				if _, known := store.Tolds.Get(r, t.ID); known || t.CreatedAt.After(since) {
					tasks = append(tasks, t)
				}
			}
			for n := range store.Tolds.Scan(r, "") {
				if _, ok := store.Tasks.Get(r, n.TaskID); !ok {
					gone[n.TaskID] = true
				}
			}
		})
	}
	for _, c := range b.Changes {
		switch c.Table {
		case store.Tasks.Name():
			if t, ok := c.New.(*model.Task); ok && t != nil {
				tasks = append(tasks, t)
			} else {
				gone[c.Key] = true
			}
		case store.Deployments.Name():
			out = append(out, e.ofDeployment(c)...)
		case store.ServiceEvents.Name():
			out = append(out, e.ofService(c)...)
		}
	}
	if e.Describe != nil {
		for _, t := range tasks {
			if ev, ok := e.ofTask(ctx, t); ok {
				out = append(out, ev)
			}
		}
	}
	for len(out) > 0 || len(gone) > 0 {
		n := min(len(out), perUpdate)
		part := out[:n]
		out = out[n:]
		err := e.Store.Update(ctx, func(tx store.Tx) error { return e.send(tx, part, gone) })
		if err != nil {
			return err
		}
		gone = nil
	}
	return nil
}

func (e *Engine) send(tx store.Tx, part []told, gone map[string]bool) error {
	for _, ev := range part {
		if ev.task != nil {
			if n, ok := store.Tolds.Get(tx, ev.task.ID); ok && n.Version >= ev.task.Version {
				continue
			}
			store.Tolds.Put(tx, &model.Told{TaskID: ev.task.ID, Version: ev.task.Version})
		}
		if _, err := e.Send(tx, ev.Event, ev.at, ev.order); err != nil {
			return err
		}
	}
	for id := range gone {
		store.Tolds.Delete(tx, id)
	}
	return nil
}

// idOf makes an event's id of what it is about: told twice, it is the same.
func idOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ofTask is the event of a task's newest change.
func (e *Engine) ofTask(ctx context.Context, t *model.Task) (told, bool) {
	e.Store.View(func(r store.Reader) {
		if n, ok := store.Tolds.Get(r, t.ID); ok && n.Version >= t.Version {
			t = nil
		}
	})
	if t == nil {
		return told{}, false
	}
	text := e.Describe(ctx, t)
	detail, err := datesOf(text, e.Now())
	if text == "" || err != nil {
		return told{}, false
	}
	now := e.Now()
	return told{Event: e.event(idOf(t.ARN, fmt.Sprint(t.Version)), now, "aws.ecs", "ECS Task State Change", []string{t.ARN}, detail), at: now, order: t.ID, task: t}, true
}

// datesOf writes the times of a task, which the API has in seconds, as events do.
func datesOf(text string, now time.Time) (json.RawMessage, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if n, ok := x.(json.Number); ok && strings.HasSuffix(k, "At") {
					if f, err := n.Float64(); err == nil {
						v[k] = time.UnixMilli(int64(f * 1000)).UTC().Format("2006-01-02T15:04:05.000Z")
					}
					continue
				}
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(v)
	if o, ok := v.(map[string]any); ok {
		o["updatedAt"] = now.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return json.Marshal(v)
}

// ofDeployment is the event of a deployment that began, succeeded or failed.
func (e *Engine) ofDeployment(c store.Change) []told {
	d, _ := c.New.(*model.Deployment)
	old, _ := c.Old.(*model.Deployment)
	if d == nil || d.RolloutState == "" || old != nil && old.RolloutState == d.RolloutState {
		return nil
	}
	kind, name := "INFO", "SERVICE_DEPLOYMENT_"+string(d.RolloutState)
	if d.RolloutState == "FAILED" {
		kind = "ERROR"
	}
	now := e.Now()
	service := e.Scope.ARN("ecs", "service/"+d.Cluster+"/"+d.Service)
	detail, err := json.Marshal(map[string]any{"eventType": kind, "eventName": name, "deploymentId": d.ID, "updatedAt": now.UTC().Format("2006-01-02T15:04:05.000Z"),
		"reason": d.RolloutStateReason})
	if err != nil {
		return nil
	}
	return []told{{Event: e.event(idOf(service, d.ID, name), now, "aws.ecs", "ECS Deployment State Change", []string{service}, detail), at: now, order: service}}
}

// ofService is the event of a service's message, of those that AWS has as events.
func (e *Engine) ofService(c store.Change) []told {
	s, _ := c.New.(*model.ServiceEvent)
	if s == nil || c.Old != nil || s.Event.Message == nil {
		return nil
	}
	kind, name := "INFO", ""
	switch m := *s.Event.Message; {
	case strings.HasSuffix(m, "has reached a steady state."):
		name = "SERVICE_STEADY_STATE"
	case strings.Contains(m, "was unable to place a task"):
		kind, name = "ERROR", "SERVICE_TASK_PLACEMENT_FAILURE"
	case strings.Contains(m, "is unable to consistently start tasks successfully"):
		kind, name = "WARN", "SERVICE_TASK_START_IMPAIRED"
	default:
		return nil
	}
	now := e.Now()
	service := e.Scope.ARN("ecs", "service/"+s.Cluster+"/"+s.Service)
	detail, err := json.Marshal(map[string]any{"eventType": kind, "eventName": name, "clusterArn": e.Scope.ClusterARN(s.Cluster), "createdAt": now.UTC().Format("2006-01-02T15:04:05.000Z"),
		"reason": *s.Event.Message})
	if err != nil {
		return nil
	}
	return []told{{Event: e.event(idOf(service, fmt.Sprint(s.Seq), name), now, "aws.ecs", "ECS Service Action", []string{service}, detail), at: now, order: service}}
}

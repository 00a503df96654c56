package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	schtypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// world is a store, the time, and RunTask as the API does it: a token makes a repetition the same run.
type world struct {
	t    *testing.T
	now  time.Time
	s    *mem.Store
	runs map[string]string // the body of each run, by its token
	ids  int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: noon, s: mem.New(store.Schema()), runs: map[string]string{}}
	t.Cleanup(func() { w.s.Close() })
	return w
}

func (w *world) engine() *Engine {
	return &Engine{Store: w.s, Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
		NewID: func() string { w.ids++; return fmt.Sprint(w.ids) }, Publish: func(store.Tx, string, string, string) error { return nil },
		Describe: func(_ context.Context, t *model.Task) string {
			return fmt.Sprintf(`{"taskArn":%q,"lastStatus":%q,"version":%d,"createdAt":1700000000.25}`, t.ARN, t.LastStatus(), t.Version)
		}}
}

func (w *world) put(f func(store.Tx)) {
	w.t.Helper()
	if err := w.s.Update(w.t.Context(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) look(e *Engine) {
	w.t.Helper()
	if _, err := e.Look(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) outbox() (all []*model.Delivery) {
	w.s.View(func(r store.Reader) {
		for d := range store.Outbox.Scan(r, "") {
			all = append(all, d)
		}
	})
	return all
}

// deliver does what waits, as often as it is there; keep leaves it there, as a leader that dies before it has noted that it is done.
func (w *world) deliver(keep bool) {
	for _, d := range w.outbox() {
		if d.Kind == KindCall {
			var in struct{ ClientToken string }
			if err := json.Unmarshal([]byte(d.Body), &in); err != nil || in.ClientToken == "" {
				w.t.Fatalf("%v: %s", err, d.Body)
			}
			w.runs[in.ClientToken] = d.Body
		}
		if !keep {
			w.put(func(tx store.Tx) { store.Outbox.Delete(tx, d.ID) })
		}
	}
}

func ecsTarget() ebtypes.Target {
	return ebtypes.Target{Id: new("t"), Arn: new("arn:aws:ecs:us-east-1:000000000000:cluster/shop"), RoleArn: new("arn:aws:iam::000000000000:role/r"),
		Input:         new(`{"containerOverrides":[{"name":"web","command":["x"]}],"else":1}`),
		EcsParameters: &ebtypes.EcsParameters{TaskDefinitionArn: new("web"), LaunchType: "FARGATE", NetworkConfiguration: &ebtypes.NetworkConfiguration{AwsvpcConfiguration: &ebtypes.AwsVpcConfiguration{Subnets: []string{"s"}}}}}
}

func (w *world) rule(change func(*model.EventRule)) *model.EventRule {
	r := &model.EventRule{Name: "r", ARN: "arn:r", Schedule: "rate(1 minute)", State: "ENABLED", Targets: []ebtypes.Target{ecsTarget()}, ChangedAt: w.now}
	change(r)
	w.put(func(tx store.Tx) { store.EventRules.Put(tx, r) })
	return r
}

var errDied = errors.New("the leader died")

// dying is a store whose next Update fails.
type dying struct {
	store.Store
	fails bool
}

func (d *dying) Update(ctx context.Context, f func(store.Tx) error) error {
	if d.fails {
		return d.Store.Update(ctx, func(tx store.Tx) error { return errors.Join(f(tx), errDied) })
	}
	return d.Store.Update(ctx, f)
}

// TestOneRunATick: leaders that die before a tick is stored, after it, and after the run but before that is noted, and two that look at
// once, make one run of each tick.
func TestOneRunATick(t *testing.T) {
	w := newWorld(t)
	w.rule(func(*model.EventRule) {})
	for minute := 1; minute <= 12; minute++ {
		w.now = noon.Add(time.Duration(minute)*time.Minute + 3*time.Second)
		first, second := w.engine(), w.engine()
		switch minute % 4 {
		case 0: // dies before the tick is stored
			first.Store = &dying{w.s, true}
			if _, err := first.Look(t.Context()); !errors.Is(err, errDied) {
				t.Fatal(err)
			}
		case 1: // dies after it
			w.look(first)
		case 2: // dies after the run
			w.look(first)
			w.deliver(true)
		case 3: // lives on beside the next
			w.look(first)
			w.look(second)
			w.look(first)
		}
		w.look(second)
		w.deliver(true)
		w.deliver(false)
		if len(w.runs) != minute {
			t.Fatalf("after %d minutes there are %d runs", minute, len(w.runs))
		}
	}
	for _, body := range w.runs {
		for _, part := range []string{`"startedBy":"events-rule/r"`, `"overrides":{"containerOverrides":[{"command":["x"],"name":"web"}]}`, `"launchType":"FARGATE"`, `"subnets":["s"]`, `"taskDefinition":"web"`} {
			if !strings.Contains(body, part) {
				t.Errorf("%s lacks %s", body, part)
			}
		}
	}
}

// TestMissedTicks: after a pause the newest missed tick runs, once; what is older than an hour, or from before the rule, does not.
func TestMissedTicks(t *testing.T) {
	w := newWorld(t)
	w.rule(func(r *model.EventRule) { r.Schedule = "cron(0/10 * * * ? *)" })
	w.look(w.engine())
	if n := len(w.outbox()); n != 0 {
		t.Errorf("%d runs from before the rule", n)
	}
	w.now = noon.Add(35 * time.Minute)
	w.look(w.engine())
	w.look(w.engine())
	if all := w.outbox(); len(all) != 1 || !all[0].Created.Equal(noon.Add(30*time.Minute)) {
		t.Errorf("after a pause %+v", all)
	}
	w.rule(func(r *model.EventRule) {
		r.Schedule, r.Name, r.ChangedAt = "cron(0 12 * * ? *)", "daily", noon.Add(-24*time.Hour)
	})
	w.now = noon.Add(90 * time.Minute)
	w.look(w.engine())
	for _, d := range w.outbox() {
		if d.Created.Equal(noon) {
			t.Error("what was missed for longer than an hour runs")
		}
	}
	w.rule(func(r *model.EventRule) { r.Name, r.State = "off", "DISABLED" })
	before := len(w.outbox())
	w.now = w.now.Add(5 * time.Second)
	w.look(w.engine())
	if len(w.outbox()) != before {
		t.Error("a disabled rule runs")
	}
}

func (w *world) schedule(change func(*model.Schedule)) {
	s := &model.Schedule{Group: "default", Name: "s", ARN: "arn:s", Timezone: "UTC", State: "ENABLED", Window: schtypes.FlexibleTimeWindow{Mode: "OFF"}, After: "NONE", CreatedAt: w.now, ChangedAt: w.now,
		Target: schtypes.Target{Arn: new("arn:aws:logs:us-east-1:000000000000:log-group:g"), RoleArn: new("r"), Input: new("hello"), RetryPolicy: &schtypes.RetryPolicy{MaximumRetryAttempts: new(int32(2))}}}
	change(s)
	w.put(func(tx store.Tx) { store.Schedules.Put(tx, s) })
}

func TestSchedules(t *testing.T) {
	w := newWorld(t)
	w.schedule(func(s *model.Schedule) {
		s.Name, s.Expression, s.Timezone, s.After = "once", "at(2026-11-21T13:30:00)", "Europe/Berlin", "DELETE"
	})
	w.schedule(func(s *model.Schedule) {
		s.Name, s.Expression, s.End = "hourly", "rate(1 hour)", noon.Add(90*time.Minute)
	})
	w.schedule(func(s *model.Schedule) {
		s.Name, s.Expression, s.Window = "flexible", "cron(0 13 * * ? *)", schtypes.FlexibleTimeWindow{Mode: "FLEXIBLE", MaximumWindowInMinutes: new(int32(15))}
	})
	count := map[string]int{}
	for range 3 * 60 {
		w.look(w.engine())
		for _, d := range w.outbox() {
			count[fmt.Sprintf("%s %s", d.Source, d.Created.UTC().Format("15:04"))]++
			if d.Body != "hello" || d.Most != 3 || d.Kind != KindLogs {
				t.Fatalf("%+v", d)
			}
		}
		w.deliver(false)
		w.now = w.now.Add(time.Minute)
	}
	want := map[string]int{"arn:s 12:30": 1, "arn:s 12:00": 1, "arn:s 13:00": 2}
	for k, n := range want {
		if count[k] != n {
			t.Errorf("%s: %d runs, want %d", k, count[k], n)
		}
	}
	if len(count) != len(want) {
		t.Errorf("runs %v", count)
	}
	w.s.View(func(r store.Reader) {
		if _, ok := store.Schedules.Get(r, "default/once"); ok {
			t.Error("a schedule that is over was not deleted")
		}
		if _, ok := store.Schedules.Get(r, "default/hourly"); !ok {
			t.Error("one that was to stay is gone")
		}
	})
}

// TestTaskEvents: every change of a task that is seen reaches the rules that it fits, in order, and once, also after a change of the leader.
func TestTaskEvents(t *testing.T) {
	w := newWorld(t)
	w.rule(func(r *model.EventRule) {
		r.Schedule, r.Pattern = "", `{"source":["aws.ecs"],"detail-type":["ECS Task State Change"],"detail":{"lastStatus":["STOPPED","RUNNING"]}}`
		r.Targets = []ebtypes.Target{{Id: new("h"), Arn: new("arn:berth:webhook:::http://127.0.0.1:1/"), InputTransformer: &ebtypes.InputTransformer{InputPathsMap: map[string]string{"s": "$.detail.lastStatus", "v": "$.detail.version"},
			InputTemplate: new(`{"text":"it is <s>","status":<s>,"version":<v>}`)}}}
	})
	w.now = w.now.Add(time.Second)
	e := w.engine()
	task := func(version int64, status model.TaskStatus) store.Change {
		row := &model.Task{ID: "1", ARN: "arn:task/1", Version: version, CreatedAt: w.now, Observed: model.Observed{Status: status}}
		w.put(func(tx store.Tx) { store.Tasks.Put(tx, row) })
		return store.Change{Table: store.Tasks.Name(), Key: "1", New: row}
	}
	tell := func(e *Engine, all bool, changes ...store.Change) {
		t.Helper()
		w.now = w.now.Add(time.Second)
		if err := e.tellOf(t.Context(), store.Batch{Changes: changes}, all, noon); err != nil {
			t.Fatal(err)
		}
	}
	tell(e, false, task(1, model.Pending))
	running := task(2, model.Running)
	tell(e, false, running)
	tell(e, false, running) // again
	tell(w.engine(), true)  // another leader
	task(3, model.Stopped)  // while none lived
	tell(w.engine(), true)
	tell(w.engine(), true)
	all := w.outbox()
	if len(all) != 2 || all[0].Queue == "" || all[0].Queue != all[1].Queue {
		t.Fatalf("%d deliveries: %+v", len(all), all)
	}
	if all[0].Body != `{"text":"it is RUNNING","status":"RUNNING","version":2}` || all[1].Body != `{"text":"it is STOPPED","status":"STOPPED","version":3}` {
		t.Errorf("%s, %s", all[0].Body, all[1].Body)
	}
	tell(e, false, store.Change{Table: store.Tasks.Name(), Key: "1"})
	w.s.View(func(r store.Reader) {
		for n := range store.Tolds.Scan(r, "") {
			t.Errorf("%+v is still noted", n)
		}
	})
	tell(e, false, store.Change{Table: store.Deployments.Name(), New: &model.Deployment{ID: "ecs-svc/1", Cluster: "c", Service: "s", RolloutState: "FAILED", RolloutStateReason: "why"}})
	if len(w.outbox()) != 2 {
		t.Error("a deployment's event fits a task's pattern")
	}
}

func TestPayload(t *testing.T) {
	const event = `{"detail":{"name":"a \"b\"","list":[{"x":1},{"x":2}],"n":5}}`
	for want, target := range map[string]ebtypes.Target{
		event:                                    {},
		`{"a":1}`:                                {Input: new(`{"a":1}`)},
		`{"x":2}`:                                {InputPath: new("$.detail.list[1]")},
		`null`:                                   {InputPath: new("$.detail.list[7].x")},
		`"a \"b\""`:                              {InputPath: new(`$['detail']["name"]`)},
		`{"t":"n is 5 for a \"b\"","e":{"x":1}}`: {InputTransformer: &ebtypes.InputTransformer{InputPathsMap: map[string]string{"n": "$.detail.n", "m": "$.detail.name", "e": "$.detail.list[0]"}, InputTemplate: new(`{"t":"n is <n> for <m>","e":<e>}`)}},
		`"5 of <x>"`:                             {InputTransformer: &ebtypes.InputTransformer{InputPathsMap: map[string]string{"n": "$.detail.n"}, InputTemplate: new(`"<n> of <x>"`)}},
	} {
		if got, err := Payload(target, event); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	for _, bad := range []string{"detail", "$.", "$[x]", "$..a"} {
		if _, err := Path(event, bad); err == nil {
			t.Errorf("%q is a path", bad)
		}
	}
}

package scaling

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// flat is a metric that has one value every period.
type flat float64

func (f flat) Query(_ context.Context, q metrics.Query) ([]metrics.Result, error) {
	var r metrics.Result
	for at := q.From; at.Before(q.To); at = at.Add(q.Period) {
		r.Times, r.Values, r.Counts = append(r.Times, at), append(r.Values, float64(f)), append(r.Counts, 1)
	}
	return []metrics.Result{r}, nil
}

// TestScaleIn: a small load takes tasks away when the low alarm says so, then waits for the cooldown; a scheduled action sets bounds at its
// time, once; what belongs to a service that is gone goes too.
func TestScaleIn(t *testing.T) {
	ctx, now := context.Background(), time.Date(2026, 11, 21, 12, 0, 30, 0, time.UTC)
	st := mem.New(store.Schema())
	s := &Scaler{Store: st, Series: flat(10), Pace: model.PaceAWS, Now: func() time.Time { return now }, NewID: func() string { return fmt.Sprintf("%032x", 7) }, Log: slog.New(slog.DiscardHandler)}
	update := func(f func(store.Tx)) {
		t.Helper()
		if err := st.Update(ctx, func(tx store.Tx) error { f(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	const id = "service/shop/web"
	metric := func(periods int32, comparison cwtypes.ComparisonOperator) *model.MetricAlarm {
		return &model.MetricAlarm{Namespace: new("shop"), MetricName: new("Load"), Statistic: cwtypes.StatisticAverage, Period: new(int32(60)), EvaluationPeriods: &periods, Comparison: comparison, Threshold: new(50.0)}
	}
	running := func(tx store.Tx, n int) {
		for i := range 8 {
			task := &model.Task{ID: fmt.Sprint("t", i), Cluster: "shop", Service: "web", NodeID: "n"}
			task.Observed.Status = model.Running
			if i >= n {
				task.Observed.Status, task.Accounted = model.Stopped, true
			}
			store.Tasks.Put(tx, task)
		}
	}
	update(func(tx store.Tx) {
		store.Services.Put(tx, &model.Service{Cluster: "shop", Name: "web", Status: "ACTIVE", DesiredCount: 8})
		store.ScalableTargets.Put(tx, &model.ScalableTarget{ResourceID: id, Min: 1, Max: 9})
		store.ScalingPolicies.Put(tx, &model.ScalingPolicy{ResourceID: id, Name: "load", ARN: "arn:p", High: "high", Low: "low",
			Tracking: &types.TargetTrackingScalingPolicyConfiguration{TargetValue: new(20.0)}})
		store.Alarms.Put(tx, &model.Alarm{Name: "high", State: "OK", Metric: metric(3, cwtypes.ComparisonOperatorGreaterThanThreshold)})
		store.Alarms.Put(tx, &model.Alarm{Name: "low", State: "ALARM", Metric: metric(15, cwtypes.ComparisonOperatorLessThanThreshold)})
		running(tx, 8)
	})
	desired := func() (n int32) {
		t.Helper()
		if err := s.Look(ctx); err != nil {
			t.Fatal(err)
		}
		st.View(func(r store.Reader) {
			svc, _ := store.Services.Get(r, "shop/web")
			n = svc.DesiredCount
		})
		return n
	}
	want := func(what string, n int32) {
		t.Helper()
		if got := desired(); got != n {
			t.Fatalf("%s: %d tasks, want %d", what, got, n)
		}
	}
	want("half the load that may be", 4)
	update(func(tx store.Tx) { running(tx, 4) })
	now = now.Add(4 * time.Minute)
	want("fulfilled", 4)
	now = now.Add(4 * time.Minute)
	want("cooling", 4)
	now = now.Add(20 * time.Minute)
	want("cool", 2)
	update(func(tx store.Tx) {
		store.ScalingActions.Put(tx, &model.ScalingAction{ResourceID: id, Name: "day", Schedule: "at(2026-11-21T13:00:00)", Min: new(int32(5)), ChangedAt: now})
	})
	want("not yet", 2)
	now = time.Date(2026, 11, 21, 13, 0, 1, 0, time.UTC)
	desired() // the bounds
	want("the least", 5)
	var causes []string
	st.View(func(r store.Reader) {
		for a := range store.ScalingActivities.Scan(r, id+"/") {
			causes = append(causes, a.Cause)
		}
	})
	if len(causes) != 4 || causes[0] != "minimum capacity was set to 5" || causes[1] != "scheduled action name day was triggered" {
		t.Errorf("%q", causes)
	}
	update(func(tx store.Tx) { store.Services.Delete(tx, "shop/web") })
	if err := s.Look(ctx); err != nil {
		t.Fatal(err)
	}
	st.View(func(r store.Reader) {
		for p := range store.ScalingPolicies.Scan(r, "") {
			t.Errorf("left: %+v", p)
		}
	})
}

// Package cloudwatch is the CloudWatch API: metrics over the one store of series, and alarms, which serve/alarms judges.
package cloudwatch

import (
	"context"
	"encoding/base64"
	"log/slog"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store  store.Store
	Scope  model.Scope
	Series Series
	// Put takes samples of clients: here, and on the other servers.
	Put func([]model.Sample)
	// Transit brings an alarm to a state, with its history and its actions (serve/alarms).
	Transit func(tx store.Tx, a *model.Alarm, state, reason, data string)
	Now     func() time.Time
	Log     *slog.Logger
}

// Series are the metrics: metrics.Series.
type Series interface {
	Query(ctx context.Context, q metrics.Query) ([]metrics.Result, error)
	List(namespace string) []metrics.Metric
	Room(batch []model.Sample) error
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "monitoring", Actions: "cloudwatch", Protocol: wire.Query, Shape: "GraniteServiceVersion20100801", Version: "2010-08-01",
		Namespace: "http://monitoring.amazonaws.com/doc/2010-08-01/", Types: sdk.TypeRegistry, Asks: a.asks}
	wire.Handle(s, a.putMetricData)
	wire.Handle(s, a.listMetrics)
	wire.Handle(s, a.getMetricStatistics)
	wire.Handle(s, a.getMetricData)
	wire.Handle(s, a.putMetricAlarm)
	wire.Handle(s, a.putCompositeAlarm)
	wire.Handle(s, a.describeAlarms)
	wire.Handle(s, a.describeAlarmsForMetric)
	wire.Handle(s, a.describeAlarmHistory)
	wire.Handle(s, a.deleteAlarms)
	wire.Handle(s, a.setAlarmState)
	wire.Handle(s, a.enableAlarmActions)
	wire.Handle(s, a.disableAlarmActions)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	return s
}

// The refusals, in the SDK's types, which know their names in either protocol.

func invalid(format string, args ...any) error {
	return &types.InvalidParameterValueException{Message: new(model.Errorf("", format, args...).Message)}
}

func conflicting(format string, args ...any) error {
	return &types.InvalidParameterCombinationException{Message: new(model.Errorf("", format, args...).Message)}
}

func missing(name string) error {
	return &types.MissingRequiredParameterException{Message: new("The parameter " + name + " is required.")}
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// page cuts a list, whose items are known by their keys in rising order, behind the one that token names.
func page[T any](all []T, key func(T) string, token *string, size int) ([]T, *string, error) {
	after := ""
	if token != nil {
		b, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil || len(b) == 0 {
			return nil, nil, &types.InvalidNextToken{Message: new("The NextToken is not valid.")}
		}
		after = string(b)
	}
	begin := 0
	for begin < len(all) && after != "" && key(all[begin]) <= after {
		begin++
	}
	all = all[begin:]
	if len(all) <= size {
		return all, nil, nil
	}
	all = all[:size]
	next := base64.RawURLEncoding.EncodeToString([]byte(key(all[size-1])))
	return all, &next, nil
}

func (a *api) alarmARN(name string) string { return a.Scope.ARN("cloudwatch", "alarm:"+name) }

// asks tells what a request asks to be allowed.
func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	action := "cloudwatch:" + op
	on := func(arns ...string) []wire.Ask { return []wire.Ask{{Action: action, Resources: arns}} }
	names := func(all []string) []wire.Ask {
		var arns []string
		for _, n := range all {
			arns = append(arns, a.alarmARN(n))
		}
		return on(arns...)
	}
	switch in := in.(type) {
	case *sdk.PutMetricDataInput:
		return []wire.Ask{{Action: action, Context: map[string][]string{"cloudwatch:namespace": {deref(in.Namespace)}}}}
	case *sdk.PutMetricAlarmInput:
		return []wire.Ask{{Action: action, Resources: []string{a.alarmARN(deref(in.AlarmName))}, Context: wire.RequestTags(in)}}
	case *sdk.PutCompositeAlarmInput:
		return []wire.Ask{{Action: action, Resources: []string{a.alarmARN(deref(in.AlarmName))}, Context: wire.RequestTags(in)}}
	case *sdk.DeleteAlarmsInput:
		return names(in.AlarmNames)
	case *sdk.EnableAlarmActionsInput:
		return names(in.AlarmNames)
	case *sdk.DisableAlarmActionsInput:
		return names(in.AlarmNames)
	case *sdk.SetAlarmStateInput:
		return on(a.alarmARN(deref(in.AlarmName)))
	case *sdk.DescribeAlarmsInput, *sdk.DescribeAlarmHistoryInput, *sdk.DescribeAlarmsForMetricInput:
		return on(a.alarmARN("*"))
	case *sdk.TagResourceInput:
		return []wire.Ask{{Action: action, Resources: []string{deref(in.ResourceARN)}, Context: wire.RequestTags(in)}}
	case *sdk.UntagResourceInput:
		return []wire.Ask{{Action: action, Resources: []string{deref(in.ResourceARN)}, Context: map[string][]string{"aws:TagKeys": in.TagKeys}}}
	case *sdk.ListTagsForResourceInput:
		return on(deref(in.ResourceARN))
	}
	return nil
}

// alarmName is the name in an alarm's ARN.
func (a *api) alarmName(arn string) (string, error) {
	name, ok := strings.CutPrefix(arn, a.alarmARN(""))
	if !ok || name == "" {
		return "", invalid("Invalid value for parameter ResourceARN: %.200s", arn)
	}
	return name, nil
}

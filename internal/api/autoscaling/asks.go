package autoscaling

import (
	"context"
	"reflect"
	"strings"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/store"
)

// asks: what changes or tags a target is an action on it, and lists are on all.
func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	ask := wire.Ask{Action: "application-autoscaling:" + op, Context: wire.RequestTags(in)}
	v := reflect.ValueOf(in).Elem()
	for member, key := range map[string]string{"ServiceNamespace": "service-namespace", "ScalableDimension": "scalable-dimension"} {
		if f := v.FieldByName(member); f.IsValid() && f.String() != "" {
			ask.Context["application-autoscaling:"+key] = []string{f.String()}
		}
	}
	if arn := wire.Text(in, "ResourceARN"); arn != "" {
		ask.Resources = []string{arn}
	} else if id := wire.Text(in, "ResourceId"); id != "" && !strings.HasPrefix(op, "Describe") {
		arn := a.Scope.ARN("application-autoscaling", "scalable-target/*") // one that is about to be made
		a.Store.View(func(r store.Reader) {
			if t, ok := store.ScalableTargets.Get(r, id); ok {
				arn = t.ARN
				for k, v := range t.Tags {
					ask.Context["aws:ResourceTag/"+k] = []string{v}
				}
			}
		})
		ask.Resources = []string{arn}
	}
	asks := []wire.Ask{ask}
	if tags := v.FieldByName("Tags"); op == "RegisterScalableTarget" && tags.Len() > 0 {
		asks = append(asks, wire.Ask{Action: "application-autoscaling:TagResource", Resources: ask.Resources, Context: ask.Context})
	}
	return asks
}

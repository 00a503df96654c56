// Package autoscaling is Application Auto Scaling's API for ECS services: scalable targets, policies of target tracking and of steps,
// scheduled actions and activities. serve/scaling acts on what is stored here. Predictive policies are kept, and forecasts refused by name.
package autoscaling

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store store.Store
	Scope model.Scope
	Now   func() time.Time
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "application-autoscaling", Protocol: wire.JSON11, Target: "AnyScaleFrontendService", Asks: a.asks}
	wire.Handle(s, a.registerScalableTarget)
	wire.Handle(s, a.describeScalableTargets)
	wire.Handle(s, a.deregisterScalableTarget)
	wire.Handle(s, a.putScalingPolicy)
	wire.Handle(s, a.describeScalingPolicies)
	wire.Handle(s, a.deleteScalingPolicy)
	wire.Handle(s, a.putScheduledAction)
	wire.Handle(s, a.describeScheduledActions)
	wire.Handle(s, a.deleteScheduledAction)
	wire.Handle(s, a.describeScalingActivities)
	wire.Handle(s, a.getPredictiveScalingForecast)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	return s
}

func invalid(format string, args ...any) error {
	return model.Errorf("ValidationException", format, args...)
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func digits(n int) string {
	b := make([]byte, n/2)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func uuid() string {
	h := digits(32)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

const dimension = types.ScalableDimensionECSServiceDesiredCount

var resourceForm = regexp.MustCompile(`^service/[a-zA-Z0-9_-]{1,255}/[a-zA-Z0-9_-]{1,255}$`)

// resource checks what names a scalable target: a service of ECS.
func resource(namespace types.ServiceNamespace, id *string, d types.ScalableDimension) (string, error) {
	switch {
	case namespace == "" || !slices.Contains(namespace.Values(), namespace):
		return "", invalid("1 validation error detected: Value '%.50s' at 'serviceNamespace' failed to satisfy constraint: Member must satisfy enum value set", namespace)
	case namespace != types.ServiceNamespaceEcs:
		return "", invalid("Berth scales the services of ECS; the service namespace %s is not supported.", namespace)
	case d != dimension:
		return "", invalid("Unsupported service namespace, resource type or scalable dimension: %s, %.100s, %.50s", namespace, value(id), d)
	case !resourceForm.MatchString(value(id)):
		return "", invalid("Invalid resource ID for service namespace ecs: %.200s", value(id))
	}
	return *id, nil
}

// listed checks what a list is asked by; none tells that nothing can be in it.
func listed(namespace types.ServiceNamespace, d types.ScalableDimension) (none bool, err error) {
	if namespace == "" || !slices.Contains(namespace.Values(), namespace) {
		return false, invalid("1 validation error detected: Value '%.50s' at 'serviceNamespace' failed to satisfy constraint: Member must satisfy enum value set", namespace)
	}
	return namespace != types.ServiceNamespaceEcs || d != "" && d != dimension, nil
}

func target(r store.Reader, id string) (*model.ScalableTarget, error) {
	t, ok := store.ScalableTargets.Get(r, id)
	if !ok {
		return nil, model.Errorf("ObjectNotFoundException", "No scalable target found for service namespace: ecs, resource ID: %s, scalable dimension: %s", id, dimension)
	}
	return t, nil
}

// service finds the service of a resource id.
func service(r store.Reader, id string) (*model.Service, bool) {
	s, ok := store.Services.Get(r, strings.TrimPrefix(id, "service/"))
	return s, ok && s.Status == "ACTIVE"
}

// page cuts a list; tokens are numbers of items.
func page[T any](all []T, size int, most *int32, token *string) ([]T, *string, error) {
	if most != nil {
		if *most < 1 {
			return nil, nil, invalid("MaxResults must be at least 1.")
		}
		size = min(size, int(*most))
	}
	from := 0
	if token != nil {
		n, err := strconv.Atoi(*token)
		if err != nil || n < 0 {
			return nil, nil, model.Errorf("InvalidNextTokenException", "The next token is not valid.")
		}
		from = min(n, len(all))
	}
	if len(all)-from > size {
		return all[from : from+size], new(strconv.Itoa(from + size)), nil
	}
	return append([]T{}, all[from:]...), nil, nil
}

// view reads the newest state.
func view[T any](a *api, f func(store.Reader) (T, error)) (out T, err error) {
	a.Store.View(func(r store.Reader) { out, err = f(r) })
	return out, err
}

func (a *api) getPredictiveScalingForecast(context.Context, *sdk.GetPredictiveScalingForecastInput) (*sdk.GetPredictiveScalingForecastOutput, error) {
	return nil, invalid("Berth makes no forecasts: GetPredictiveScalingForecast is not supported.")
}

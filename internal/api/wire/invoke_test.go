package wire_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
)

// doors lets nobody do what it lists, and notes what was asked.
type doors struct {
	closed string
	asked  []string
}

func (d *doors) Allow(c wire.Caller, ask wire.Ask) error {
	d.asked = append(d.asked, ask.Action)
	if ask.Action == d.closed {
		return model.Errorf("AccessDeniedException", "no %s for %s", ask.Action, c.ARN)
	}
	return nil
}

func invoker(d *doors) (*wire.Endpoint, *wire.Service) {
	js := &wire.Service{Name: "ecs", Protocol: wire.JSON11, Target: "AmazonEC2ContainerServiceV20141113"}
	wire.Handle(js, func(ctx context.Context, in *ecs.DescribeClustersInput) (*ecs.DescribeClustersOutput, error) {
		if len(in.Clusters) == 0 {
			return nil, nil
		}
		if in.Clusters[0] == "panic" {
			panic("ouch")
		}
		if in.Clusters[0] == "fault" {
			return nil, errors.New("the disk said no")
		}
		return nil, model.Errorf("ClusterNotFoundException", "%s of %s", in.Clusters[0], wire.CallerFrom(ctx).ARN)
	})
	q := &wire.Service{Name: "elasticloadbalancing", Protocol: wire.Query, Version: "2015-12-01"}
	wire.Handle(q, func(_ context.Context, in *elb.CreateTargetGroupInput) (*elb.CreateTargetGroupOutput, error) {
		return &elb.CreateTargetGroupOutput{TargetGroups: []elbtypes.TargetGroup{{TargetGroupName: in.Name, Port: in.Port, Protocol: in.Protocol,
			HealthCheckEnabled: in.HealthCheckEnabled, Matcher: in.Matcher}}}, nil
	})
	return wire.NewEndpoint(wire.Config{Access: d, Services: []*wire.Service{js, q}}), js
}

func TestInvokeQueryServicesInJSON(t *testing.T) {
	e, _ := invoker(&doors{})
	out, err := e.Invoke(t.Context(), wire.Caller{}, "elasticloadbalancing", "CreateTargetGroup",
		[]byte(`{"Name":"web","Port":80,"Protocol":"HTTP","HealthCheckEnabled":true,"Matcher":{"HttpCode":"200"},"Tags":[{"Key":"a","Value":"b"}]}`))
	want := `{"TargetGroups":[{"HealthCheckEnabled":true,"Matcher":{"HttpCode":"200"},"Port":80,"Protocol":"HTTP","TargetGroupName":"web"}]}`
	if err != nil || string(out) != want {
		t.Errorf("%s, %v; want %s", out, err, want)
	}
}

func TestInvokeAsksAsASignedRequestDoes(t *testing.T) {
	d := &doors{closed: "ecs:DescribeClusters"}
	e, s := invoker(d)
	caller := wire.Caller{ARN: "arn:aws:iam::000000000000:user/ann"}
	_, err := e.Invoke(t.Context(), caller, "ecs", "DescribeClusters", []byte(`{}`))
	if model.ErrorCode(err) != "AccessDeniedException" {
		t.Errorf("%v", err)
	}
	s.Asks = func(_ context.Context, op string, in any) []wire.Ask {
		return []wire.Ask{{Action: "ecs:Other", Resources: in.(*ecs.DescribeClustersInput).Clusters}}
	}
	if _, err = e.Invoke(t.Context(), caller, "ecs", "DescribeClusters", []byte(`{"clusters":["x"]}`)); model.ErrorCode(err) != "ClusterNotFoundException" ||
		!strings.Contains(err.Error(), caller.ARN) || d.asked[len(d.asked)-1] != "ecs:Other" {
		t.Errorf("%v, asked %v", err, d.asked)
	}
}

// What is wrong with a call is refused by name; a fault's own words stay in the log.
func TestInvokeRefuses(t *testing.T) {
	e, _ := invoker(&doors{})
	for _, c := range []struct{ service, op, in, code string }{
		{"ecs", "DescribeClusters", `{`, "SerializationException"},
		{"ecs", "DescribeClusters", `{"clusters":"x"}`, "SerializationException"},
		{"ecs", "DescribeClusters", `{"clusters":["panic"]}`, "InternalFailure"},
		{"ecs", "DescribeClusters", `{"clusters":["fault"]}`, "InternalFailure"},
		{"ecs", "RunTask", `{}`, "UnsupportedOperationException"},
		{"ecs", "Nonsense", `{}`, "UnknownOperationException"},
		{"braket", "X", `{}`, "UnsupportedOperationException"},
		{"elasticloadbalancing", "CreateTargetGroup", `{"Port":"many"}`, "SerializationException"},
		{"elasticloadbalancing", "CreateTargetGroup", `[]`, "SerializationException"},
		{"elasticloadbalancing", "CreateTargetGroup", `{"Tags":{}}`, "SerializationException"},
	} {
		_, err := e.Invoke(t.Context(), wire.Caller{}, c.service, c.op, []byte(c.in))
		if model.ErrorCode(err) != c.code || strings.Contains(err.Error(), "disk") || strings.Contains(err.Error(), "ouch") {
			t.Errorf("%s %s: %v, want %s", c.op, c.in, err, c.code)
		}
	}
	if out, err := e.Invoke(t.Context(), wire.Caller{}, "ecs", "DescribeClusters", nil); err != nil || string(out) != "{}" {
		t.Errorf("an empty answer: %s, %v", out, err)
	}
}

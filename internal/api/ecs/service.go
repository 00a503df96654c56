package ecs

import (
	"context"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/view"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxServices is how many services DescribeServices takes.
const maxServices = 10

// state reads what a service's shapes are drawn from.
func state(r store.Reader, svc *model.Service) *view.ServiceState {
	s := &view.ServiceState{
		Service: svc, Revisions: map[string]*model.ServiceRevision{},
		Deployments: slices.Collect(store.Deployments.Scan(r, svc.Key()+"/")), Events: store.EventsOf(r, svc),
	}
	for rev := range store.ServiceRevisions.Scan(r, svc.Key()+"/") {
		s.Revisions[rev.ID] = rev
	}
	for t := range store.Tasks.By(r, store.ByOpen, svc.Key()) {
		if !t.Ended() {
			s.Tasks = append(s.Tasks, t)
		}
	}
	return s
}

func (a *api) drawService(r store.Reader, svc *model.Service, tags bool) types.Service {
	drawn := view.Service(a.scope, state(r, svc))
	if tags {
		drawn.Tags = filled(svc.Tags)
	}
	return drawn
}

func (a *api) describeServices(_ context.Context, in *sdk.DescribeServicesInput) (*sdk.DescribeServicesOutput, error) {
	switch n := len(in.Services); {
	case n == 0:
		return nil, invalid("Services cannot be empty.")
	case n > maxServices:
		return nil, tooMany("Services", maxServices)
	}
	if err := included(in.Include, types.ServiceField("").Values()); err != nil {
		return nil, err
	}
	out := &sdk.DescribeServicesOutput{Services: []types.Service{}, Failures: []types.Failure{}}
	tags := slices.Contains(in.Include, types.ServiceFieldTags)
	err := a.viewCluster(a.anyCluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		eachOnce(in.Services, func(ref string) (*model.Service, string, bool) {
			if svc, err := a.service(r, c.Name, ref); err == nil {
				return svc, svc.ARN, true
			}
			return nil, arnOf(ref, func(id string) string { return a.scope.ServiceARN(c.Name, id) }), false
		}, func(svc *model.Service) {
			out.Services = append(out.Services, a.drawService(r, svc, tags))
		}, func(arn string) {
			out.Failures = append(out.Failures, failure(arn, missing))
		})
		return nil
	})
	return out, err
}

func (a *api) listServices(_ context.Context, in *sdk.ListServicesInput) (*sdk.ListServicesOutput, error) {
	if err := oneOf("launch type", in.LaunchType, launchTypes); err != nil {
		return nil, err
	}
	if err := oneOf("Scheduling strategy", in.SchedulingStrategy, types.SchedulingStrategy("").Values()); err != nil {
		return nil, err
	}
	if m := in.ResourceManagementType; m != "" && !slices.Contains(m.Values(), m) {
		return nil, invalid("Invalid resource management type.")
	}
	arns := []string{}
	err := a.viewCluster(a.cluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		for s := range store.Services.By(r, store.ByCluster, c.Name) {
			if s.Status == active && listedService(r, s, in) {
				arns = append(arns, s.ARN)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	arns, next, err := page(arns, itself, false, in.NextToken, in.MaxResults, 10, 100)
	if err != nil {
		return nil, err
	}
	return &sdk.ListServicesOutput{ServiceArns: arns, NextToken: next}, nil
}

func listedService(r store.Reader, s *model.Service, in *sdk.ListServicesInput) bool {
	if in.SchedulingStrategy != "" && in.SchedulingStrategy != s.SchedulingStrategy {
		return false
	}
	if in.ResourceManagementType != "" && in.ResourceManagementType != types.ResourceManagementTypeCustomer {
		return false
	}
	if in.LaunchType == "" {
		return true
	}
	rev, ok := store.ServiceRevisions.Get(r, s.Key()+"/"+s.RevisionID)
	return ok && rev.LaunchType == in.LaunchType
}

// deleteService makes a service DRAINING with a desired count of 0; control ends its tasks and makes it INACTIVE.
func (a *api) deleteService(ctx context.Context, in *sdk.DeleteServiceInput) (*sdk.DeleteServiceOutput, error) {
	if value(in.Service) == "" {
		return nil, invalid("Service should not be null or empty.")
	}
	force := in.Force != nil && *in.Force
	var out types.Service
	err := a.store.Update(ctx, func(tx store.Tx) error {
		c, err := a.cluster(tx, in.Cluster)
		if err != nil {
			return err
		}
		svc, err := a.service(tx, c.Name, *in.Service)
		if err != nil {
			return model.Errorf("ServiceNotFoundException", "") // AWS says no more here
		}
		switch svc.Status {
		case inactive:
			return model.Errorf("ServiceNotActiveException", "Service was not ACTIVE.")
		case active:
			if err := deletable(state(tx, svc), force); err != nil {
				return err
			}
			changed := *svc
			changed.Status, changed.DesiredCount = draining, 0
			svc = &changed
			store.Services.Put(tx, svc)
			store.Idempotencies.Delete(tx,
				(&model.Idempotency{Operation: "CreateService", Cluster: c.Name, Token: svc.Name}).Key())
		}
		out = a.drawService(tx, svc, false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteServiceOutput{Service: &out}, nil
}

func deletable(s *view.ServiceState, force bool) error {
	if force {
		return nil
	}
	if s.Service.DesiredCount > 0 {
		return invalid("The service cannot be stopped while it is scaled above 0.")
	}
	if len(s.Live()) > 1 {
		return invalid("The service cannot be stopped while deployments are active.")
	}
	return nil
}

package ecs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/view"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxDeployments is how many service deployments or revisions one Describe takes.
const maxDeployments = 20

func (a *api) listServiceDeployments(
	_ context.Context, in *sdk.ListServiceDeploymentsInput,
) (*sdk.ListServiceDeploymentsOutput, error) {
	if value(in.Service) == "" {
		return nil, invalid("Service should not be null or empty.")
	}
	for _, s := range in.Status {
		if !slices.Contains(s.Values(), s) {
			return nil, invalid("Invalid service deployment status '%s'.", s)
		}
	}
	var list []*model.Deployment
	err := a.viewCluster(a.cluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		svc, err := a.service(r, c.Name, *in.Service)
		if err != nil {
			return err
		}
		for d := range store.Deployments.Scan(r, svc.Key()+"/") {
			if d.ServiceDeploymentID != "" && listedDeployment(d, in) {
				list = append(list, d)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	key := func(d *model.Deployment) string { return fmt.Sprintf("%020d/%s", d.CreatedAt.UnixNano(), d.ID) }
	slices.SortFunc(list, func(x, y *model.Deployment) int { return strings.Compare(key(y), key(x)) })
	list, next, err := page(list, key, true, in.NextToken, in.MaxResults, 20, 100)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListServiceDeploymentsOutput{ServiceDeployments: []types.ServiceDeploymentBrief{}, NextToken: next}
	for _, d := range list {
		out.ServiceDeployments = append(out.ServiceDeployments, view.DeploymentBrief(a.scope, d))
	}
	return out, nil
}

func listedDeployment(d *model.Deployment, in *sdk.ListServiceDeploymentsInput) bool {
	if len(in.Status) > 0 && !slices.Contains(in.Status, view.DeploymentStatus(d)) {
		return false
	}
	if in.CreatedAt == nil {
		return true
	}
	after, before := in.CreatedAt.After, in.CreatedAt.Before
	return (after == nil || !d.CreatedAt.Before(*after)) && (before == nil || !d.CreatedAt.After(*before))
}

// ofService cuts an ARN of kind "<kind>/<cluster>/<service>/<id>" into the service's key and the id.
func (a *api) ofService(kind, arn string) (service, id string, ok bool) {
	rest, ok := strings.CutPrefix(arn, a.scope.ARN("ecs", kind+"/"))
	i := strings.LastIndexByte(rest, '/')
	if !ok || i < 0 || strings.Count(rest, "/") != 2 {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}

// serviceDeployment finds a service deployment by its ARN, with the state of its service.
func (a *api) serviceDeployment(r store.Reader, arn string) (*model.Deployment, *view.ServiceState, bool) {
	key, id, ok := a.ofService("service-deployment", arn)
	if !ok || id == "" {
		return nil, nil, false
	}
	svc, ok := store.Services.Get(r, key)
	if !ok {
		return nil, nil, false
	}
	s := state(r, svc)
	i := slices.IndexFunc(s.Deployments, func(d *model.Deployment) bool { return d.ServiceDeploymentID == id })
	if i < 0 {
		return nil, nil, false
	}
	return s.Deployments[i], s, true
}

func (a *api) describeServiceDeployments(
	_ context.Context, in *sdk.DescribeServiceDeploymentsInput,
) (*sdk.DescribeServiceDeploymentsOutput, error) {
	if n := len(in.ServiceDeploymentArns); n == 0 || n > maxDeployments {
		return nil, invalid("serviceDeploymentArns must have between 1 and %d elements.", maxDeployments)
	}
	out := &sdk.DescribeServiceDeploymentsOutput{ServiceDeployments: []types.ServiceDeployment{}, Failures: []types.Failure{}}
	a.store.View(func(r store.Reader) {
		for _, arn := range in.ServiceDeploymentArns {
			d, s, ok := a.serviceDeployment(r, arn)
			if !ok {
				out.Failures = append(out.Failures, failure(arn, missing))
				continue
			}
			out.ServiceDeployments = append(out.ServiceDeployments, view.ServiceDeployment(a.scope, s, d))
		}
	})
	return out, nil
}

// oneService returns the key of the service whose revisions all are.
func (a *api) oneService(revisions []string) (string, error) {
	first, _, _ := a.ofService("service-revision", revisions[0])
	for _, arn := range revisions {
		service, _, ok := a.ofService("service-revision", arn)
		if !ok {
			return "", invalid("The ServiceRevision ARN is invalid.")
		}
		if service != first {
			return "", invalid("Cross service requests are not allowed. All requested service revisions must be for a single service")
		}
	}
	return first, nil
}

func (a *api) describeServiceRevisions(
	_ context.Context, in *sdk.DescribeServiceRevisionsInput,
) (*sdk.DescribeServiceRevisionsOutput, error) {
	switch n := len(in.ServiceRevisionArns); {
	case n == 0:
		return nil, invalid("The Service ARN provided is invalid.")
	case n > maxDeployments:
		return nil, invalid("Service Revision ARN count cannot exceed %d", maxDeployments)
	}
	first, err := a.oneService(in.ServiceRevisionArns)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeServiceRevisionsOutput{ServiceRevisions: []types.ServiceRevision{}, Failures: []types.Failure{}}
	seen := map[string]bool{}
	a.store.View(func(r store.Reader) {
		s, ok := store.Services.Get(r, first)
		switch {
		case !ok:
			err = model.Errorf("ServiceNotFoundException", "Service not found.")
			return
		case s.Status == inactive:
			err = invalid("Cannot call DescribeServiceRevisions for a service that is INACTIVE")
			return
		}
		for _, arn := range in.ServiceRevisionArns {
			if seen[arn] {
				continue
			}
			seen[arn] = true
			service, id, _ := a.ofService("service-revision", arn)
			rev, ok := store.ServiceRevisions.Get(r, service+"/"+id)
			if !ok {
				out.Failures = append(out.Failures, failure(arn, missing))
				continue
			}
			out.ServiceRevisions = append(out.ServiceRevisions, a.drawRevision(r, rev))
		}
	})
	return out, err
}

func (a *api) drawRevision(r store.Reader, rev *model.ServiceRevision) types.ServiceRevision {
	var def *types.TaskDefinition
	if d, ok := a.revision(r, rev.TaskDefinition); ok {
		def = &d.Definition
	}
	digests := map[string]string{}
	for t := range store.Tasks.By(r, store.ByService, rev.Cluster+"/"+rev.Service) {
		if t.TaskDefinition != rev.TaskDefinition {
			continue
		}
		for _, c := range t.Observed.Containers {
			if c.ImageDigest != "" {
				digests[c.Name] = c.ImageDigest
			}
		}
	}
	return view.ServiceRevision(a.scope, rev, def, digests)
}

// stopServiceDeployment asks control to stop a deployment that is rolling out, or to roll it back.
func (a *api) stopServiceDeployment(
	ctx context.Context, in *sdk.StopServiceDeploymentInput,
) (*sdk.StopServiceDeploymentOutput, error) {
	kind := in.StopType
	if kind == "" {
		kind = types.StopServiceDeploymentStopTypeRollback
	}
	if !slices.Contains(kind.Values(), kind) {
		return nil, invalid("Invalid stop type '%s'. It must be ROLLBACK or ABORT.", kind)
	}
	arn := value(in.ServiceDeploymentArn)
	err := a.store.Update(ctx, func(tx store.Tx) error {
		d, _, ok := a.serviceDeployment(tx, arn)
		if !ok {
			return model.Errorf("ServiceDeploymentNotFoundException", "The service deployment was not found.")
		}
		if d.State != types.ServiceDeploymentStatusInProgress && d.State != types.ServiceDeploymentStatusPending {
			return &types.ConflictException{
				Message:     new("The service deployment cannot be stopped because its status is " + string(d.State) + "."),
				ResourceIds: []string{arn},
			}
		}
		if d.StopRequested == "" {
			changed := *d
			changed.StopRequested = kind
			store.Deployments.Put(tx, &changed)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.StopServiceDeploymentOutput{ServiceDeploymentArn: in.ServiceDeploymentArn}, nil
}

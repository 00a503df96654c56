package iam

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

const serviceRolePath = "/aws-service-role/"

// serviceRoles are the roles that AWS's services have for themselves, by the service's principal: the role's name, and AWS's policy.
var serviceRoles = map[string][2]string{
	"ecs.amazonaws.com":                                     {"AWSServiceRoleForECS", "AmazonECSServiceRolePolicy"},
	"ecs.application-autoscaling.amazonaws.com":             {"AWSServiceRoleForApplicationAutoScaling_ECSService", "AWSApplicationAutoscalingECSServicePolicy"},
	"elasticloadbalancing.amazonaws.com":                    {"AWSServiceRoleForElasticLoadBalancing", ""},
	"autoscaling.amazonaws.com":                             {"AWSServiceRoleForAutoScaling", "AutoScalingServiceRolePolicy"},
	"ecs-compute.amazonaws.com":                             {"AWSServiceRoleForECSCompute", ""},
	"replication.ecr.amazonaws.com":                         {"AWSServiceRoleForECRReplication", ""},
	"pullthroughcache.ecr.amazonaws.com":                    {"AWSServiceRoleForECRPullThroughCache", ""},
	"spot.amazonaws.com":                                    {"AWSServiceRoleForEC2Spot", ""},
	"rds.amazonaws.com":                                     {"AWSServiceRoleForRDS", ""},
	"elasticache.amazonaws.com":                             {"AWSServiceRoleForElastiCache", ""},
	"ops.apigateway.amazonaws.com":                          {"AWSServiceRoleForAPIGateway", ""},
	"dynamodb.application-autoscaling.amazonaws.com":        {"AWSServiceRoleForApplicationAutoScaling_DynamoDBTable", ""},
	"custom-resource.application-autoscaling.amazonaws.com": {"AWSServiceRoleForApplicationAutoScaling_CustomResource", ""},
}

func (a *api) createServiceLinkedRole(ctx context.Context, in *iam.CreateServiceLinkedRoleInput) (*iam.CreateServiceLinkedRoleOutput, error) {
	service := text(in.AWSServiceName)
	known, ok := serviceRoles[service]
	if !ok {
		return nil, model.Errorf("InvalidInput", "Service role for %s is not something that Berth knows", service)
	}
	name := known[0]
	if in.CustomSuffix != nil && *in.CustomSuffix != "" {
		name += "_" + *in.CustomSuffix
	}
	if _, err := checkName("roleName", &name, 64); err != nil {
		return nil, err
	}
	path := serviceRolePath + service + "/"
	r := &model.IAMRole{IAMIdentity: model.IAMIdentity{Name: name, Path: path, ID: newID("AROA"), ARN: a.arn("role", path, name), CreatedAt: a.Now()},
		Description: text(in.Description), MaxSession: defaultSession,
		Trust: fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Action":["sts:AssumeRole"],"Effect":"Allow","Principal":{"Service":[%q]}}]}`, service)}
	if known[1] != "" {
		r.Attached = []string{"arn:" + model.Partition + ":iam::aws:policy/aws-service-role/" + known[1]}
	}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.IAMRoles.Get(tx, r.Key()); ok {
			return model.Errorf("InvalidInput", "Service role name %s has been taken in this account, please try a different suffix.", name)
		}
		store.IAMRoles.Put(tx, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateServiceLinkedRoleOutput{Role: roleView(r, true)}, nil
}

// deleteServiceLinkedRole deletes at once; AWS's task is done when its id is given.
func (a *api) deleteServiceLinkedRole(ctx context.Context, in *iam.DeleteServiceLinkedRoleInput) (*iam.DeleteServiceLinkedRoleOutput, error) {
	var task string
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		r, err := role(tx, in.RoleName)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(r.Path, serviceRolePath) {
			return model.Errorf("InvalidInput", "The role %s is no service-linked role", r.Name)
		}
		store.IAMRoles.Delete(tx, r.Key())
		task = "task" + r.Path + r.Name + "/" + random32(10)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.DeleteServiceLinkedRoleOutput{DeletionTaskId: &task}, nil
}

func (a *api) getServiceLinkedRoleDeletionStatus(_ context.Context, in *iam.GetServiceLinkedRoleDeletionStatusInput) (
	*iam.GetServiceLinkedRoleDeletionStatusOutput, error) {
	if !strings.HasPrefix(text(in.DeletionTaskId), "task"+serviceRolePath) {
		return nil, noSuch("No deletion task with id %s can be found.", text(in.DeletionTaskId))
	}
	return &iam.GetServiceLinkedRoleDeletionStatusOutput{Status: types.DeletionTaskStatusTypeSucceeded}, nil
}

package iam

import (
	"slices"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
)

// sessionActions is what the sessions of roles may do until policies decide: what a container does as part of its own work, and
// nothing that reads or changes what is another's. Who may run tasks may run privileged ones, so ECS is not in it: about itself a task
// learns from its metadata endpoint, and descriptions of others hold their environment.
var sessionActions = []string{
	"sts:GetCallerIdentity", // as on AWS, where nobody can be denied it
	// Logs that containers write by themselves (FireLens, SDKs). Their groups are made by whoever deploys.
	"logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams",
	// AmazonECSTaskExecutionRolePolicy's: pulling images, which builders in tasks do too.
	"ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage",
}

// Allow implements wire.Access. The root key may do everything.
func (a *Authority) Allow(c wire.Caller, ask wire.Ask) error {
	return a.AllowSession(c.Session(), ask.Action)
}

// AllowSession is Allow for the ARN of a role's session, "" for the owner.
func (a *Authority) AllowSession(session, action string) error {
	if session == "" || slices.Contains(sessionActions, action) {
		return nil
	}
	return model.Errorf("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: * because no identity-based "+
		"policy allows the %s action", session, action, action)
}

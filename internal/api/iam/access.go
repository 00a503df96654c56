package iam

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
)

// unknownRoleDocument is what the sessions of a role may do that nobody created in IAM, as the role ARNs of stacks are that were made for
// another place: what a container does as part of its own work, and nothing that reads or changes what is another's. That is to write
// logs (FireLens, SDKs), whose groups are made by whoever deploys, and to pull images, which builders in tasks do too. A role that IAM
// knows may do what its policies say, and no more.
const unknownRoleDocument = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":[
	"logs:CreateLogStream","logs:PutLogEvents","logs:DescribeLogGroups","logs:DescribeLogStreams",
	"ecr:GetAuthorizationToken","ecr:BatchCheckLayerAvailability","ecr:GetDownloadUrlForLayer","ecr:BatchGetImage"]}]}`

// freeActions need no permission: nobody can be denied to ask who they are, and a user may always narrow itself.
var freeActions = []string{"sts:GetCallerIdentity", "sts:GetSessionToken", "sts:GetAccessKeyInfo"}

// Allow implements wire.Access. The root may do everything.
func (a *Authority) Allow(c wire.Caller, ask wire.Ask) error {
	if a.Off || c.ARN == a.rootARN() || slices.Contains(freeActions, ask.Action) {
		return nil
	}
	p := a.personNow(c)
	if p.gone {
		return denied(c, ask.Action, "*", policy.Decision{By: policy.IdentityBased})
	}
	q := a.request(c, p, ask)
	resources := ask.Resources
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	for _, q.Resource = range resources {
		if d := policy.Decide(&p.Subject, q); !d.Allowed {
			return denied(c, ask.Action, q.Resource, d)
		}
	}
	return nil
}

// request is what an ask is in the words of policies; a resource's own policy that cannot be read denies everything.
func (a *Authority) request(c wire.Caller, p *person, ask wire.Ask) *policy.Request {
	keys := maps.Clone(p.keys)
	if keys == nil {
		keys = policy.Keys{}
	}
	now := a.now()
	keys.Set("aws:CurrentTime", now.UTC().Format(time.RFC3339))
	keys.Set("aws:EpochTime", strconv.FormatInt(now.Unix(), 10))
	keys.Set("aws:SecureTransport", strconv.FormatBool(c.Secure))
	if c.Region != "" {
		keys.Set("aws:RequestedRegion", c.Region)
	}
	if c.Source != "" {
		keys.Set("aws:SourceIp", c.Source)
	}
	if c.UserAgent != "" {
		keys.Set("aws:UserAgent", c.UserAgent)
	}
	given := map[string]bool{}
	for k, v := range ask.Context { // keys that differ by their letters' size are one, with several values
		if k = strings.ToLower(k); given[k] {
			v = append(slices.Clone(keys[k]), v...)
		}
		given[k] = true
		keys.Set(k, v...)
	}
	q := &policy.Request{Action: ask.Action, Keys: keys}
	for _, t := range ask.Policies {
		d := a.compiled.text(t)
		if d == nil {
			d = read(`{"Statement":[{"Effect":"Deny","Action":"*","Principal":"*"}]}`)
		}
		q.Policies = append(q.Policies, d)
	}
	action := strings.ToLower(ask.Action)
	q.Must = strings.HasPrefix(action, "sts:assumerole") || strings.HasPrefix(action, "kms:") && len(ask.Policies) > 0
	return q
}

// denied is AWS's sentence.
func denied(c wire.Caller, action, resource string, d policy.Decision) error {
	name := resource
	if strings.HasPrefix(action, "iam:") && action != "iam:PassRole" {
		name = ownName(resource)
	}
	if d.By == policy.ResourceBased && strings.HasPrefix(action, "sts:") {
		return model.Errorf("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s", c.ARN, action, name)
	}
	return model.Errorf("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s %s", c.ARN, action, name, d.Reason(action))
}

// ownName is how IAM calls its own resources: "role x", "user x".
func ownName(arn string) string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) < 6 || f[2] != "iam" {
		return arn
	}
	kind, _, ok := strings.Cut(f[5], "/")
	switch {
	case ok && (kind == "role" || kind == "user" || kind == "group"):
		return kind + " " + model.ARNTail(arn)
	case ok && kind == "instance-profile":
		return "instance profile " + model.ARNTail(arn)
	case ok && kind == "policy":
		return "policy " + arn
	}
	return arn
}

// MayAssume tells whether a service of AWS's, such as ecs-tasks.amazonaws.com, may take on a role: one that IAM does not know, or one
// whose trust says so. The error is for the operator.
func (a *Authority) MayAssume(roleARN, service string) error {
	if a.Store == nil || a.Off {
		return nil
	}
	var found *model.IAMRole
	a.Store.View(func(r store.Reader) { found, _ = store.IAMRoles.Get(r, strings.ToLower(model.ARNTail(roleARN))) })
	if found == nil {
		return nil
	}
	if found.ARN == roleARN {
		s := &policy.Subject{Principal: policy.Principal{Service: service}}
		keys := policy.Keys{}
		keys.Set("aws:SourceAccount", a.scope.Account)
		keys.Set("aws:SourceArn", a.scope.ARN("ecs", "*"))
		if d := a.compiled.text(found.Trust); d != nil && policy.Decide(s, &policy.Request{Action: "sts:AssumeRole", Resource: roleARN, Keys: keys,
			Policies: []*policy.Document{d}, Must: true}).Allowed {
			return nil
		}
	}
	return model.Errorf("AccessDeniedException", "ECS was unable to assume the role '%s' that was provided for this task. Please verify that the role "+
		"being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass this role.", roleARN)
}

func unixTime(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }

package sts

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
)

// chained is the longest life of a session that a session opened.
const chained = time.Hour

var nameRegexp = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// asks: who assumes a role needs its trust, and what the request brings along is asked for with it.
func (a *api) asks(ctx context.Context, op string, in any) []wire.Ask {
	r, ok := in.(*sts.AssumeRoleInput)
	if !ok {
		return nil
	}
	ask := wire.Ask{Action: "sts:AssumeRole", Resources: []string{text(r.RoleArn)}, Context: map[string][]string{}}
	set := func(key string, value *string) {
		if value != nil {
			ask.Context[key] = []string{*value}
		}
	}
	set("sts:RoleSessionName", r.RoleSessionName)
	set("sts:ExternalId", r.ExternalId)
	set("sts:SourceIdentity", r.SourceIdentity)
	for _, t := range r.Tags {
		ask.Context["aws:RequestTag/"+text(t.Key)] = []string{text(t.Value)}
		ask.Context["aws:TagKeys"] = append(ask.Context["aws:TagKeys"], text(t.Key))
	}
	if len(r.TransitiveTagKeys) > 0 {
		ask.Context["sts:TransitiveTagKeys"] = r.TransitiveTagKeys
	}
	if role, ok := a.role(text(r.RoleArn)); ok {
		ask.Policies = []string{role.Trust}
		for _, t := range role.Tags {
			ask.Context["aws:ResourceTag/"+*t.Key] = []string{text(t.Value)}
			ask.Context["iam:ResourceTag/"+*t.Key] = []string{text(t.Value)}
		}
	}
	asks := []wire.Ask{ask}
	if len(r.Tags) > 0 {
		more := ask
		more.Action = "sts:TagSession"
		asks = append(asks, more)
	}
	if r.SourceIdentity != nil {
		more := ask
		more.Action = "sts:SetSourceIdentity"
		asks = append(asks, more)
	}
	return asks
}

// role finds a role by its ARN.
func (a *api) role(arn string) (role *model.IAMRole, ok bool) {
	a.Store.View(func(r store.Reader) {
		role, ok = store.IAMRoles.Get(r, strings.ToLower(model.ARNTail(arn)))
		ok = ok && role.ARN == arn
	})
	return role, ok
}

func (a *api) assumeRole(ctx context.Context, in *sts.AssumeRoleInput) (*sts.AssumeRoleOutput, error) {
	c := wire.CallerFrom(ctx)
	role, ok := a.role(text(in.RoleArn))
	if !ok {
		return nil, model.Errorf("AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.ARN, text(in.RoleArn))
	}
	if in.SerialNumber != nil || in.TokenCode != nil {
		return nil, model.Errorf("AccessDenied", "MultiFactorAuthentication failed: Berth has no MFA devices")
	}
	most := role.MaxSession
	if c.Grant != nil && c.Grant.Role != "" && in.DurationSeconds != nil && *in.DurationSeconds > int32(chained/time.Second) {
		return nil, model.Errorf("ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	g := model.Grant{Role: role.ARN, RoleID: role.ID, Session: text(in.RoleSessionName), Source: text(in.SourceIdentity), Transitive: in.TransitiveTagKeys,
		Tags: map[string]string{}}
	if c.Grant != nil {
		for _, key := range c.Grant.Transitive {
			g.Tags[key] = c.Grant.Tags[key]
			g.Transitive = append(g.Transitive, key)
		}
		if c.Grant.Source != "" {
			g.Source = c.Grant.Source
		}
	}
	if err := addTags(&g, in.Tags); err != nil {
		return nil, err
	}
	creds, who, err := a.open(g, most, in.DurationSeconds, in.Policy, in.PolicyArns)
	if err != nil {
		return nil, err
	}
	return &sts.AssumeRoleOutput{Credentials: view(creds), AssumedRoleUser: who, SourceIdentity: in.SourceIdentity, PackedPolicySize: packed(g, in.Policy)}, nil
}

// addTags adds the tags of a request to a session's; what came from the session before cannot be changed.
func addTags(g *model.Grant, tags []types.Tag) error {
	if len(tags) > 50 {
		return model.Errorf("ValidationError", "A session may have at most 50 tags")
	}
	for _, t := range tags {
		key := text(t.Key)
		if key == "" || len(key) > 128 || len(text(t.Value)) > 256 || strings.HasPrefix(strings.ToLower(key), "aws:") {
			return model.Errorf("ValidationError", "A tag needs a key of 1 to 128 characters that does not begin with aws:, and a value of at most 256")
		}
		if slices.Contains(g.Transitive, key) {
			if _, inherited := g.Tags[key]; inherited {
				return model.Errorf("InvalidParameterValue", "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag "+
					"key from the calling session.")
			}
		}
		g.Tags[key] = text(t.Value)
	}
	return nil
}

// open makes the session's credentials, with the policies that it gives itself.
func (a *api) open(g model.Grant, most int32, seconds *int32, doc *string, arns []types.PolicyDescriptorType) (model.Credentials, *types.AssumedRoleUser, error) {
	if !nameRegexp.MatchString(g.Session) {
		return model.Credentials{}, nil, model.Errorf("ValidationError", "1 validation error detected: Value '%.64s' at 'roleSessionName' failed to satisfy "+
			`constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*, with 2 to 64 characters`, g.Session)
	}
	if seconds != nil && *seconds > most && *seconds <= 43200 {
		return model.Credentials{}, nil, model.Errorf("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	ttl, err := duration(seconds, min(3600, most), minSession, 43200)
	if err != nil {
		return model.Credentials{}, nil, err
	}
	if doc != nil {
		if len(*doc) > 2048 {
			return model.Credentials{}, nil, model.Errorf("PackedPolicyTooLarge", "The session's policy is larger than 2048 characters")
		}
		if _, err := policy.Validate(*doc, policy.ForIdentity); err != nil {
			return model.Credentials{}, nil, model.Errorf("MalformedPolicyDocument", "%s", err)
		}
		g.Policies = []string{*doc}
	}
	if len(arns) > 10 {
		return model.Credentials{}, nil, model.Errorf("ValidationError", "A session may have at most 10 managed policies")
	}
	for _, p := range arns {
		g.Managed = append(g.Managed, text(p.Arn))
	}
	session := "arn:" + model.Partition + ":sts::" + a.Scope.Account + ":assumed-role/" + model.ARNTail(g.Role) + "/" + g.Session
	return a.Sessions.Grant(g, ttl), &types.AssumedRoleUser{Arn: &session, AssumedRoleId: new(g.RoleID + ":" + g.Session)}, nil
}

// packed is how full a session is of policy and tags, percent.
func packed(g model.Grant, doc *string) *int32 {
	n := len(text(doc))
	for k, v := range g.Tags {
		n += len(k) + len(v)
	}
	if n == 0 {
		return nil
	}
	return new(int32(min(100, max(1, n*100/(2048+50*384)))))
}

package iam

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
)

// simulation is what is asked and of whom.
type simulation struct {
	subject   policy.Subject
	keys      policy.Keys
	actions   []string
	resources []string
	resource  *policy.Document // the resource's policy
	texts     map[*policy.Document]string
	kinds     map[string]types.PolicySourceType // of policies, by source id
}

func (a *api) simulateCustomPolicy(_ context.Context, in *iam.SimulateCustomPolicyInput) (*iam.SimulateCustomPolicyOutput, error) {
	s := newSimulation(in.ActionNames, in.ResourceArns)
	s.subject.Principal = a.simulated(text(in.CallerArn))
	if err := s.add(in.PolicyInputList, "PolicyInputList", &s.subject.Identity); err != nil {
		return nil, err
	}
	if len(in.PolicyInputList) == 0 {
		return nil, required("policyInputList")
	}
	part, more, next, err := a.run(s, in.PermissionsBoundaryPolicyInputList, in.ResourcePolicy, in.ContextEntries, in.Marker, in.MaxItems)
	return &iam.SimulateCustomPolicyOutput{EvaluationResults: part, IsTruncated: more, Marker: next}, err
}

func (a *api) simulatePrincipalPolicy(ctx context.Context, in *iam.SimulatePrincipalPolicyInput) (*iam.SimulatePrincipalPolicyOutput, error) {
	s := newSimulation(in.ActionNames, in.ResourceArns)
	p, err := a.source(text(in.PolicySourceArn), s)
	if err != nil {
		return nil, err
	}
	s.subject, s.keys = p.Subject, p.keys
	if in.CallerArn != nil {
		s.subject.Principal = a.simulated(*in.CallerArn)
	}
	if err := s.add(in.PolicyInputList, "PolicyInputList", &s.subject.Identity); err != nil {
		return nil, err
	}
	part, more, next, err := a.run(s, in.PermissionsBoundaryPolicyInputList, in.ResourcePolicy, in.ContextEntries, in.Marker, in.MaxItems)
	return &iam.SimulatePrincipalPolicyOutput{EvaluationResults: part, IsTruncated: more, Marker: next}, err
}

func newSimulation(actions, resources []string) *simulation {
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	return &simulation{actions: actions, resources: resources, keys: policy.Keys{}, texts: map[*policy.Document]string{},
		kinds: map[string]types.PolicySourceType{}}
}

// add reads policies of the request.
func (s *simulation) add(all []string, name string, to *[]policy.Attached) error {
	for i, t := range all {
		d, err := policy.Parse(t)
		if err != nil {
			return model.Errorf("InvalidInput", "Invalid policy: %s", err)
		}
		id := fmt.Sprintf("%s.%d", name, i+1)
		s.texts[d], s.kinds[id] = t, types.PolicySourceTypeNone
		*to = append(*to, policy.Attached{Document: d, Name: id})
	}
	return nil
}

// simulated is the principal of an ARN.
func (a *api) simulated(arn string) policy.Principal {
	p := policy.Principal{Account: a.Scope.Account, ARN: arn}
	if f := strings.SplitN(arn, ":", 6); len(f) == 6 {
		p.Account = f[4]
	}
	return p
}

// source is the user, group or role of an ARN with all its policies; their texts are noted in s.
func (a *api) source(arn string, s *simulation) (p *person, err error) {
	name := new(model.ARNTail(arn))
	rest, _ := strings.CutPrefix(arn, a.arn("", "", ""))
	kind, _, _ := strings.Cut(rest, "/")
	a.Store.View(func(r store.Reader) {
		c := wire.Caller{Account: a.Scope.Account, ARN: arn}
		var identities []*model.IAMIdentity
		switch kind {
		case "role":
			var x *model.IAMRole
			if x, err = role(r, name); err == nil {
				c.Grant, c.UserID = &model.Grant{Role: x.ARN, RoleID: x.ID}, x.ID
				identities = append(identities, &x.IAMIdentity)
			}
		case "user":
			var x *model.IAMUser
			if x, err = user(r, name); err == nil {
				c.UserID = x.ID
				identities = append(identities, &x.IAMIdentity)
				for _, g := range x.Groups {
					if group, ok := store.IAMGroups.Get(r, g); ok {
						identities = append(identities, &group.IAMIdentity)
					}
				}
			}
		case "group":
			var x *model.IAMGroup
			if x, err = group(r, name); err == nil {
				p = &person{keys: policy.Keys{}}
				p.Identity = a.Keys.attachedTo(r, "group ", x, &x.IAMIdentity)
				identities = append(identities, &x.IAMIdentity)
			}
		default:
			err = model.Errorf("InvalidInput", "Invalid Entity Arn: %s does not clearly define entity type and name.", arn)
		}
		if err != nil {
			return
		}
		if p == nil {
			p = a.Keys.person(r, c)
		}
		a.note(r, p, kind, identities, s)
	})
	return p, err
}

// note remembers the texts of a person's policies, and whose they are.
func (a *api) note(r store.Reader, p *person, kind string, identities []*model.IAMIdentity, s *simulation) {
	all := p.Identity
	if p.Boundary != nil {
		all = append(slices.Clone(all), *p.Boundary)
	}
	for _, d := range all {
		if d.ARN != "" {
			if m, ok := a.Keys.managedPolicy(r, d.ARN); ok {
				s.texts[d.Document] = m.Default().Document
				s.kinds[d.Name] = types.PolicySourceTypeUserManaged
				if strings.HasPrefix(d.ARN, awsPrefix) {
					s.kinds[d.Name] = types.PolicySourceTypeAwsManaged
				}
			}
			continue
		}
		for _, i := range identities {
			for _, inline := range i.Inline {
				if inline.Name == d.Name {
					s.texts[d.Document], s.kinds[d.Name] = inline.Document, types.PolicySourceType(kind)
				}
			}
		}
	}
}

// run answers for each action and resource.
func (a *api) run(s *simulation, boundaries []string, resourcePolicy *string, entries []types.ContextEntry, marker *string, maxItems *int32) (
	part []types.EvaluationResult, more bool, next *string, err error) {
	if len(s.actions) == 0 {
		return nil, false, nil, required("actionNames")
	}
	var bounds []policy.Attached
	if err := s.add(boundaries, "PermissionsBoundaryPolicyInputList", &bounds); err != nil {
		return nil, false, nil, err
	}
	if len(bounds) > 0 {
		s.subject.Boundary = &bounds[0]
	}
	if resourcePolicy != nil {
		if s.resource, err = policy.Parse(*resourcePolicy); err != nil {
			return nil, false, nil, model.Errorf("InvalidInput", "Invalid resource policy: %s", err)
		}
		s.texts[s.resource] = *resourcePolicy
	}
	for _, e := range entries {
		s.keys.Set(text(e.ContextKeyName), e.ContextKeyValues...)
	}
	var all []types.EvaluationResult
	for _, action := range s.actions {
		if name, op, ok := strings.Cut(action, ":"); !ok || name == "" || op == "" {
			return nil, false, nil, model.Errorf("InvalidInput", "Invalid Action: %s", action)
		}
		for _, resource := range s.resources {
			all = append(all, s.answer(action, resource))
		}
	}
	return pageInOrder(all, marker, maxItems)
}

// pageInOrder is page for what is in the order of the request: a marker counts.
func pageInOrder(all []types.EvaluationResult, marker *string, maxItems *int32) ([]types.EvaluationResult, bool, *string, error) {
	at := map[*string]string{}
	for i, r := range all {
		at[r.EvalActionName] = fmt.Sprintf("%08d", i)
	}
	return page(all, func(r types.EvaluationResult) string { return at[r.EvalActionName] }, marker, maxItems)
}

// answer decides about one action on one resource.
func (s *simulation) answer(action, resource string) types.EvaluationResult {
	q := &policy.Request{Action: action, Resource: resource, Keys: s.keys, Explain: true}
	if s.resource != nil {
		q.Policies = []*policy.Document{s.resource}
	}
	d := policy.Decide(&s.subject, q)
	out := types.EvaluationResult{EvalActionName: &action, EvalResourceName: &resource, EvalDecision: types.PolicyEvaluationDecisionTypeImplicitDeny,
		MatchedStatements: []types.Statement{}, MissingContextValues: []string{}}
	switch {
	case d.Allowed:
		out.EvalDecision = types.PolicyEvaluationDecisionTypeAllowed
	case d.Explicit:
		out.EvalDecision = types.PolicyEvaluationDecisionTypeExplicitDeny
	}
	if s.subject.Boundary != nil {
		out.PermissionsBoundaryDecisionDetail = &types.PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: slices.ContainsFunc(d.Matched,
			func(m policy.Match) bool { return m.By == policy.Boundary && m.Statement.Allow })}
	}
	for _, m := range d.Matched {
		if m.By == policy.Boundary {
			continue
		}
		id, kind := m.Name, s.kinds[m.Name]
		if m.By == policy.ResourceBased {
			id, kind = "ResourcePolicy", types.PolicySourceTypeResource
		}
		t := s.texts[m.Document]
		out.MatchedStatements = append(out.MatchedStatements, types.Statement{SourcePolicyId: &id, SourcePolicyType: kind,
			StartPosition: position(t, m.Statement.Start), EndPosition: position(t, m.Statement.End)})
	}
	for _, a := range s.subject.Identity {
		for _, k := range a.Keys() {
			if _, ok := s.keys[strings.ToLower(k)]; !ok && !slices.Contains(out.MissingContextValues, k) {
				out.MissingContextValues = append(out.MissingContextValues, k)
			}
		}
	}
	return out
}

// position is the line and column of a place in a text, from 1.
func position(t string, at int) *types.Position {
	before := t[:min(at, len(t))]
	return &types.Position{Line: int32(strings.Count(before, "\n") + 1), Column: int32(len(before) - strings.LastIndexByte(before, '\n'))}
}

func (a *api) getContextKeysForCustomPolicy(_ context.Context, in *iam.GetContextKeysForCustomPolicyInput) (*iam.GetContextKeysForCustomPolicyOutput, error) {
	s := newSimulation(nil, nil)
	if err := s.add(in.PolicyInputList, "PolicyInputList", &s.subject.Identity); err != nil {
		return nil, err
	}
	return &iam.GetContextKeysForCustomPolicyOutput{ContextKeyNames: keysOf(s.subject.Identity)}, nil
}

func (a *api) getContextKeysForPrincipalPolicy(_ context.Context, in *iam.GetContextKeysForPrincipalPolicyInput) (
	*iam.GetContextKeysForPrincipalPolicyOutput, error) {
	s := newSimulation(nil, nil)
	p, err := a.source(text(in.PolicySourceArn), s)
	if err != nil {
		return nil, err
	}
	if err := s.add(in.PolicyInputList, "PolicyInputList", &p.Identity); err != nil {
		return nil, err
	}
	return &iam.GetContextKeysForPrincipalPolicyOutput{ContextKeyNames: keysOf(p.Identity)}, nil
}

func keysOf(all []policy.Attached) []string {
	keys := []string{}
	for _, a := range all {
		for _, k := range a.Keys() {
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	return keys
}

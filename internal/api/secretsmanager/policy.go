package secretsmanager

import (
	"context"
	"encoding/json"

	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

const maxPolicy = 20480

// checkPolicy refuses what is no policy; with closed also one that lets in everybody.
func checkPolicy(text *string, closed bool) error {
	if text == nil || *text == "" || len(*text) > maxPolicy {
		return model.Errorf("ValidationException", "1 validation error detected: Value at 'resourcePolicy' failed to satisfy constraint: Member must have length between 1 "+
			"and %d", maxPolicy)
	}
	var doc struct {
		Statement json.RawMessage
	}
	if json.Unmarshal([]byte(*text), &doc) != nil || len(doc.Statement) == 0 {
		return model.Errorf("MalformedPolicyDocumentException", "This resource policy contains a syntax error: it is not a JSON policy document with a Statement.")
	}
	if closed && public(doc.Statement) {
		return model.Errorf("PublicPolicyException", "This resource policy would grant a wide range of principals access to the secret. Resource policies with public access "+
			"are blocked by BlockPublicPolicy.")
	}
	return nil
}

type statement struct {
	Effect    string
	Principal json.RawMessage
	Condition json.RawMessage
}

// public tells whether a statement allows something to everybody, whatever the conditions of others.
func public(text json.RawMessage) bool {
	var all []statement
	if json.Unmarshal(text, &all) != nil {
		var one statement
		if json.Unmarshal(text, &one) != nil {
			return false
		}
		all = []statement{one}
	}
	for _, s := range all {
		if s.Effect == "Allow" && len(s.Condition) == 0 && everybody(s.Principal) {
			return true
		}
	}
	return false
}

func everybody(principal json.RawMessage) bool {
	var v any
	if json.Unmarshal(principal, &v) != nil {
		return false
	}
	if m, ok := v.(map[string]any); ok {
		v = m["AWS"]
	}
	if list, ok := v.([]any); ok {
		for _, one := range list {
			if one == "*" {
				return true
			}
		}
	}
	return v == "*"
}

func (a *api) getResourcePolicy(_ context.Context, in *sdk.GetResourcePolicyInput) (*sdk.GetResourcePolicyOutput, error) {
	s, err := a.live(in.SecretId)
	if err != nil {
		return nil, err
	}
	out := &sdk.GetResourcePolicyOutput{ARN: &s.ARN, Name: &s.Name}
	optional(&out.ResourcePolicy, s.Policy)
	return out, nil
}

func (a *api) setPolicy(ctx context.Context, id *string, policy string) (*model.Secret, error) {
	return a.change(ctx, id, func(_ store.Tx, s *model.Secret) error { s.Policy = policy; return nil })
}

func (a *api) putResourcePolicy(ctx context.Context, in *sdk.PutResourcePolicyInput) (*sdk.PutResourcePolicyOutput, error) {
	if err := checkPolicy(in.ResourcePolicy, value(in.BlockPublicPolicy)); err != nil {
		return nil, err
	}
	s, err := a.setPolicy(ctx, in.SecretId, *in.ResourcePolicy)
	if err != nil {
		return nil, err
	}
	return &sdk.PutResourcePolicyOutput{ARN: &s.ARN, Name: &s.Name}, nil
}

func (a *api) deleteResourcePolicy(ctx context.Context, in *sdk.DeleteResourcePolicyInput) (*sdk.DeleteResourcePolicyOutput, error) {
	s, err := a.setPolicy(ctx, in.SecretId, "")
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteResourcePolicyOutput{ARN: &s.ARN, Name: &s.Name}, nil
}

func (a *api) validateResourcePolicy(_ context.Context, in *sdk.ValidateResourcePolicyInput) (*sdk.ValidateResourcePolicyOutput, error) {
	if in.SecretId != nil {
		if _, err := a.live(in.SecretId); err != nil {
			return nil, err
		}
	}
	out := &sdk.ValidateResourcePolicyOutput{PolicyValidationPassed: true, ValidationErrors: []types.ValidationErrorsEntry{}}
	switch err := checkPolicy(in.ResourcePolicy, true); model.ErrorCode(err) {
	case "PublicPolicyException":
		out.PolicyValidationPassed = false
		out.ValidationErrors = append(out.ValidationErrors, types.ValidationErrorsEntry{CheckName: new("AllowsPublicAccess"), ErrorMessage: new(err.(*model.Error).Message)})
	default:
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

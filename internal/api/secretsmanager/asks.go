package secretsmanager

import (
	"context"
	"maps"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// asks tells what a request asks to be allowed: its action on the secret, whose policy is asked too, and what the value is under.
func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	action := "secretsmanager:" + op
	on := func(id *string, context map[string][]string) wire.Ask { return a.on(action, value(id), context) }
	switch in := in.(type) {
	case *sdk.CreateSecretInput:
		context := wire.RequestTags(in)
		context["secretsmanager:Name"] = []string{value(in.Name)}
		ask := wire.Ask{Action: action, Context: context, Resources: []string{a.Scope.ARN("secretsmanager", "secret:"+value(in.Name)+"-??????")}}
		return append([]wire.Ask{ask}, a.underKey(value(in.KmsKeyId), "kms:GenerateDataKey", "kms:Decrypt")...)
	case *sdk.UpdateSecretInput:
		key := value(in.KmsKeyId)
		if key == "" {
			key = a.keyOf(in.SecretId)
		}
		return append([]wire.Ask{on(in.SecretId, nil)}, a.underKey(key, "kms:GenerateDataKey", "kms:Decrypt")...)
	case *sdk.PutSecretValueInput:
		return append([]wire.Ask{on(in.SecretId, nil)}, a.underKey(a.keyOf(in.SecretId), "kms:GenerateDataKey")...)
	case *sdk.GetSecretValueInput:
		context := map[string][]string{"secretsmanager:VersionStage": {"AWSCURRENT"}}
		if in.VersionStage != nil {
			context["secretsmanager:VersionStage"] = []string{*in.VersionStage}
		}
		if in.VersionId != nil {
			context["secretsmanager:VersionId"] = []string{*in.VersionId}
			if in.VersionStage == nil {
				delete(context, "secretsmanager:VersionStage")
			}
		}
		return append([]wire.Ask{on(in.SecretId, context)}, a.underKey(a.keyOf(in.SecretId), "kms:Decrypt")...)
	case *sdk.BatchGetSecretValueInput:
		return a.batch(action, in)
	case *sdk.DescribeSecretInput:
		return []wire.Ask{on(in.SecretId, nil)}
	case *sdk.ListSecretVersionIdsInput:
		return []wire.Ask{on(in.SecretId, nil)}
	case *sdk.UpdateSecretVersionStageInput:
		return []wire.Ask{on(in.SecretId, map[string][]string{"secretsmanager:VersionStage": {value(in.VersionStage)}})}
	case *sdk.DeleteSecretInput:
		return []wire.Ask{on(in.SecretId, nil)}
	case *sdk.RestoreSecretInput:
		return []wire.Ask{on(in.SecretId, nil)}
	case *sdk.TagResourceInput:
		return []wire.Ask{on(in.SecretId, wire.RequestTags(in))}
	case *sdk.UntagResourceInput:
		return []wire.Ask{on(in.SecretId, map[string][]string{"aws:TagKeys": in.TagKeys})}
	case *sdk.GetResourcePolicyInput:
		return []wire.Ask{on(in.SecretId, nil)}
	case *sdk.PutResourcePolicyInput:
		return []wire.Ask{on(in.SecretId, nil)}
	case *sdk.DeleteResourcePolicyInput:
		return []wire.Ask{on(in.SecretId, nil)}
	case *sdk.ValidateResourcePolicyInput:
		return []wire.Ask{on(in.SecretId, nil)}
	}
	return nil
}

// on asks for an action on a secret; for one that is not there, on what a secret of that name would be called.
func (a *api) on(action, id string, context map[string][]string) wire.Ask {
	ask := wire.Ask{Action: action, Context: map[string][]string{}}
	maps.Copy(ask.Context, context)
	a.Store.View(func(r store.Reader) {
		s, err := a.Vault.FindSecret(r, id)
		if err != nil {
			return
		}
		ask.Resources = []string{s.ARN}
		if s.Policy != "" {
			ask.Policies = []string{s.Policy}
		}
		for _, t := range s.Tags {
			ask.Context["aws:ResourceTag/"+*t.Key] = []string{value(t.Value)}
			ask.Context["secretsmanager:ResourceTag/"+*t.Key] = []string{value(t.Value)}
		}
	})
	if ask.Resources == nil && strings.HasPrefix(id, "arn:") {
		ask.Resources = []string{id}
	} else if ask.Resources == nil && id != "" {
		ask.Resources = []string{a.Scope.ARN("secretsmanager", "secret:"+id)}
	}
	if ask.Resources != nil {
		ask.Context["secretsmanager:SecretId"] = ask.Resources
	}
	return ask
}

// batch asks for the batch, and for each of its secrets as GetSecretValue does.
func (a *api) batch(action string, in *sdk.BatchGetSecretValueInput) []wire.Ask {
	asks := []wire.Ask{{Action: action}}
	ids := in.SecretIdList
	if len(in.Filters) > 0 {
		asks = append(asks, wire.Ask{Action: "secretsmanager:ListSecrets"})
		found, _ := a.list(in.Filters, false)
		for _, s := range found {
			ids = append(ids, s.ARN)
		}
	}
	for _, id := range ids {
		asks = append(asks, a.on("secretsmanager:GetSecretValue", id, map[string][]string{"secretsmanager:VersionStage": {"AWSCURRENT"}}))
		asks = append(asks, a.underKey(a.keyOf(&id), "kms:Decrypt")...)
	}
	return asks
}

func (a *api) keyOf(id *string) (key string) {
	a.Store.View(func(r store.Reader) {
		var s *model.Secret
		if s, _ = a.Vault.FindSecret(r, value(id)); s != nil {
			key = s.KMSKeyID
		}
	})
	return key
}

// underKey asks for the use of a customer's key; those of AWS's are for whoever may use the service.
func (a *api) underKey(keyID string, actions ...string) (asks []wire.Ask) {
	if keyID == "" || strings.Contains(keyID, "alias/aws/") {
		return nil
	}
	k, err := a.Ring.Describe(keyID)
	if err != nil || k.Service != "" {
		return nil
	}
	for _, action := range actions {
		asks = append(asks, wire.Ask{Action: action, Resources: []string{k.ARN}, Policies: []string{k.Policy},
			Context: map[string][]string{"kms:ViaService": {"secretsmanager." + a.Scope.Region + ".amazonaws.com"}, "kms:CallerAccount": {a.Scope.Account}}})
	}
	return asks
}

package ssm

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
)

// asks tells what a request asks to be allowed: its action on the parameters that it names, and what their values are under.
func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	action := "ssm:" + op
	switch in := in.(type) {
	case *sdk.PutParameterInput:
		asks := []wire.Ask{a.on(action, value(in.Name), wire.RequestTags(in))}
		if in.Overwrite != nil {
			asks[0].Context["ssm:Overwrite"] = []string{strconv.FormatBool(*in.Overwrite)}
		}
		if in.Type == types.ParameterTypeSecureString || value(in.KeyId) != "" {
			asks = append(asks, a.underKey("kms:Encrypt", value(in.KeyId))...)
		}
		return asks
	case *sdk.GetParameterInput:
		return a.reading(action, []string{value(in.Name)}, value(in.WithDecryption))
	case *sdk.GetParametersInput:
		return a.reading(action, in.Names, value(in.WithDecryption))
	case *sdk.GetParameterHistoryInput:
		return a.reading(action, []string{value(in.Name)}, value(in.WithDecryption))
	case *sdk.GetParametersByPathInput:
		asks := []wire.Ask{a.on(action, value(in.Path), map[string][]string{"ssm:Recursive": {strconv.FormatBool(value(in.Recursive))}})}
		if value(in.WithDecryption) {
			asks = append(asks, a.keysBelow(in.Path)...)
		}
		return asks
	case *sdk.DeleteParameterInput:
		return []wire.Ask{a.on(action, value(in.Name), nil)}
	case *sdk.DeleteParametersInput:
		return a.reading(action, in.Names, false)
	case *sdk.LabelParameterVersionInput:
		return []wire.Ask{a.on(action, value(in.Name), nil)}
	case *sdk.UnlabelParameterVersionInput:
		return []wire.Ask{a.on(action, value(in.Name), nil)}
	case *sdk.AddTagsToResourceInput:
		return []wire.Ask{a.on(action, value(in.ResourceId), wire.RequestTags(in))}
	case *sdk.RemoveTagsFromResourceInput:
		return []wire.Ask{a.on(action, value(in.ResourceId), map[string][]string{"aws:TagKeys": in.TagKeys})}
	case *sdk.ListTagsForResourceInput:
		return []wire.Ask{a.on(action, value(in.ResourceId), nil)}
	}
	return nil
}

// on asks for an action on a parameter.
func (a *api) on(action, name string, context map[string][]string) wire.Ask {
	ask := wire.Ask{Action: action, Context: map[string][]string{}}
	maps.Copy(ask.Context, context)
	if strings.HasPrefix(name, "/aws/service/") {
		ask.Resources = []string{"arn:" + model.Partition + ":ssm:" + a.Scope.Region + "::parameter" + name}
		return ask
	}
	n, err := a.Vault.ReadParameterName(name)
	if err != nil {
		ask.Resources = []string{name} // an ARN that is not of here
		return ask
	}
	ask.Resources = []string{a.Vault.ParameterARN(n.Path)}
	a.Store.View(func(r store.Reader) {
		if p, ok := store.Parameters.Get(r, n.Path); ok {
			for _, t := range p.Tags {
				ask.Context["aws:ResourceTag/"+*t.Key] = []string{value(t.Value)}
				ask.Context["ssm:resourceTag/"+*t.Key] = []string{value(t.Value)}
			}
		}
	})
	return ask
}

// reading asks for an action on parameters, and with plain for what opens them.
func (a *api) reading(action string, names []string, plain bool) (asks []wire.Ask) {
	for _, name := range names {
		asks = append(asks, a.on(action, name, nil))
		if !plain {
			continue
		}
		if id, ok := strings.CutPrefix(name, vault.SecretReference); ok {
			asks = append(asks, a.secret(id)...)
			continue
		}
		n, err := a.Vault.ReadParameterName(name)
		if err != nil {
			continue
		}
		var v *model.ParameterVersion
		a.Store.View(func(r store.Reader) { _, v, _ = a.Vault.FindParameter(r, n) })
		if v != nil && v.Type == types.ParameterTypeSecureString {
			asks = append(asks, a.underKey("kms:Decrypt", v.KeyID)...)
		}
	}
	return asks
}

// keysBelow asks for the use of every key under which a SecureString below a path is.
func (a *api) keysBelow(path *string) (asks []wire.Ask) {
	prefix, err := folder(path)
	if err != nil {
		return nil
	}
	used := map[string]bool{}
	a.Store.View(func(r store.Reader) {
		for _, e := range a.scan(r, prefix) {
			if e.v.Type == types.ParameterTypeSecureString {
				used[e.v.KeyID] = true
			}
		}
	})
	for _, id := range slices.Sorted(maps.Keys(used)) {
		asks = append(asks, a.underKey("kms:Decrypt", id)...)
	}
	return asks
}

// secret asks for the value of a secret.
func (a *api) secret(id string) (asks []wire.Ask) {
	a.Store.View(func(r store.Reader) {
		if s, err := a.Vault.FindSecret(r, id); err == nil {
			ask := wire.Ask{Action: "secretsmanager:GetSecretValue", Resources: []string{s.ARN}, Context: map[string][]string{"secretsmanager:SecretId": {s.ARN}}}
			if s.Policy != "" {
				ask.Policies = []string{s.Policy}
			}
			asks = append(asks, ask)
		}
	})
	return asks
}

// underKey asks for the use of a customer's key; those of AWS's are for whoever may use the service.
func (a *api) underKey(action, keyID string) []wire.Ask {
	if keyID == "" || strings.Contains(keyID, "alias/aws/") {
		return nil
	}
	k, err := a.Ring.Describe(keyID)
	if err != nil || k.Service != "" {
		return nil
	}
	return []wire.Ask{{Action: action, Resources: []string{k.ARN}, Policies: []string{k.Policy},
		Context: map[string][]string{"kms:ViaService": {"ssm." + a.Scope.Region + ".amazonaws.com"}, "kms:CallerAccount": {a.Scope.Account}}}}
}

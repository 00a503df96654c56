package kms

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/berthdev/berth/internal/model"
)

const maxPolicy = 32 << 10

// policyName is the one name that a key's policy has.
const policyName = "default"

// checkPolicy refuses what is no policy. What it says is the evaluator's to understand.
func checkPolicy(text string) error {
	var doc struct {
		Statement json.RawMessage
	}
	switch {
	case len(text) > maxPolicy:
		return model.Errorf("LimitExceededException", "The policy is larger than %d bytes", maxPolicy)
	case json.Unmarshal([]byte(text), &doc) != nil || len(doc.Statement) == 0:
		return model.Errorf("MalformedPolicyDocumentException", "The new key policy is not a JSON policy document with a Statement")
	}
	return nil
}

func checkPolicyName(name *string) error {
	if name != nil && *name != policyName {
		return model.Errorf("NotFoundException", "No such policy exists")
	}
	return nil
}

func (a *api) getKeyPolicy(ctx context.Context, in *sdk.GetKeyPolicyInput) (*sdk.GetKeyPolicyOutput, error) {
	k, err := a.find(ctx, in.KeyId)
	if err == nil {
		err = checkPolicyName(in.PolicyName)
	}
	if err != nil {
		return nil, err
	}
	return &sdk.GetKeyPolicyOutput{Policy: &k.Policy, PolicyName: new(policyName)}, nil
}

func (a *api) putKeyPolicy(ctx context.Context, in *sdk.PutKeyPolicyInput) (*sdk.PutKeyPolicyOutput, error) {
	if err := required("policy", in.Policy); err != nil {
		return nil, err
	}
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	if err := checkPolicy(*in.Policy); err != nil {
		return nil, err
	}
	return &sdk.PutKeyPolicyOutput{}, a.change(ctx, in.KeyId, func(k *model.KMSKey) error { k.Policy = *in.Policy; return nil })
}

func (a *api) listKeyPolicies(ctx context.Context, in *sdk.ListKeyPoliciesInput) (*sdk.ListKeyPoliciesOutput, error) {
	if _, err := a.find(ctx, in.KeyId); err != nil {
		return nil, err
	}
	return &sdk.ListKeyPoliciesOutput{PolicyNames: []string{policyName}}, nil
}

const maxTags = 50

// checkTags validates the tags of one request.
func checkTags(tags []types.Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		switch key := value(t.TagKey); {
		case key == "" || utf8.RuneCountInString(key) > 128 || utf8.RuneCountInString(value(t.TagValue)) > 256:
			return model.Errorf("TagException", "A tag needs a key of 1 to 128 characters and a value of at most 256")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return model.Errorf("TagException", "aws: prefixed tag key names are not allowed for external use.")
		case seen[key]:
			return model.Errorf("TagException", "Duplicate tag keys")
		default:
			seen[key] = true
		}
	}
	return checkNumber(tags)
}

func checkNumber(tags []types.Tag) error {
	if len(tags) > maxTags {
		return model.Errorf("LimitExceededException", "Too many tags: a key has %d at most", maxTags)
	}
	return nil
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &sdk.TagResourceOutput{}, a.change(ctx, in.KeyId, func(k *model.KMSKey) error {
		tags := slices.Clone(k.Tags)
		for _, t := range in.Tags {
			i := slices.IndexFunc(tags, func(o types.Tag) bool { return *o.TagKey == *t.TagKey })
			if i >= 0 {
				tags[i] = t
			} else {
				tags = append(tags, t)
			}
		}
		k.Tags = tags
		return checkNumber(tags)
	})
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, a.change(ctx, in.KeyId, func(k *model.KMSKey) error {
		k.Tags = slices.DeleteFunc(slices.Clone(k.Tags), func(t types.Tag) bool { return slices.Contains(in.TagKeys, *t.TagKey) })
		return nil
	})
}

func (a *api) listResourceTags(ctx context.Context, in *sdk.ListResourceTagsInput) (*sdk.ListResourceTagsOutput, error) {
	k, err := a.find(ctx, in.KeyId)
	if err != nil {
		return nil, err
	}
	tags := slices.Clone(k.Tags)
	slices.SortFunc(tags, func(a, b types.Tag) int { return strings.Compare(*a.TagKey, *b.TagKey) })
	out := &sdk.ListResourceTagsOutput{}
	out.Tags, out.NextMarker, out.Truncated, err = page(tags, in.Limit, in.Marker, 50, func(t types.Tag) string { return *t.TagKey })
	if out.Tags == nil {
		out.Tags = []types.Tag{}
	}
	return out, err
}

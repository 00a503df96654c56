package secretsmanager

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
)

// The days of a recovery window.
const leastWindow, usualWindow = 7, 30

func (a *api) deleteSecret(ctx context.Context, in *sdk.DeleteSecretInput) (*sdk.DeleteSecretOutput, error) {
	force, days := value(in.ForceDeleteWithoutRecovery), int64(usualWindow)
	switch {
	case force && in.RecoveryWindowInDays != nil:
		return nil, invalid("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
	case in.RecoveryWindowInDays != nil:
		if days = *in.RecoveryWindowInDays; days < leastWindow || days > usualWindow {
			return nil, invalid("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
		}
	}
	now := a.Now()
	if !force {
		s, err := a.change(ctx, in.SecretId, func(_ store.Tx, s *model.Secret) error {
			s.DeletedAt, s.DeleteAt = now, now.AddDate(0, 0, int(days))
			return nil
		})
		if err != nil {
			return nil, err
		}
		return &sdk.DeleteSecretOutput{ARN: &s.ARN, Name: &s.Name, DeletionDate: &s.DeleteAt}, nil
	}
	if err := required("secretId", in.SecretId); err != nil {
		return nil, err
	}
	// One that is not there is no error when it is forced.
	out := &sdk.DeleteSecretOutput{Name: in.SecretId, ARN: in.SecretId, DeletionDate: &now}
	return out, a.Store.Update(ctx, func(tx store.Tx) error {
		if s, err := a.Vault.FindSecret(tx, *in.SecretId); err == nil {
			out.ARN, out.Name = &s.ARN, &s.Name
			vault.RemoveSecret(tx, s.Name)
		}
		return nil
	})
}

func (a *api) restoreSecret(ctx context.Context, in *sdk.RestoreSecretInput) (*sdk.RestoreSecretOutput, error) {
	s, err := a.changeAny(ctx, in.SecretId, func(_ store.Tx, s *model.Secret) error {
		s.DeletedAt, s.DeleteAt = time.Time{}, time.Time{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.RestoreSecretOutput{ARN: &s.ARN, Name: &s.Name}, nil
}

const maxTags = 50

// checkTags validates the tags of one request.
func checkTags(tags []types.Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		switch key := value(t.Key); {
		case key == "" || utf8.RuneCountInString(key) > 128 || utf8.RuneCountInString(value(t.Value)) > 256:
			return invalid("A tag needs a key of 1 to 128 characters and a value of at most 256")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("aws: prefixed tag key names are not allowed for external use.")
		case seen[key]:
			return invalid("Duplicate tag keys: %s", key)
		default:
			seen[key] = true
		}
	}
	if len(tags) > maxTags {
		return model.Errorf("LimitExceededException", "A secret has %d tags at most", maxTags)
	}
	return nil
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	_, err := a.change(ctx, in.SecretId, func(_ store.Tx, s *model.Secret) error {
		tags := slices.Clone(s.Tags)
		for _, t := range in.Tags {
			i := slices.IndexFunc(tags, func(o types.Tag) bool { return *o.Key == *t.Key })
			if i >= 0 {
				tags[i] = t
			} else {
				tags = append(tags, t)
			}
		}
		s.Tags = tags
		return checkTags(tags)
	})
	return &sdk.TagResourceOutput{}, err
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	_, err := a.change(ctx, in.SecretId, func(_ store.Tx, s *model.Secret) error {
		s.Tags = slices.DeleteFunc(slices.Clone(s.Tags), func(t types.Tag) bool { return slices.Contains(in.TagKeys, *t.Key) })
		return nil
	})
	return &sdk.UntagResourceOutput{}, err
}

package secretsmanager

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"regexp"
	"slices"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
)

// The Secrets Manager's limits.
const (
	maxValue       = 65536 // bytes
	maxStages      = 20    // of a secret
	maxUnstaged    = 100   // versions without a label
	maxDescription = 2048
)

var (
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9/_+=.@!-]{1,512}$`)
	tokenPattern = regexp.MustCompile(`^[A-Za-z0-9-]{32,64}$`)
)

// given is a value as a request gives it.
type given struct {
	token string // the id of the version that is made
	value []byte // nil: the request gives none
	bin   bool
}

func readValue(token *string, text *string, bin []byte) (g given, err error) {
	g.token = cmp.Or(value(token), newID())
	switch {
	case token != nil && !tokenPattern.MatchString(*token):
		return g, invalid("ClientRequestToken must be 32-64 characters long.")
	case text != nil && bin != nil:
		return g, invalid("You can't specify both a SecretString and a SecretBinary in the same request.")
	case text != nil:
		g.value = append([]byte{}, *text...)
	case bin != nil:
		g.value, g.bin = bin, true
	}
	if g.value != nil && (len(g.value) == 0 || len(g.value) > maxValue) {
		return g, model.Errorf("ValidationException", "1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length between "+
			"1 and %d", maxValue)
	}
	return g, nil
}

func checkDescription(text *string) error {
	if utf8.RuneCountInString(value(text)) > maxDescription {
		return model.Errorf("ValidationException", "1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have length less than "+
			"or equal to %d", maxDescription)
	}
	return nil
}

func (a *api) createSecret(ctx context.Context, in *sdk.CreateSecretInput) (*sdk.CreateSecretOutput, error) {
	g, err := readValue(in.ClientRequestToken, in.SecretString, in.SecretBinary)
	switch {
	case err != nil:
		return nil, err
	case in.Name == nil || !namePattern.MatchString(*in.Name):
		return nil, model.Errorf("ValidationException", "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!")
	case len(in.AddReplicaRegions) > 0:
		return nil, invalid("Berth does not replicate secrets to other regions: leave AddReplicaRegions out")
	}
	if err := cmp.Or(checkDescription(in.Description), checkTags(in.Tags)); err != nil {
		return nil, err
	}
	now := a.Now()
	s := &model.Secret{Name: *in.Name, ARN: a.Scope.ARN("secretsmanager", "secret:"+*in.Name+"-"+letters(6)), Description: value(in.Description),
		KMSKeyID: value(in.KmsKeyId), Type: value(in.Type), Tags: in.Tags, CreatedAt: now, ChangedAt: now}
	var made *model.SecretVersion
	if g.value != nil {
		if made, err = a.seal(ctx, s, g); err != nil {
			return nil, err
		}
	} else if err := a.checkKey(s.KMSKeyID); err != nil {
		return nil, err
	}
	var same *model.Secret
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if old, ok := store.Secrets.Get(tx, s.Name); ok {
			_, again := store.SecretVersions.Get(tx, s.Name+":"+g.token)
			switch {
			case !old.DeleteAt.IsZero():
				return invalidRequest("You can't create this secret because a secret with this name is already scheduled for deletion.")
			case in.ClientRequestToken == nil || !again:
				return model.Errorf("ResourceExistsException", "The operation failed because the secret %s already exists.", s.Name)
			}
			same = old
			return nil
		}
		if made != nil {
			attach(s, made.ID, []string{vault.Current})
			store.SecretVersions.Put(tx, made)
		}
		store.Secrets.Put(tx, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if same != nil {
		if err := a.sameValue(ctx, same, g); err != nil {
			return nil, err
		}
		s = same
	}
	out := &sdk.CreateSecretOutput{ARN: &s.ARN, Name: &s.Name}
	if g.value != nil {
		out.VersionId = &g.token
	}
	return out, nil
}

// checkKey refuses a key that cannot be used.
func (a *api) checkKey(id string) error {
	if id == "" {
		return nil
	}
	k, err := a.Ring.Describe(id)
	if err == nil && k.State != keysEnabled {
		err = model.Errorf("", "%s is not enabled", k.ARN)
	}
	if e, ok := err.(*model.Error); ok {
		return model.Errorf("EncryptionFailure", "Secrets Manager can't encrypt the protected secret text using the provided KMS key: %s", e.Message)
	}
	return err
}

func (a *api) seal(ctx context.Context, s *model.Secret, g given) (*model.SecretVersion, error) {
	v := &model.SecretVersion{Secret: s.Name, ID: g.token, Binary: g.bin, CreatedAt: a.Now()}
	return v, a.Vault.SealSecret(ctx, s, v, g.value)
}

// attach moves staging labels to a version. With AWSCURRENT, AWSPREVIOUS goes to the version that had it.
func attach(s *model.Secret, version string, stages []string) {
	now := maps.Clone(s.Stages)
	if now == nil {
		now = map[string]string{}
	}
	for _, stage := range stages {
		if stage == vault.Current {
			if now[vault.Previous] == version {
				delete(now, vault.Previous)
			}
			if was := now[vault.Current]; was != "" && was != version {
				now[vault.Previous] = was
			}
		}
		now[stage] = version
	}
	s.Stages = now
}

// sameValue refuses a request token that made a version of another value: a request that is repeated says the same.
func (a *api) sameValue(ctx context.Context, s *model.Secret, g given) error {
	var v *model.SecretVersion
	a.Store.View(func(r store.Reader) { v, _ = store.SecretVersions.Get(r, s.Name+":"+g.token) })
	if v == nil {
		return vault.NoSecret()
	}
	was, err := a.Vault.OpenSecret(ctx, s, v)
	if err != nil {
		return err
	}
	if !bytes.Equal(was, g.value) || v.Binary != g.bin {
		return model.Errorf("ResourceExistsException", "You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", g.token, s.ARN)
	}
	return nil
}

// put stores a version of a secret, or finds that it is there.
func (a *api) put(ctx context.Context, id *string, g given, stages []string, also func(*model.Secret)) (*model.Secret, error) {
	s, err := a.live(id)
	if err != nil {
		return nil, err
	}
	planned := *s
	also(&planned)
	v, err := a.seal(ctx, &planned, g)
	if err != nil {
		return nil, err
	}
	again := false
	out, err := a.change(ctx, id, func(tx store.Tx, s *model.Secret) error {
		if s.ARN != planned.ARN {
			return vault.NoSecret() // another one of that name
		}
		if _, again = store.SecretVersions.Get(tx, v.Key()); again {
			return nil
		}
		also(s)
		use := stages
		if len(use) == 0 {
			use = []string{vault.Current}
		}
		if s.Stages[vault.Current] == "" && !slices.Contains(use, vault.Current) {
			use = append(slices.Clone(use), vault.Current) // the first version is current in any case
		}
		attach(s, v.ID, use)
		if len(s.Stages) > maxStages {
			return model.Errorf("LimitExceededException", "A secret has %d staging labels at most", maxStages)
		}
		s.ChangedAt = a.Now()
		store.SecretVersions.Put(tx, v)
		prune(tx, s)
		return nil
	})
	if err == nil && again {
		err = a.sameValue(ctx, out, g)
	}
	return out, err
}

// prune deletes the oldest of the versions without a label, when there are too many.
func prune(tx store.Tx, s *model.Secret) {
	var bare []*model.SecretVersion
	for v := range store.SecretVersions.Scan(tx, s.Name+":") {
		if len(vault.Stages(s, v.ID)) == 0 {
			bare = append(bare, v)
		}
	}
	slices.SortFunc(bare, func(a, b *model.SecretVersion) int { return a.CreatedAt.Compare(b.CreatedAt) })
	for _, v := range bare[:max(0, len(bare)-maxUnstaged)] {
		store.SecretVersions.Delete(tx, v.Key())
	}
}

func (a *api) putSecretValue(ctx context.Context, in *sdk.PutSecretValueInput) (*sdk.PutSecretValueOutput, error) {
	g, err := readValue(in.ClientRequestToken, in.SecretString, in.SecretBinary)
	switch {
	case err != nil:
		return nil, err
	case g.value == nil:
		return nil, invalidRequest("You must provide either SecretString or SecretBinary.")
	}
	for _, stage := range in.VersionStages {
		if err := checkStage(&stage); err != nil {
			return nil, err
		}
	}
	s, err := a.put(ctx, in.SecretId, g, in.VersionStages, func(*model.Secret) {})
	if err != nil {
		return nil, err
	}
	return &sdk.PutSecretValueOutput{ARN: &s.ARN, Name: &s.Name, VersionId: &g.token, VersionStages: vault.Stages(s, g.token)}, nil
}

func checkStage(stage *string) error {
	if stage == nil || *stage == "" || len(*stage) > 256 {
		return model.Errorf("ValidationException", "1 validation error detected: Value at 'versionStage' failed to satisfy constraint: Member must have length between 1 and 256")
	}
	return nil
}

func (a *api) updateSecret(ctx context.Context, in *sdk.UpdateSecretInput) (*sdk.UpdateSecretOutput, error) {
	g, err := readValue(in.ClientRequestToken, in.SecretString, in.SecretBinary)
	if err = cmp.Or(err, checkDescription(in.Description)); err != nil {
		return nil, err
	}
	also := func(s *model.Secret) {
		if in.Description != nil {
			s.Description = *in.Description
		}
		if in.KmsKeyId != nil {
			s.KMSKeyID = *in.KmsKeyId
		}
		if in.Type != nil {
			s.Type = *in.Type
		}
	}
	if g.value == nil {
		if err := a.checkKey(value(in.KmsKeyId)); err != nil {
			return nil, err
		}
		s, err := a.change(ctx, in.SecretId, func(_ store.Tx, s *model.Secret) error {
			also(s)
			s.ChangedAt = a.Now()
			return nil
		})
		if err != nil {
			return nil, err
		}
		return &sdk.UpdateSecretOutput{ARN: &s.ARN, Name: &s.Name}, nil
	}
	s, err := a.put(ctx, in.SecretId, g, nil, also)
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateSecretOutput{ARN: &s.ARN, Name: &s.Name, VersionId: &g.token}, nil
}

func (a *api) updateSecretVersionStage(ctx context.Context, in *sdk.UpdateSecretVersionStageInput) (*sdk.UpdateSecretVersionStageOutput, error) {
	if err := checkStage(in.VersionStage); err != nil {
		return nil, err
	}
	stage, to, from := *in.VersionStage, value(in.MoveToVersionId), value(in.RemoveFromVersionId)
	s, err := a.change(ctx, in.SecretId, func(tx store.Tx, s *model.Secret) error {
		has := s.Stages[stage]
		for _, id := range []string{to, from} {
			if _, ok := store.SecretVersions.Get(tx, s.Name+":"+id); id != "" && !ok {
				return model.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: %s", id)
			}
		}
		switch {
		case to == "" && from == "":
			return invalid("You must specify MoveToVersionId, RemoveFromVersionId, or both.")
		case from == "" && has != "" && has != to:
			return invalid("The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you must explicitly reference "+
				"that version in RemoveFromVersionId.", stage, has)
		case from != "" && has != from:
			return invalid("Staging label %s is not attached to version %s, which RemoveFromVersionId names.", stage, from)
		case to == "" && stage == vault.Current:
			return invalid("You can't remove the staging label %s: move it to another version.", stage)
		case to == "":
			s.Stages = maps.Clone(s.Stages)
			delete(s.Stages, stage)
		default:
			attach(s, to, []string{stage})
		}
		s.ChangedAt = a.Now()
		prune(tx, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateSecretVersionStageOutput{ARN: &s.ARN, Name: &s.Name}, nil
}

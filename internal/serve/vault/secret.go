package vault

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// DefaultSecretKey is under what a secret is that names no key.
const DefaultSecretKey = "alias/aws/secretsmanager"

// The staging labels that the Secrets Manager moves itself.
const (
	Current  = "AWSCURRENT"
	Previous = "AWSPREVIOUS"
	Pending  = "AWSPENDING"
)

// NoSecret is the refusal of a secret that is not there.
func NoSecret() error {
	return model.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

// SecretDeleted is the refusal of a secret whose deletion was asked for.
func SecretDeleted() error {
	return model.Errorf("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
}

// FindSecret reads a secret by its name, its ARN, or its ARN without the last six characters.
func (v *Vault) FindSecret(r store.Reader, id string) (*model.Secret, error) {
	if !strings.HasPrefix(id, "arn:") {
		if s, ok := store.Secrets.Get(r, id); ok {
			return s, nil
		}
		return nil, NoSecret()
	}
	name, ok := strings.CutPrefix(id, v.Scope.ARN("secretsmanager", "secret:"))
	if !ok {
		return nil, NoSecret()
	}
	if s, ok := store.Secrets.Get(r, name); ok { // the part without its end
		return s, nil
	}
	if cut := len(name) - 7; cut > 0 {
		if s, ok := store.Secrets.Get(r, name[:cut]); ok && s.ARN == id {
			return s, nil
		}
	}
	return nil, NoSecret()
}

// SecretQuery says which version of which secret.
type SecretQuery struct {
	ID        string
	VersionID string // "": that of Stage
	Stage     string // "": Current, unless there is a VersionID
}

// GotSecret is a secret's version with its value.
type GotSecret struct {
	Row     *model.Secret
	Version *model.SecretVersion
	Value   []byte
}

// Stages are the labels that are attached to a version, in their order.
func Stages(s *model.Secret, version string) (all []string) {
	for label, id := range s.Stages {
		if id == version {
			all = append(all, label)
		}
	}
	slices.Sort(all)
	return all
}

// FindVersion reads the version that q means.
func (v *Vault) FindVersion(r store.Reader, q SecretQuery) (*model.Secret, *model.SecretVersion, error) {
	s, err := v.FindSecret(r, q.ID)
	if err != nil {
		return nil, nil, err
	}
	if !s.DeleteAt.IsZero() {
		return nil, nil, SecretDeleted()
	}
	id := q.VersionID
	if id == "" {
		stage := q.Stage
		if stage == "" {
			stage = Current
		}
		var ok bool
		if id, ok = s.Stages[stage]; !ok {
			return nil, nil, model.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", stage)
		}
	}
	version, ok := store.SecretVersions.Get(r, s.Name+":"+id)
	switch {
	case !ok:
		return nil, nil, model.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: %s", id)
	case q.Stage != "" && s.Stages[q.Stage] != id:
		return nil, nil, model.Errorf("InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId.")
	}
	return s, version, nil
}

// Secret reads a secret's value.
func (v *Vault) Secret(ctx context.Context, q SecretQuery) (got *GotSecret, err error) {
	got = &GotSecret{}
	v.Store.View(func(r store.Reader) { got.Row, got.Version, err = v.FindVersion(r, q) })
	if err != nil {
		return nil, err
	}
	got.Value, err = v.OpenSecret(ctx, got.Row, got.Version)
	return got, err
}

func sealedFor(s *model.Secret, version string) map[string]string {
	return map[string]string{"SecretARN": s.ARN, "SecretVersionId": version}
}

// SealSecret puts a value into a version, under the secret's key.
func (v *Vault) SealSecret(ctx context.Context, s *model.Secret, to *model.SecretVersion, value []byte) (err error) {
	key := s.KMSKeyID
	if key == "" {
		key = DefaultSecretKey
	}
	to.Sealed, to.KeyARN, err = v.Ring.Encrypt(ctx, key, value, sealedFor(s, to.ID))
	return failure("EncryptionFailure", "Secrets Manager can't encrypt the protected secret text using the provided KMS key", err)
}

// OpenSecret decrypts a version.
func (v *Vault) OpenSecret(ctx context.Context, s *model.Secret, of *model.SecretVersion) ([]byte, error) {
	value, _, err := v.Ring.Decrypt(ctx, of.Sealed, sealedFor(s, of.ID))
	return value, failure("DecryptionFailure", "Secrets Manager can't decrypt the protected secret text using the provided KMS key", err)
}

func failure(code, text string, err error) error {
	if e, ok := err.(*model.Error); ok {
		return model.Errorf(code, "%s: %s", text, e.Message)
	}
	return err
}

// Due deletes the secrets whose recovery window is over. The leader calls it; next is when it is to be called again at the latest.
func (v *Vault) Due(ctx context.Context, now time.Time) (deleted []string, next time.Time, err error) {
	v.Store.View(func(r store.Reader) {
		for s := range store.Secrets.Scan(r, "") {
			switch {
			case s.DeleteAt.IsZero():
			case !s.DeleteAt.After(now):
				deleted = append(deleted, s.Name)
			case next.IsZero() || s.DeleteAt.Before(next):
				next = s.DeleteAt
			}
		}
	})
	for _, name := range deleted {
		err := v.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
			if s, ok := store.Secrets.Get(tx, name); ok && !s.DeleteAt.IsZero() && !s.DeleteAt.After(now) {
				RemoveSecret(tx, name)
			}
			return nil
		})
		if err != nil {
			return nil, next, err
		}
	}
	return deleted, next, nil
}

// RemoveSecret deletes a secret and all that it ever was.
func RemoveSecret(tx store.Tx, name string) {
	for _, version := range slices.Collect(store.SecretVersions.Scan(tx, name+":")) {
		store.SecretVersions.Delete(tx, version.Key())
	}
	store.Secrets.Delete(tx, name)
}

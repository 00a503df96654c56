// Package secretsmanager is the Secrets Manager: secrets with versions and staging labels, encrypted under KMS keys, with resource
// policies and a recovery window. Rotation, which needs functions, and replication are refused by name.
package secretsmanager

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store store.Store
	Vault *vault.Vault
	Ring  Keys
	Scope model.Scope
	Now   func() time.Time
	Log   *slog.Logger
}

// Keys describes the keys that secrets are under. *keys.Ring is the real one.
type Keys interface {
	Describe(keyID string) (keys.KeyInfo, error)
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "secretsmanager", Protocol: wire.JSON11, Target: "secretsmanager", Types: sdk.TypeRegistry, Asks: a.asks}
	wire.Handle(s, a.createSecret)
	wire.Handle(s, a.updateSecret)
	wire.Handle(s, a.putSecretValue)
	wire.Handle(s, a.getSecretValue)
	wire.Handle(s, a.batchGetSecretValue)
	wire.Handle(s, a.describeSecret)
	wire.Handle(s, a.listSecrets)
	wire.Handle(s, a.listSecretVersionIds)
	wire.Handle(s, a.updateSecretVersionStage)
	wire.Handle(s, a.deleteSecret)
	wire.Handle(s, a.restoreSecret)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.getResourcePolicy)
	wire.Handle(s, a.putResourcePolicy)
	wire.Handle(s, a.deleteResourcePolicy)
	wire.Handle(s, a.validateResourcePolicy)
	wire.Handle(s, a.getRandomPassword)
	return s
}

func invalid(format string, args ...any) error {
	return model.Errorf("InvalidParameterException", format, args...)
}

func invalidRequest(format string, args ...any) error {
	return model.Errorf("InvalidRequestException", format, args...)
}

// required refuses a member that is missing.
func required(member string, v *string) error {
	switch {
	case v == nil:
		return model.Errorf("ValidationException", "1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
	case *v == "" || len(*v) > 2048:
		return model.Errorf("ValidationException", "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length between 1 and 2048", member)
	}
	return nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// find reads the secret that a request names, also one that is to be deleted.
func (a *api) find(id *string) (s *model.Secret, err error) {
	if err := required("secretId", id); err != nil {
		return nil, err
	}
	a.Store.View(func(r store.Reader) { s, err = a.Vault.FindSecret(r, *id) })
	return s, err
}

// live is find, but for secrets that are to be deleted.
func (a *api) live(id *string) (*model.Secret, error) {
	s, err := a.find(id)
	if err == nil && !s.DeleteAt.IsZero() {
		err = vault.SecretDeleted()
	}
	return s, err
}

// change changes the secret that a request names, unless it is to be deleted.
func (a *api) change(ctx context.Context, id *string, f func(tx store.Tx, s *model.Secret) error) (out *model.Secret, err error) {
	return a.changeAny(ctx, id, func(tx store.Tx, s *model.Secret) error {
		if !s.DeleteAt.IsZero() {
			return vault.SecretDeleted()
		}
		return f(tx, s)
	})
}

func (a *api) changeAny(ctx context.Context, id *string, f func(tx store.Tx, s *model.Secret) error) (out *model.Secret, err error) {
	if err := required("secretId", id); err != nil {
		return nil, err
	}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := a.Vault.FindSecret(tx, *id)
		if err != nil {
			return err
		}
		s := *old
		if err := f(tx, &s); err != nil {
			return err
		}
		store.Secrets.Put(tx, &s)
		out = &s
		return nil
	})
	return out, err
}

// letters are n random ones, as behind a secret's name in its ARN.
func letters(n int) string {
	const of = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = of[pick(len(of))]
	}
	return string(b)
}

// pick is a random number below n, each as likely as another.
func pick(n int) int {
	var b [1]byte
	for most := 256 - 256%n; ; {
		if rand.Read(b[:]); int(b[0]) < most {
			return int(b[0]) % n
		}
	}
}

func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// page cuts a list, whose names rise, at max; tokens are names.
func page[T any](all []T, max *int32, token *string, most int, name func(T) string) (part []T, next *string, err error) {
	size := most
	if max != nil {
		if *max < 1 || int(*max) > most {
			return nil, nil, model.Errorf("ValidationException", "1 validation error detected: Value '%d' at 'maxResults' failed to satisfy constraint: Member must have "+
				"value between 1 and %d", *max, most)
		}
		size = int(*max)
	}
	if value(token) != "" {
		after, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil {
			return nil, nil, model.Errorf("InvalidNextTokenException", "Invalid token")
		}
		from := len(all)
		for i, v := range all {
			if cmp.Compare(name(v), string(after)) > 0 {
				from = i
				break
			}
		}
		all = all[from:]
	}
	if len(all) <= size {
		return all, nil, nil
	}
	return all[:size], new(base64.RawURLEncoding.EncodeToString([]byte(name(all[size-1])))), nil
}

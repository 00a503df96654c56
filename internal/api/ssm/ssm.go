// Package ssm is the Parameter Store of the Systems Manager: parameters with versions, labels and tags, encrypted where they are
// SecureStrings, AWS's public parameters that modules read, and secrets by reference.
package ssm

import (
	"encoding/base64"
	"log/slog"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"

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

// Keys describes the keys that SecureStrings are under. *keys.Ring is the real one.
type Keys interface {
	Describe(keyID string) (keys.KeyInfo, error)
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "ssm", Protocol: wire.JSON11, Target: "AmazonSSM", Types: sdk.TypeRegistry, Asks: a.asks}
	wire.Handle(s, a.putParameter)
	wire.Handle(s, a.getParameter)
	wire.Handle(s, a.getParameters)
	wire.Handle(s, a.getParametersByPath)
	wire.Handle(s, a.getParameterHistory)
	wire.Handle(s, a.describeParameters)
	wire.Handle(s, a.deleteParameter)
	wire.Handle(s, a.deleteParameters)
	wire.Handle(s, a.labelParameterVersion)
	wire.Handle(s, a.unlabelParameterVersion)
	wire.Handle(s, a.addTagsToResource)
	wire.Handle(s, a.removeTagsFromResource)
	wire.Handle(s, a.listTagsForResource)
	return s
}

func invalid(format string, args ...any) error {
	return model.Errorf("ValidationException", format, args...)
}

// notFound has no text with AWS.
func notFound() error { return &model.Error{Code: "ParameterNotFound"} }

func required(member string, v *string) error {
	if v == nil {
		return invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
	}
	if *v == "" {
		return invalid("1 validation error detected: Value '' at '%s' failed to satisfy constraint: Member must have length greater than or equal to 1", member)
	}
	return nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// page cuts a list, whose names rise, at max; tokens are names.
func page[T any](all []T, max *int32, token *string, most int, name func(T) string) (part []T, next *string, err error) {
	size := most
	if max != nil {
		if *max < 1 || int(*max) > most {
			return nil, nil, invalid("1 validation error detected: Value '%d' at 'maxResults' failed to satisfy constraint: Member must have value between 1 and %d", *max, most)
		}
		size = int(*max)
	}
	if value(token) != "" {
		after, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil {
			return nil, nil, model.Errorf("InvalidNextToken", "The specified token is not valid.")
		}
		from := len(all)
		for i, v := range all {
			if name(v) > string(after) {
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

// name reads the name of a parameter without a selector.
func (a *api) name(text *string) (path string, err error) {
	if err := required("name", text); err != nil {
		return "", err
	}
	n, err := a.Vault.ReadParameterName(*text)
	if err != nil {
		return "", err
	}
	if n.Selector != "" {
		return "", invalid("Parameter name: %s must not have a version or a label here", *text)
	}
	return n.Path, nil
}

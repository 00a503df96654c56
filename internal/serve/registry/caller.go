package registry

import (
	"context"
	"errors"
	"strings"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// caller is who logged in for a request. The cluster's nodes and the API, which asks for itself, are none.
type caller struct {
	password string
	arn      string // of a user or a role's session; "" for the owner
}

type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// allow refuses what whoever logged in may not do to a repository.
func (r *Registry) allow(ctx context.Context, action, repo string) error {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		return nil
	}
	var policies []string
	r.Store.View(func(tx store.Reader) {
		if row, ok := store.Repositories.Get(tx, repo); ok && row.Policy != "" {
			policies = []string{row.Policy}
		}
	})
	return denied(r.Auth.AllowToken(c.password, action, r.Scope.ARN("ecr", "repository/"+repo), policies...))
}

// denied is a refusal of Auth's in the words of the distribution-spec.
func denied(err error) error {
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*model.Error](err); ok {
		return refuse(403, "DENIED", refusal.Message)
	}
	return refuse(403, "DENIED", err.Error())
}

// settings are the registry's, which may be none.
func (r *Registry) settings() (s model.RegistrySettings) {
	r.Store.View(func(tx store.Reader) {
		if row, ok := store.RegistrySettings.Get(tx, model.RegistryKey); ok {
			s = *row
		}
	})
	return s
}

// excluded tells whether a pull is by a principal whose pulls are not noted.
func (r *Registry) excluded(ctx context.Context) bool {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok || c.arn == "" {
		return false
	}
	for principal := range r.settings().Exclusions {
		if principal == c.arn || sessionOf(c.arn, principal) {
			return true
		}
	}
	return false
}

// sessionOf tells whether arn:…:sts::<account>:assumed-role/<name>/<session> is a session of arn:…:iam::<account>:role/<path><name>.
func sessionOf(session, role string) bool {
	s, r := strings.SplitN(session, ":", 6), strings.SplitN(role, ":", 6)
	if len(s) != 6 || len(r) != 6 || s[2] != "sts" || r[2] != "iam" || s[4] != r[4] || !strings.HasPrefix(r[5], "role/") {
		return false
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(s[5], "assumed-role/"), "/")
	return strings.HasPrefix(s[5], "assumed-role/") && name == r[5][strings.LastIndex(r[5], "/")+1:]
}

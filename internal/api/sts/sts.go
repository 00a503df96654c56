// Package sts is the Security Token Service: who callers are, and credentials for a while.
package sts

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store    store.Store // IAM's, of the home region
	Scope    model.Scope
	Now      func() time.Time
	Sessions Sessions
	// Fetch, when not nil, gets what providers of tokens publish; default: over HTTPS, with bounds.
	Fetch func(ctx context.Context, p *model.OIDCProvider, url string) ([]byte, error)
}

// Sessions makes credentials. iam.Authority is the real one.
type Sessions interface {
	Grant(g model.Grant, ttl time.Duration) model.Credentials
}

type api struct {
	Config
	keys *keySets
}

// statuses are the HTTP statuses of STS's errors; others have 400.
var statuses = map[string]int{"RegionDisabledException": http.StatusForbidden, "IDPRejectedClaim": http.StatusForbidden}

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{Config: c}
	if a.Fetch == nil {
		a.Fetch = fetch
	}
	a.keys = newKeySets(a.Fetch, a.Now)
	s := &wire.Service{Name: "sts", Protocol: wire.Query, Version: "2011-06-15", Namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
		Statuses: statuses, Unsigned: []string{"AssumeRoleWithWebIdentity"}, Asks: a.asks}
	wire.Handle(s, getCallerIdentity)
	wire.Handle(s, a.getSessionToken)
	wire.Handle(s, a.getAccessKeyInfo)
	wire.Handle(s, a.assumeRole)
	wire.Handle(s, a.assumeRoleWithWebIdentity)
	wire.Handle(s, decodeAuthorizationMessage)
	return s
}

func getCallerIdentity(ctx context.Context, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	c := wire.CallerFrom(ctx)
	return &sts.GetCallerIdentityOutput{Account: &c.Account, Arn: &c.ARN, UserId: &c.UserID}, nil
}

// The life of GetSessionToken's credentials, seconds.
const minSession, defaultSession, maxSession = 900, 43200, 129600

func (a *api) getSessionToken(ctx context.Context, in *sts.GetSessionTokenInput) (*sts.GetSessionTokenOutput, error) {
	c := wire.CallerFrom(ctx)
	if c.Grant != nil {
		return nil, model.Errorf("AccessDenied", "Cannot call GetSessionToken with session credentials")
	}
	if in.SerialNumber != nil || in.TokenCode != nil {
		return nil, model.Errorf("AccessDenied", "MultiFactorAuthentication failed: Berth has no MFA devices")
	}
	seconds, err := duration(in.DurationSeconds, defaultSession, minSession, maxSession)
	if err != nil {
		return nil, err
	}
	return &sts.GetSessionTokenOutput{Credentials: view(a.Sessions.Grant(model.Grant{User: c.ARN, UserID: c.UserID}, seconds))}, nil
}

func view(c model.Credentials) *types.Credentials {
	return &types.Credentials{AccessKeyId: &c.AccessKeyID, SecretAccessKey: &c.SecretAccessKey, SessionToken: &c.Token, Expiration: &c.Expiration}
}

func duration(asked *int32, byDefault, least, most int32) (time.Duration, error) {
	seconds := byDefault
	if asked != nil {
		seconds = *asked
	}
	if seconds < least || seconds > most {
		return 0, model.Errorf("ValidationError", "1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: "+
			"Member must have value between %d and %d", seconds, least, most)
	}
	return time.Duration(seconds) * time.Second, nil
}

// getAccessKeyInfo knows the account of the keys that Berth gave; those of sessions are not stored, and are taken for its own.
func (a *api) getAccessKeyInfo(ctx context.Context, in *sts.GetAccessKeyInfoInput) (*sts.GetAccessKeyInfoOutput, error) {
	id := text(in.AccessKeyId)
	known := id == wire.CallerFrom(ctx).AccessKeyID || strings.HasPrefix(id, "ASIA")
	a.Store.View(func(r store.Reader) {
		if _, ok := store.AccessKeys.Get(r, id); ok {
			known = true
		}
	})
	if len(id) < 16 || len(id) > 128 || !known {
		return nil, model.Errorf("ValidationError", "Berth gave no access key with the id %.128q", id)
	}
	return &sts.GetAccessKeyInfoOutput{Account: &a.Scope.Account}, nil
}

// decodeAuthorizationMessage: Berth's refusals are in words, and carry no message to decode.
func decodeAuthorizationMessage(context.Context, *sts.DecodeAuthorizationMessageInput) (*sts.DecodeAuthorizationMessageOutput, error) {
	return nil, model.Errorf("InvalidAuthorizationMessageException", "The message is not one of Berth's: its refusals say in words what is missing")
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

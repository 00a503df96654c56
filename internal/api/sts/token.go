package sts

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // of signatures
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// token is a JSON Web Token of OpenID Connect.
type token struct {
	algorithm, key string
	signed         string // what the signature is of
	signature      []byte

	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  float64  `json:"exp"`
	NotYet   float64  `json:"nbf"`
	Methods  []string `json:"amr"`
}

// audience is a text or a list of them.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		*a = audience{""}
		return json.Unmarshal(data, &(*a)[0])
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// maxToken is the longest token that AWS takes, characters.
const maxToken = 20_000

var errToken = errors.New("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)") //nolint:staticcheck // AWS's sentence

// readToken reads a token, whose signature nobody has checked yet.
func readToken(s string) (*token, error) {
	parts := strings.Split(s, ".")
	if len(s) > maxToken || len(parts) != 3 {
		return nil, errToken
	}
	var head struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}
	t := &token{signed: parts[0] + "." + parts[1]}
	for i, into := range []any{&head, t} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(data, into) != nil {
			return nil, errToken
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || t.Issuer == "" || t.Subject == "" || len(t.Audience) == 0 {
		return nil, errToken
	}
	t.algorithm, t.key, t.signature = head.Alg, head.Kid, signature
	return t, nil
}

// leeway is how far clocks may differ.
const leeway = 60

func (t *token) inTime(now time.Time) error {
	at := float64(now.Unix())
	if t.Expires == 0 || at > t.Expires+leeway {
		return fmt.Errorf("current date/time %d must be before the expiration date/time %.0f", now.Unix(), t.Expires)
	}
	if at < t.NotYet-leeway {
		return fmt.Errorf("the token is not valid before %.0f", t.NotYet)
	}
	return nil
}

// check checks the signature with a key.
func (t *token) check(key crypto.PublicKey) bool {
	if len(t.algorithm) != 5 {
		return false
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[t.algorithm[2:]]
	if hash == 0 {
		return false
	}
	h := hash.New()
	h.Write([]byte(t.signed))
	sum := h.Sum(nil)
	switch key := key.(type) {
	case *rsa.PublicKey:
		return t.algorithm[:2] == "RS" && rsa.VerifyPKCS1v15(key, hash, sum, t.signature) == nil
	case *ecdsa.PublicKey:
		n := (key.Curve.Params().BitSize + 7) / 8
		if t.algorithm[:2] != "ES" || len(t.signature) != 2*n {
			return false
		}
		return ecdsa.Verify(key, sum, new(big.Int).SetBytes(t.signature[:n]), new(big.Int).SetBytes(t.signature[n:]))
	}
	return false
}

// keySets keeps what providers publish for a while.
type keySets struct {
	fetch func(ctx context.Context, p *model.OIDCProvider, url string) ([]byte, error)
	now   func() time.Time

	mu   sync.Mutex
	sets map[string]keySet // by the provider's ARN
}

type keySet struct {
	keys map[string]crypto.PublicKey // by kid
	at   time.Time
	// failed is when the provider was asked last, and did not answer well
	failed time.Time
	// of whom: a provider that was made anew is asked anew
	made time.Time
}

// A set of keys is asked for again after an hour; for a key that it has not, after a minute; after a failure, not for a while.
const keysFor, keysAgain, keysPause = time.Hour, time.Minute, 10 * time.Second

func newKeySets(fetch func(context.Context, *model.OIDCProvider, string) ([]byte, error), now func() time.Time) *keySets {
	return &keySets{fetch: fetch, now: now, sets: map[string]keySet{}}
}

// verify checks a token's signature with the keys of its provider.
func (k *keySets) verify(ctx context.Context, p *model.OIDCProvider, t *token) error {
	k.mu.Lock()
	set, now := k.sets[p.ARN], k.now()
	k.mu.Unlock()
	key, known := set.keys[t.key]
	if age := now.Sub(set.at); !set.made.Equal(p.CreatedAt) || age > keysFor || !known && age > keysAgain {
		var keys map[string]crypto.PublicKey
		var err error
		if now.Sub(set.failed) < keysPause { // whoever calls is nobody yet
			err = errors.New("it was asked a moment ago, without success")
		} else if keys, err = k.load(ctx, p); err != nil {
			set.failed = now
			k.mu.Lock()
			k.sets[p.ARN] = set
			k.mu.Unlock()
		}
		if err != nil {
			return fmt.Errorf("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation "+
				"for requirements: %w", err)
		}
		set = keySet{keys: keys, at: now, made: p.CreatedAt}
		k.mu.Lock()
		k.sets[p.ARN] = set
		k.mu.Unlock()
		key, known = set.keys[t.key]
	}
	if !known || !t.check(key) {
		return errors.New("The token's signature does not verify with a key of its provider") //nolint:staticcheck // for clients
	}
	return nil
}

// load asks a provider for its keys.
func (k *keySets) load(ctx context.Context, p *model.OIDCProvider) (map[string]crypto.PublicKey, error) {
	data, err := k.fetch(ctx, p, "https://"+p.URL+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var conf struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(data, &conf); err != nil || !strings.HasPrefix(conf.JWKS, "https://") {
		return nil, errors.New("its openid-configuration names no jwks_uri over https")
	}
	if data, err = k.fetch(ctx, p, conf.JWKS); err != nil {
		return nil, err
	}
	return readKeys(data)
}

// readKeys reads a JSON Web Key Set; keys of kinds that are not checked are left out.
func readKeys(data []byte) (map[string]crypto.PublicKey, error) {
	var set struct {
		Keys []struct {
			Kty, Kid, N, E, Crv, X, Y string
		} `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("its keys cannot be read")
	}
	keys := map[string]crypto.PublicKey{}
	for _, k := range set.Keys {
		switch k.Kty {
		case "RSA":
			n, e := number(k.N), number(k.E)
			if n.BitLen() >= 2048 && n.BitLen() <= 8192 && e.IsInt64() && e.Int64() > 1 && e.Int64() < 1<<31 {
				keys[k.Kid] = &rsa.PublicKey{N: n, E: int(e.Int64())}
			}
		case "EC":
			curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Crv]
			if curve == nil {
				continue
			}
			key := &ecdsa.PublicKey{Curve: curve, X: number(k.X), Y: number(k.Y)}
			if _, err := key.ECDH(); err == nil { // the point is on the curve
				keys[k.Kid] = key
			}
		}
	}
	return keys, nil
}

func number(s string) *big.Int {
	b, _ := base64.RawURLEncoding.DecodeString(s) // what is none becomes 0, which no key has
	return new(big.Int).SetBytes(b)
}

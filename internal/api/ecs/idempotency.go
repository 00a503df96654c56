package ecs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

const (
	// maxToken is how long a client token may be.
	maxToken = 64
	// maxServiceToken is how long CreateService's may be.
	maxServiceToken = 36
	// tokenLife is how long a RunTask token is remembered.
	tokenLife = 24 * time.Hour
	// sweepEvery is how often expired tokens are forgotten at most.
	sweepEvery = 10 * time.Minute
)

// digest is a request's SHA-256, in hexadecimal. The request must not hold its client token.
func digest(request any) (string, error) {
	b, err := model.EncodeJSON(request)
	if err != nil {
		return "", fmt.Errorf("hash a request: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// recall finds what a token made, unless it has expired.
func (a *api) recall(r store.Reader, operation, cluster, token string) (*model.Idempotency, bool) {
	rec, ok := store.Idempotencies.Get(r, (&model.Idempotency{Operation: operation, Cluster: cluster, Token: token}).Key())
	if !ok || (!rec.ExpiresAt.IsZero() && !a.now().Before(rec.ExpiresAt)) {
		return nil, false
	}
	return rec, true
}

// remember keeps what a token made, and now and then forgets the expired ones.
func (a *api) remember(tx store.Tx, rec *model.Idempotency) {
	store.Idempotencies.Put(tx, rec)
	now := a.now()
	last := a.swept.Load()
	if now.Unix()-last < int64(sweepEvery.Seconds()) || !a.swept.CompareAndSwap(last, now.Unix()) {
		return
	}
	var expired []string
	for rec := range store.Idempotencies.Scan(tx, "") {
		if !rec.ExpiresAt.IsZero() && !now.Before(rec.ExpiresAt) {
			expired = append(expired, rec.Key())
		}
	}
	for _, key := range expired {
		store.Idempotencies.Delete(tx, key)
	}
}

// Package vault reads what is kept for applications: parameters and secrets, whose values are opened with the ring of keys. The APIs
// (ssm, secretsmanager) and the start of tasks read by it, so that a name means the same to all.
package vault

import (
	"context"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Ring is the part of the ring of keys that values need. *keys.Ring is the real one.
type Ring interface {
	Encrypt(ctx context.Context, keyID string, plain []byte, context map[string]string) (sealed []byte, keyARN string, err error)
	Decrypt(ctx context.Context, sealed []byte, context map[string]string) (plain []byte, keyARN string, err error)
}

// Vault is a region's parameters and secrets.
type Vault struct {
	Store store.Store
	Scope model.Scope
	Ring  Ring
}

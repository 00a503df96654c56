package model

import (
	"time"

	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// MasterKey tells a server whether the master key that it has is the one under which the KMS keys are wrapped: one row of the home
// region, written by the first leader. The key itself is in no row.
type MasterKey struct {
	Salt  []byte
	Check []byte // a MAC under what the master key and the salt make
}

// MasterKeyKey is the key of the one row.
const MasterKeyKey = "master"

// Key is MasterKeyKey.
func (m *MasterKey) Key() string { return MasterKeyKey }

// KMSKey is a KMS key. Written by serve/keys: for the API, for the services that use a key of AWS's, and for the leader, which rotates and
// deletes those whose time has come.
type KMSKey struct {
	ID          string // a UUID
	Description string
	CreatedAt   time.Time
	// Service is whose key alias/aws/<service> is; "" for those of customers.
	Service  string
	Disabled bool
	// DeleteAt is when the key is deleted; zero as long as nobody asked for it.
	DeleteAt time.Time
	Policy   string // the document, as given
	Tags     []kmstypes.Tag
	// RotateDays is every how many days the key gets new material; 0: it does not. NextRotation is when next.
	RotateDays   int
	NextRotation time.Time
	// Materials are all that the key ever had, the one that encrypts last.
	Materials []KMSMaterial
}

// Key is the id.
func (k *KMSKey) Key() string { return k.ID }

// KMSMaterial is one of a key's materials.
type KMSMaterial struct {
	Sealed []byte // under the master key
	At     time.Time
	Asked  bool // by RotateKeyOnDemand
}

// KMSAlias is another name of a key. Written by serve/keys.
type KMSAlias struct {
	Name      string // such as alias/app
	KeyID     string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Key is the name.
func (a *KMSAlias) Key() string { return a.Name }

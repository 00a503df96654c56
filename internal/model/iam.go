package model

import (
	"strings"
	"time"

	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// IAMIdentity is what users, groups and roles have in common. Written by the API.
type IAMIdentity struct {
	Name, Path string
	ID         string // such as AROA…: no two ever have the same, though one has the other's name
	ARN        string
	CreatedAt  time.Time
	Attached   []string // the ARNs of managed policies
	Inline     []InlinePolicy
}

// Key is the name in small letters: names differ by more than their letters' size.
func (i *IAMIdentity) Key() string { return strings.ToLower(i.Name) }

// InlinePolicy is a policy that is part of an identity.
type InlinePolicy struct{ Name, Document string }

// IAMUser is a user. Written by the API.
type IAMUser struct {
	IAMIdentity
	Boundary string // the ARN of a managed policy, "" without one
	Tags     []iamtypes.Tag
	Groups   []string // keys
}

// IAMGroup is a group of users, who know themselves that they are in it. Written by the API.
type IAMGroup struct{ IAMIdentity }

// IAMRole is a role. Written by the API.
type IAMRole struct {
	IAMIdentity
	Description string
	Trust       string // the document that says who may assume it
	MaxSession  int32  // seconds
	Boundary    string
	Tags        []iamtypes.Tag
}

// IAMPolicy is a managed policy of the account. Written by the API.
type IAMPolicy struct {
	Name, Path, ID, ARN, Description string
	Tags                             []iamtypes.Tag
	Versions                         []PolicyVersion
	Last                             int // the number of the newest version that ever was
	CreatedAt, UpdatedAt             time.Time
}

// Key is the ARN.
func (p *IAMPolicy) Key() string { return p.ARN }

// Default is the version that counts.
func (p *IAMPolicy) Default() *PolicyVersion {
	for i := range p.Versions {
		if p.Versions[i].Default {
			return &p.Versions[i]
		}
	}
	return &PolicyVersion{} // there always is one
}

// PolicyVersion is one version of a managed policy.
type PolicyVersion struct {
	ID        string // v1, v2, …
	Document  string
	Default   bool
	CreatedAt time.Time
}

// AccessKey is a user's. Written by the API.
type AccessKey struct {
	ID        string // AKIA…
	User      string // the user's key
	Sealed    []byte // the secret, sealed with a key made from the root key's
	Inactive  bool
	CreatedAt time.Time
}

// Key is the id.
func (k *AccessKey) Key() string { return k.ID }

// InstanceProfile carries a role to an instance. Written by the API.
type InstanceProfile struct {
	Name, Path, ID, ARN string
	Role                string // a role's key, "" without one
	Tags                []iamtypes.Tag
	CreatedAt           time.Time
}

// Key is the name in small letters.
func (p *InstanceProfile) Key() string { return strings.ToLower(p.Name) }

// OIDCProvider is somebody whose tokens roles may trust. Written by the API.
type OIDCProvider struct {
	ARN         string
	URL         string // without https://
	ClientIDs   []string
	Thumbprints []string // SHA-1 of certificates, hexadecimal
	Tags        []iamtypes.Tag
	CreatedAt   time.Time
}

// Key is the ARN.
func (p *OIDCProvider) Key() string { return p.ARN }

// IAMAccount is what IAM knows of the account. Written by the API.
type IAMAccount struct{ Alias string }

// Key is the one row's.
func (*IAMAccount) Key() string { return "account" }

// Grant is what a session was made with. It travels inside the session's token, sealed.
type Grant struct {
	Role    string `json:"r,omitempty"` // a role's ARN
	RoleID  string `json:"i,omitempty"` // "" for a role that IAM did not know
	Session string `json:"s,omitempty"` // its name
	User    string `json:"u,omitempty"` // instead of a role: a user's ARN, or the root's
	UserID  string `json:"ui,omitempty"`
	// Policies are the session's own, Managed the ARNs of others;
	Policies []string `json:"p,omitempty"`
	Managed  []string `json:"m,omitempty"`
	// Tags are the session's, Transitive the keys of those that go on to the next role.
	Tags       map[string]string `json:"t,omitempty"`
	Transitive []string          `json:"tt,omitempty"`
	// Federated is the ARN of the provider whose token opened the session, "" without one.
	Federated string `json:"f,omitempty"`
	Source    string `json:"si,omitempty"` // the source identity
	Issued    int64  `json:"a,omitempty"`  // Unix seconds
}

// Credentials are those of a session.
type Credentials struct {
	AccessKeyID, SecretAccessKey, Token string
	Expiration                          time.Time
}

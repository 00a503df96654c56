package model

import (
	"fmt"
	"time"

	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// Parameter is a parameter of the Parameter Store. Written by the ssm API.
type Parameter struct {
	Path   string // the name without its first slash: /x and x are one
	Name   string // as it was first given
	Newest int64  // the number of the newest version
	Labels map[string]int64
	Tags   []ssmtypes.Tag
}

// Key is the path.
func (p *Parameter) Key() string { return p.Path }

// ParameterVersion is one value that a parameter had. Written by the ssm API.
type ParameterVersion struct {
	Path           string
	Number         int64
	Type           ssmtypes.ParameterType
	Value          string // of a SecureString: ""
	Sealed         []byte // of a SecureString: the value under KeyID
	KeyID          string // as it was given
	Tier           ssmtypes.ParameterTier
	DataType       string
	Description    string
	AllowedPattern string
	At             time.Time
	User           string // the ARN of who wrote it
}

// Key is <path>:<number>, in the order of the numbers.
func (v *ParameterVersion) Key() string { return ParameterVersionKey(v.Path, v.Number) }

// ParameterVersionKey is the key of a version.
func ParameterVersionKey(path string, number int64) string {
	return fmt.Sprintf("%s:%010d", path, number)
}

// Secret is a secret of the Secrets Manager. Written by the secretsmanager API, and at the end of its recovery window by the leader.
type Secret struct {
	Name        string
	ARN         string // with its six random characters
	Description string
	KMSKeyID    string // as it was given; "": AWS's own
	Type        string
	Tags        []smtypes.Tag
	Policy      string // "": none
	CreatedAt   time.Time
	ChangedAt   time.Time
	AccessedAt  time.Time         // the day when it was last read
	Stages      map[string]string // the version to which each staging label is attached
	DeletedAt   time.Time         // when its deletion was asked for
	DeleteAt    time.Time         // when it is deleted; zero: never
}

// Key is the name.
func (s *Secret) Key() string { return s.Name }

// SecretVersion is one value that a secret had. Written by the secretsmanager API.
type SecretVersion struct {
	Secret    string // the name
	ID        string // the ClientRequestToken with which it was made
	Sealed    []byte // the value under KeyARN
	KeyARN    string
	Binary    bool
	CreatedAt time.Time
}

// Key is <secret>:<id>.
func (v *SecretVersion) Key() string { return v.Secret + ":" + v.ID }

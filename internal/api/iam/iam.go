// Package iam knows the secrets: the root access key of this Berth, the session credentials of tasks with a role, and the
// passwords of the registry. Sessions and passwords are not stored: their tokens carry what they are good for, sealed with a key
// made from the root's secret.
package iam

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
)

// rootKey is the file's content.
type rootKey struct {
	AccessKeyID     string
	SecretAccessKey string
}

// Authority implements wire.Keys and issues credentials.
type Authority struct {
	root  rootKey
	scope model.Scope
	now   func() time.Time
}

// Open reads the root key from file, making one on first use; the file is 0600. scope says whose the callers are.
func Open(file string, scope model.Scope, now func() time.Time) (*Authority, error) {
	a := &Authority{scope: scope, now: now}
	var err error
	a.root, err = readKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = writeKey(file, rootKey{AccessKeyID: "AKIA" + random32(10), SecretAccessKey: random64(30)}); err == nil {
			a.root, err = readKey(file)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	return a, nil
}

// Root returns the root access key.
func (a *Authority) Root() (accessKeyID, secret string) {
	return a.root.AccessKeyID, a.root.SecretAccessKey
}

// ReadRoot returns the root access key of a file that Open made.
func ReadRoot(file string) (accessKeyID, secret string, err error) {
	k, err := readKey(file)
	return k.AccessKeyID, k.SecretAccessKey, err
}

// readKey refuses a file that others may read: whoever has the root key is this Berth's owner.
func readKey(file string) (k rootKey, err error) {
	st, err := os.Stat(file)
	if err != nil {
		return k, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return k, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 on it", file, st.Mode().Perm())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return k, fmt.Errorf("%s: %w", file, err)
	}
	if k.AccessKeyID == "" || k.SecretAccessKey == "" {
		return k, fmt.Errorf("%s holds no key", file)
	}
	return k, nil
}

// writeKey makes the file whole or not at all, and leaves one that another process made in the meantime.
func writeKey(file string, k rootKey) error {
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// random32 is n random bytes in upper-case base32, as access keys are.
func random32(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
}

func random64(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// claims is what a token is good for.
type claims struct {
	Kind    string `json:"k"` // session or registry
	Key     string `json:"a,omitempty"`
	Role    string `json:"r,omitempty"`
	Session string `json:"s,omitempty"`
	Expires int64  `json:"e"` // Unix seconds
}

const (
	kindSession  = "session"
	kindRegistry = "registry"
)

// mac keys differ by purpose, so that a token of one kind is none of another.
func (a *Authority) mac(purpose, data string) []byte {
	m := hmac.New(sha256.New, []byte(a.root.SecretAccessKey))
	m.Write([]byte(purpose + "\x00" + data))
	return m.Sum(nil)
}

func (a *Authority) seal(c claims) string {
	data, _ := json.Marshal(c) // strings and a number always marshal
	body := base64.RawURLEncoding.EncodeToString(data)
	return body + "." + base64.RawURLEncoding.EncodeToString(a.mac("token", body))
}

// unseal returns the claims of a token that this instance sealed, expired or not.
func (a *Authority) unseal(token, kind string) (c claims, ok bool) {
	body, sum, _ := strings.Cut(token, ".")
	got, err := base64.RawURLEncoding.DecodeString(sum)
	if err != nil || !hmac.Equal(got, a.mac("token", body)) {
		return c, false
	}
	data, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || json.Unmarshal(data, &c) != nil {
		return c, false
	}
	return c, c.Kind == kind
}

func (a *Authority) expired(c claims) bool { return a.now().Unix() >= c.Expires }

// sessionSecret derives the secret of a session's access key; nobody stores it.
func (a *Authority) sessionSecret(token string) string {
	return base64.RawURLEncoding.EncodeToString(a.mac("secret", token))[:40]
}

// Session is temporary credentials for a role.
type Session struct {
	RoleARN         string
	AccessKeyID     string
	SecretAccessKey string
	Token           string
	Expiration      time.Time
}

// Issue makes credentials of a role for ttl. They are whole seconds long, and good until the root key changes at most.
func (a *Authority) Issue(roleARN, sessionName string, ttl time.Duration) Session {
	expires := a.now().Add(ttl).Truncate(time.Second)
	c := claims{Kind: kindSession, Key: "ASIA" + random32(10), Role: roleARN, Session: sessionName, Expires: expires.Unix()}
	token := a.seal(c)
	return Session{RoleARN: roleARN, AccessKeyID: c.Key, SecretAccessKey: a.sessionSecret(token), Token: token, Expiration: expires}
}

// Secret implements wire.Keys: it knows the root key and the sessions that Issue made.
func (a *Authority) Secret(accessKeyID, token string) (string, wire.Caller, error) {
	if token == "" && hmac.Equal([]byte(accessKeyID), []byte(a.root.AccessKeyID)) {
		return a.root.SecretAccessKey, wire.Caller{Account: a.scope.Account, UserID: a.scope.Account, AccessKeyID: accessKeyID,
			ARN: "arn:" + model.Partition + ":iam::" + a.scope.Account + ":root"}, nil
	}
	c, ok := a.unseal(token, kindSession)
	if !ok || c.Key != accessKeyID {
		return "", wire.Caller{}, model.Errorf("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if a.expired(c) {
		return "", wire.Caller{}, model.Errorf("ExpiredTokenException", "The security token included in the request is expired")
	}
	role := model.ARNTail(c.Role)
	return a.sessionSecret(token), wire.Caller{Account: a.scope.Account, AccessKeyID: accessKeyID, UserID: roleID(c.Role) + ":" +
		c.Session,
		ARN: "arn:" + model.Partition + ":sts::" + a.scope.Account + ":assumed-role/" + role + "/" + c.Session}, nil
}

// roleID is the unique id of a role; roles are not stored, so it is made from the ARN.
func roleID(arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return "AROA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// IssueRegistryToken makes a password for the registry's user AWS. With the ARN of a role's session it is good for what Allow lets
// that session do there; "" stands for the owner.
func (a *Authority) IssueRegistryToken(session string, ttl time.Duration) (token string, expires time.Time) {
	expires = a.now().Add(ttl).Truncate(time.Second)
	return a.seal(claims{Kind: kindRegistry, Key: random32(10), Session: session, Expires: expires.Unix()}), expires
}

// CheckRegistryToken returns who has a password that is valid now, as IssueRegistryToken was told; the error's text is the client's
// (registry.md, "OCI side").
func (a *Authority) CheckRegistryToken(password string) (session string, err error) {
	c, ok := a.unseal(password, kindRegistry)
	switch {
	case !ok:
		return "", errors.New("Your authorization token is invalid. Reauthenticate and try again.")
	case a.expired(c):
		return "", errors.New("Your authorization token has expired. Reauthenticate and try again.")
	}
	return c.Session, nil
}

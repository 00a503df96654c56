// Package iam is Identity and Access Management: its API over the users, groups, roles and policies in the store, and the Authority,
// which knows the secrets (the root access key of this Berth, users' access keys, the credentials of sessions and the passwords of the
// registry) and decides what callers may do. Sessions and passwords are not stored: their tokens carry what they are good for, sealed
// with a key made from the root's secret.
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
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// rootKey is the file's content.
type rootKey struct {
	AccessKeyID     string
	SecretAccessKey string
}

// Authority implements wire.Keys and wire.Access, and issues credentials.
type Authority struct {
	root  rootKey
	scope model.Scope
	now   func() time.Time
	// Store is IAM's, of the home region; nil: nobody but the root is known. Off has everybody who is known do everything. Log may be
	// nil. Set them before the Authority is used.
	Store store.Store
	Off   bool
	Log   *slog.Logger

	aws      func() map[string]*model.IAMPolicy // AWS's own policies, by ARN
	compiled *compiled
}

// Open reads the root key from file, making one on first use; the file is 0600. scope says whose the callers are.
func Open(file string, scope model.Scope, now func() time.Time) (*Authority, error) {
	a := &Authority{scope: scope, now: now, aws: sync.OnceValue(loadManaged), compiled: newCompiled()}
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
	Expires int64  `json:"e"` // Unix seconds
	// Grant is whose it is; nil: the owner's, in a registry's password.
	Grant *model.Grant `json:"g,omitempty"`
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

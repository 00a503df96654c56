package iam

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Grant makes credentials of a session for ttl. They are whole seconds long, and good until the root key changes at most.
func (a *Authority) Grant(g model.Grant, ttl time.Duration) model.Credentials {
	now := a.now()
	expires := now.Add(ttl).Truncate(time.Second)
	g.Issued = now.Unix()
	c := claims{Kind: kindSession, Key: "ASIA" + random32(10), Expires: expires.Unix(), Grant: &g}
	token := a.seal(c)
	return model.Credentials{AccessKeyID: c.Key, SecretAccessKey: a.sessionSecret(token), Token: token, Expiration: expires}
}

// Issue makes credentials of a role for a task, which have been allowed: see MayPass. The role need not be one that IAM knows.
func (a *Authority) Issue(roleARN, sessionName string, ttl time.Duration) model.Credentials {
	g := model.Grant{Role: roleARN, Session: sessionName}
	if role, ok := a.role(roleARN); ok {
		g.RoleID = role.ID
	}
	return a.Grant(g, ttl)
}

// RoleCaller is a role as it acts in a task's name inside Berth: what it asks for is decided as if the task had asked. The error is
// that of MayAssume.
func (a *Authority) RoleCaller(roleARN, session, service string) (wire.Caller, error) {
	if err := a.MayAssume(roleARN, service); err != nil {
		return wire.Caller{}, err
	}
	g := &model.Grant{Role: roleARN, Session: session, Issued: a.now().Unix()}
	if role, ok := a.role(roleARN); ok {
		g.RoleID = role.ID
	}
	return a.callerOf(g)
}

// role finds a role by its ARN.
func (a *Authority) role(arn string) (role *model.IAMRole, ok bool) {
	if a.Store == nil {
		return nil, false
	}
	a.Store.View(func(r store.Reader) {
		role, ok = store.IAMRoles.Get(r, strings.ToLower(model.ARNTail(arn)))
		ok = ok && role.ARN == arn
	})
	return role, ok
}

// unknownKey is what AWS says to a key or a token that is not its own.
func unknownKey() error {
	return model.Errorf("UnrecognizedClientException", "The security token included in the request is invalid.")
}

// Secret implements wire.Keys: it knows the root key, users' access keys and the sessions that Grant made.
func (a *Authority) Secret(accessKeyID, token string) (string, wire.Caller, error) {
	if token != "" {
		return a.sessionOf(accessKeyID, token)
	}
	if hmac.Equal([]byte(accessKeyID), []byte(a.root.AccessKeyID)) {
		return a.root.SecretAccessKey, wire.Caller{Account: a.scope.Account, UserID: a.scope.Account, AccessKeyID: accessKeyID, ARN: a.rootARN()}, nil
	}
	return a.userKey(accessKeyID)
}

func (a *Authority) rootARN() string {
	return "arn:" + model.Partition + ":iam::" + a.scope.Account + ":root"
}

// userKey finds the user of an access key.
func (a *Authority) userKey(id string) (secret string, c wire.Caller, err error) {
	if a.Store == nil {
		return "", c, unknownKey()
	}
	var key *model.AccessKey
	var user *model.IAMUser
	a.Store.View(func(r store.Reader) {
		var ok bool
		if key, ok = store.AccessKeys.Get(r, id); ok && !key.Inactive {
			user, _ = store.IAMUsers.Get(r, key.User)
		}
	})
	if user == nil {
		return "", c, unknownKey()
	}
	if secret, err = a.openSecret(id, key.Sealed); err != nil {
		return "", c, unknownKey() // the root key is another one by now: the user's was lost with it
	}
	return secret, wire.Caller{Account: a.scope.Account, ARN: user.ARN, UserID: user.ID, AccessKeyID: id}, nil
}

// sessionOf reads a session's token.
func (a *Authority) sessionOf(accessKeyID, token string) (string, wire.Caller, error) {
	c, ok := a.unseal(token, kindSession)
	if !ok || c.Key != accessKeyID || c.Grant == nil {
		return "", wire.Caller{}, unknownKey()
	}
	if a.expired(c) {
		return "", wire.Caller{}, model.Errorf("ExpiredTokenException", "The security token included in the request is expired")
	}
	caller, err := a.callerOf(c.Grant)
	caller.AccessKeyID = accessKeyID
	return a.sessionSecret(token), caller, err
}

// callerOf is who a grant speaks for.
func (a *Authority) callerOf(g *model.Grant) (wire.Caller, error) {
	c := wire.Caller{Account: a.scope.Account, Grant: g}
	if g.User == a.rootARN() {
		c.ARN, c.UserID = g.User, a.scope.Account
		return c, nil
	}
	if g.User != "" {
		user, ok := a.user(g.User)
		if !ok || user.ID != g.UserID { // another has the name by now
			return wire.Caller{}, unknownKey()
		}
		c.ARN, c.UserID = user.ARN, user.ID
		return c, nil
	}
	id := g.RoleID
	if id == "" {
		id = roleID(g.Role)
	}
	c.ARN, c.UserID = SessionARN(a.scope.Account, g.Role, g.Session), id+":"+g.Session
	return c, nil
}

// SessionARN names a role's session.
func SessionARN(account, roleARN, session string) string {
	return "arn:" + model.Partition + ":sts::" + account + ":assumed-role/" + model.ARNTail(roleARN) + "/" + session
}

// user finds a user by its ARN.
func (a *Authority) user(arn string) (user *model.IAMUser, ok bool) {
	if a.Store == nil {
		return nil, false
	}
	a.Store.View(func(r store.Reader) {
		user, ok = store.IAMUsers.Get(r, strings.ToLower(model.ARNTail(arn)))
		ok = ok && user.ARN == arn
	})
	return user, ok
}

// roleID is an id made from an ARN, for what IAM does not store: a role that nobody created, AWS's own policies.
func roleID(arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return "AROA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// IssueRegistryToken makes a password for the registry's user AWS: whoever has it may do there what the caller may. The zero Caller is
// the owner.
func (a *Authority) IssueRegistryToken(c wire.Caller, ttl time.Duration) (token string, expires time.Time) {
	expires = a.now().Add(ttl).Truncate(time.Second)
	own := claims{Kind: kindRegistry, Key: random32(10), Grant: c.Grant, Expires: expires.Unix()}
	if c.Grant == nil && c.ARN != "" && c.ARN != a.rootARN() {
		own.Grant = &model.Grant{User: c.ARN, UserID: c.UserID}
	}
	return a.seal(own), expires
}

// CheckRegistryToken returns who has a password that is valid now, "" for the owner; the error's text is the client's (registry.md, "OCI
// side").
func (a *Authority) CheckRegistryToken(password string) (who string, err error) {
	c, err := a.registryCaller(password)
	if c.ARN == a.rootARN() {
		return "", err
	}
	return c.ARN, err
}

func (a *Authority) registryCaller(password string) (wire.Caller, error) {
	c, ok := a.unseal(password, kindRegistry)
	bad := errors.New("Your authorization token is invalid. Reauthenticate and try again.")
	switch {
	case !ok:
		return wire.Caller{}, bad
	case a.expired(c):
		return wire.Caller{}, errors.New("Your authorization token has expired. Reauthenticate and try again.")
	}
	g := c.Grant
	if g == nil {
		g = &model.Grant{User: a.rootARN()}
	}
	caller, err := a.callerOf(g)
	if err != nil {
		return wire.Caller{}, bad
	}
	return caller, nil
}

// AllowToken decides what the owner of a registry's password may do there: an action on a repository's ARN ("" for what is about none),
// whose own policies are given.
func (a *Authority) AllowToken(password, action, resource string, policies ...string) error {
	c, err := a.registryCaller(password)
	if err != nil {
		return err
	}
	ask := wire.Ask{Action: action, Policies: policies}
	if resource != "" {
		ask.Resources = []string{resource}
	}
	c.Region = a.scope.Region
	return a.Allow(c, ask)
}

// sealSecret and openSecret keep the secrets of access keys unreadable in the store and its backups: AES-256-GCM, with a key made from
// the root's secret, bound to the access key's id.
func (a *Authority) sealSecret(id, secret string) []byte {
	g := a.cipher()
	nonce := make([]byte, g.NonceSize())
	rand.Read(nonce)
	return g.Seal(nonce, nonce, []byte(secret), []byte(id))
}

func (a *Authority) openSecret(id string, sealed []byte) (string, error) {
	g := a.cipher()
	if len(sealed) < g.NonceSize() {
		return "", errors.New("too short")
	}
	secret, err := g.Open(nil, sealed[:g.NonceSize()], sealed[g.NonceSize():], []byte(id))
	return string(secret), err
}

func (a *Authority) cipher() cipher.AEAD {
	b, err := aes.NewCipher(a.mac("access keys", ""))
	if err != nil {
		panic(err) // a SHA-256 is a key
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		panic(err)
	}
	return g
}

package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Token lets a machine join: bt1<kind>-<id 8>-<secret 26>-<pin 52>-<check 4>, in Crockford's base32, lower case. It is shown once: a
// cluster keeps the secret's hash only.
type Token struct {
	Role   Role
	ID     string            // names it, and is no secret
	Secret [16]byte          // whoever has it may join
	Pin    [sha256.Size]byte // of the authority to which the cluster's certificates must lead
}

// letters are Crockford's base32: none looks like another, and i, l, o that were typed for 1, 1, 0 are understood.
var letters = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

var kinds = map[byte]Role{'n': RoleNode, 's': RoleServer, 'c': RoleClient}

// commands makes tokens of a role.
var commands = map[Role]string{RoleNode: "berth token node", RoleServer: "berth token server", RoleClient: "berth token client"}

// NewToken makes one for a cluster with that authority.
func NewToken(role Role, pin [sha256.Size]byte) Token {
	t := Token{Role: role, Pin: pin}
	var id [5]byte
	rand.Read(id[:])
	rand.Read(t.Secret[:])
	t.ID = letters.EncodeToString(id[:])
	return t
}

// Hash is what the cluster keeps of the secret. The secret is random, so that no salt is needed.
func (t Token) Hash() string { return SecretHash(t.Secret) }

// SecretHash is the SHA-256 of a token's secret in hexadecimal.
func SecretHash(secret [16]byte) string {
	sum := sha256.Sum256(secret[:])
	return hex.EncodeToString(sum[:])
}

// SameHash compares two hashes in constant time.
func SameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// String is the token as people copy it.
func (t Token) String() string {
	kind := byte('?')
	for k, r := range kinds {
		if r == t.Role {
			kind = k
		}
	}
	s := "bt1" + string(kind) + "-" + t.ID + "-" + letters.EncodeToString(t.Secret[:]) + "-" + letters.EncodeToString(t.Pin[:])
	return s + "-" + checksum(s)
}

func checksum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return letters.EncodeToString(sum[:3])[:4]
}

// tokenLength is that of every token, and partLengths of what is between its hyphens.
const tokenLength = 4 + 1 + 8 + 1 + 26 + 1 + 52 + 1 + 4

var partLengths = []int{4, 8, 26, 52, 4}

// ParseToken reads a token. The error is a sentence that says what happened to it, before anybody is asked.
func ParseToken(s string) (Token, error) {
	s = strings.NewReplacer("i", "1", "l", "1", "o", "0").Replace(strings.ToLower(strings.TrimSpace(s)))
	if !strings.HasPrefix(s, "bt1") {
		return Token{}, fmt.Errorf("this is no token of Berth: one begins with bt1n-, bt1s- or bt1c-, and %s makes it", commands[RoleNode])
	}
	if len(s) < tokenLength {
		return Token{}, fmt.Errorf("the token was cut: it has %d characters and should have %d; copy it again whole", len(s), tokenLength)
	}
	parts := strings.Split(s, "-")
	right := len(parts) == len(partLengths)
	for i := 0; right && i < len(parts); i++ {
		right = len(parts[i]) == partLengths[i]
	}
	if !right || checksum(s[:len(s)-5]) != parts[4] {
		return Token{}, fmt.Errorf("the token was mistyped (its last four characters do not fit the rest); copy it again whole")
	}
	t := Token{Role: kinds[s[3]], ID: parts[1]}
	if t.Role == "" {
		return Token{}, fmt.Errorf("this version of Berth does not know tokens that begin with %s; install the version of the servers here", parts[0])
	}
	for i, to := range map[int][]byte{2: t.Secret[:], 3: t.Pin[:]} {
		from, err := letters.DecodeString(parts[i])
		if err != nil || letters.EncodeToString(from) != parts[i] {
			return Token{}, fmt.Errorf("the token was mistyped: %s is nothing that Berth writes; copy it again whole", parts[i])
		}
		copy(to, from)
	}
	return t, nil
}

// DefaultPort is the cluster port.
const DefaultPort = 4567

// JoinURL is what a machine joins by: berth://host:port,host:port/token.
type JoinURL struct {
	Addresses []string // host:port, of one server or several
	Token     Token
}

func (u JoinURL) String() string {
	return "berth://" + strings.Join(u.Addresses, ",") + "/" + u.Token.String()
}

// ParseJoinURL reads one; the cluster port may be left out. The token must be of the role.
func ParseJoinURL(s string, role Role) (JoinURL, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), "berth://")
	hosts, token, both := strings.Cut(rest, "/")
	if !ok || !both || hosts == "" {
		return JoinURL{}, fmt.Errorf("%q is not berth://<server>:%d/<token>; on a server, %s prints it", abridged(s), DefaultPort, commands[role])
	}
	u := JoinURL{}
	for host := range strings.SplitSeq(hosts, ",") {
		address, err := WithPort(host)
		if err != nil {
			return JoinURL{}, err
		}
		u.Addresses = append(u.Addresses, address)
	}
	var err error
	if u.Token, err = ParseToken(token); err != nil {
		return JoinURL{}, err
	}
	if u.Token.Role != role {
		return JoinURL{}, fmt.Errorf("this token is for a %s and not for a %s; on a server, %s makes the right one", u.Token.Role, role, commands[role])
	}
	return u, nil
}

// abridged leaves out of what is shown again whatever may be a secret.
func abridged(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// WithPort completes a host, or host:port, with the cluster port.
func WithPort(host string) (string, error) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), strconv.Itoa(DefaultPort)
	}
	n, errPort := strconv.ParseUint(port, 10, 16)
	if name == "" || strings.ContainsAny(name, "/@?#[] ") || strings.Contains(name, ":") && net.ParseIP(name) == nil || errPort != nil || n == 0 {
		return "", fmt.Errorf("%q is no address of a server: want host or host:port, such as 10.0.0.1:%d", host, DefaultPort)
	}
	return net.JoinHostPort(name, port), nil
}

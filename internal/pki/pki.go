// Package pki is who a machine is: a cluster's own certificate authority, the certificates by which its machines and people's laptops
// know each other, and the join tokens by which they come to have one. A machine is its key: what a certificate says is true only as
// long as the cluster's table knows the key's hash (see peer.Config.Admit).
package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Role is what a certificate is for.
type Role string

// The roles.
const (
	RoleNode   Role = "node"
	RoleServer Role = "server"
	// RoleClient is a person's laptop: it may call the API and nothing else.
	RoleClient Role = "client"
)

// Peer is the other side of a connection, as its certificate says.
type Peer struct {
	Role    Role
	Cluster string
	ID      string
	KeyHash string // SHA-256 of the public key (SPKI), in hexadecimal
}

func (p Peer) String() string { return string(p.Role) + " " + p.ID }

// uri is the SAN of the peer's certificate.
func (p Peer) uri() *url.URL {
	return &url.URL{Scheme: "berth", Host: p.Cluster, Path: "/" + string(p.Role) + "/" + p.ID}
}

var idPattern = regexp.MustCompile(`^[0-9a-z][0-9a-z-]{0,63}$`)

// check tells whether a certificate can say it.
func (p Peer) check() error {
	switch p.Role {
	case RoleNode, RoleServer, RoleClient:
	default:
		return fmt.Errorf("no certificate is for the role %q", p.Role)
	}
	for _, id := range []string{p.Cluster, p.ID} {
		if !idPattern.MatchString(id) {
			return fmt.Errorf("%q is no id: want up to 64 of a-z, 0-9 and -", id)
		}
	}
	return nil
}

// errNoPeer is a certificate that says nothing of Berth's.
var errNoPeer = errors.New("the certificate names no machine of Berth (berth://<cluster>/<role>/<id>)")

// PeerOf reads what a certificate says; it does not look who signed it.
func PeerOf(cert *x509.Certificate) (Peer, error) {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "berth" {
		return Peer{}, errNoPeer
	}
	role, id, ok := strings.Cut(strings.TrimPrefix(cert.URIs[0].Path, "/"), "/")
	p := Peer{Role: Role(role), Cluster: cert.URIs[0].Host, ID: id, KeyHash: KeyHash(cert.RawSubjectPublicKeyInfo)}
	if !ok || p.check() != nil || cert.Subject.CommonName != id {
		return Peer{}, errNoPeer
	}
	return p, nil
}

// KeyHash is the SHA-256 of a public key (SPKI, DER) in hexadecimal.
func KeyHash(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

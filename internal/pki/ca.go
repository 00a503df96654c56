package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// How long certificates live (machines.md §3). They begin a day early, for machines whose clocks are behind.
const (
	CALife   = 10 * 365 * 24 * time.Hour
	LeafLife = 90 * 24 * time.Hour
	Backdate = 24 * time.Hour
)

// CA is a cluster's certificate authority, with its key. Only servers have it.
type CA struct {
	Cluster string
	Cert    *x509.Certificate
	Key     *ecdsa.PrivateKey
}

// NewKey makes a P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// NewCA makes an authority for a cluster.
func NewCA(cluster string, now time.Time) (*CA, error) {
	if !idPattern.MatchString(cluster) {
		return nil, fmt.Errorf("%q is no id of a cluster", cluster)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Berth cluster " + cluster},
		URIs:      []*url.URL{{Scheme: "berth", Host: cluster}},
		NotBefore: now.Add(-2 * Backdate), NotAfter: now.Add(CALife), // before every leaf's
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{Cluster: cluster, Cert: cert, Key: key}, err
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// Pin is the SHA-256 of the authority's public key, which tokens carry.
func (ca *CA) Pin() [sha256.Size]byte { return Pin(ca.Cert) }

// Pin is the SHA-256 of a certificate's public key.
func Pin(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// Sign makes a certificate (DER) for the key that a certificate request (DER) proves to have. What the request says besides is
// not looked at: role and id are the caller's, and p.KeyHash is ignored. The certificate ends with the authority's own at the latest.
func (ca *CA) Sign(request []byte, p Peer, now time.Time) ([]byte, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("the certificate request cannot be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed by its own key: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the certificate request has no P-256 key")
	}
	p.Cluster = ca.Cluster
	if err := p.check(); err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: p.ID}, URIs: []*url.URL{p.uri()},
		NotBefore: now.Add(-Backdate), NotAfter: now.Add(LeafLife), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if p.Role == RoleServer {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if t.NotAfter.After(ca.Cert.NotAfter) {
		t.NotAfter = ca.Cert.NotAfter
	}
	return x509.CreateCertificate(rand.Reader, t, ca.Cert, key, ca.Key)
}

// Issue makes an identity with a key of its own: a server's first one, which nobody else can sign.
func (ca *CA) Issue(p Peer, now time.Time) (*Identity, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	request, err := Request(key)
	if err != nil {
		return nil, err
	}
	der, err := ca.Sign(request, p, now)
	if err != nil {
		return nil, err
	}
	return NewIdentity(key, der, []*x509.Certificate{ca.Cert})
}

// Request is a certificate request (DER), signed by key.
func Request(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "berth"}}, key)
}

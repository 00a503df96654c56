package pki

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Identity is what a machine has to say who it is, and whom it believes. It does not change; a renewal makes another one.
type Identity struct {
	Peer  Peer // itself
	Key   *ecdsa.PrivateKey
	Cert  *x509.Certificate
	Roots []*x509.Certificate // the authorities that it believes: two while the cluster changes from one to the next
}

// NewIdentity puts an identity together. The certificate (DER) must be the key's and lead to one of the roots; its dates are not
// looked at.
func NewIdentity(key *ecdsa.PrivateKey, der []byte, roots []*x509.Certificate) (*Identity, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the certificate is not that of the key")
	}
	id := &Identity{Key: key, Cert: cert, Roots: roots}
	if id.Peer, err = PeerOf(cert); err != nil {
		return nil, err
	}
	if _, err := id.Verify(cert, cert.NotAfter); err != nil {
		return nil, err
	}
	return id, nil
}

// With is the identity with other roots.
func (id *Identity) With(roots []*x509.Certificate) *Identity {
	other := *id
	other.Roots = roots
	return &other
}

// Issuer is the root that signed the certificate.
func (id *Identity) Issuer() *x509.Certificate {
	i := slices.IndexFunc(id.Roots, func(r *x509.Certificate) bool { return id.Cert.CheckSignatureFrom(r) == nil })
	if i < 0 {
		return nil
	}
	return id.Roots[i]
}

// TLS is the certificate as a handshake shows it. A server's is followed by its authority's, which who joins compares with a token's pin.
func (id *Identity) TLS() *tls.Certificate {
	c := &tls.Certificate{Certificate: [][]byte{id.Cert.Raw}, PrivateKey: id.Key, Leaf: id.Cert}
	if root := id.Issuer(); root != nil && id.Peer.Role == RoleServer {
		c.Certificate = append(c.Certificate, root.Raw)
	}
	return c
}

// ErrExpired is in the error of Verify for a certificate that was right once. Its machine may renew it and do nothing else.
var ErrExpired = errors.New("its certificate has expired")

// ErrForeign is in the error of Verify for a certificate of another cluster's authority, or of nobody's.
var ErrForeign = errors.New("its certificate is not of this cluster's authority")

// A DateError is a certificate that is not valid yet, which a wrong clock makes of good ones.
type DateError struct {
	NotBefore, Now time.Time
}

func (e *DateError) Error() string {
	return fmt.Sprintf("its certificate is valid from %s on, and here it is %s: the clocks are apart; set both by NTP (timedatectl set-ntp true)",
		e.NotBefore.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// Verify reads who a certificate is, if it is of the identity's cluster. The Peer is also right when the error is ErrExpired.
func (id *Identity) Verify(cert *x509.Certificate, now time.Time) (Peer, error) {
	p, err := verify(cert, id.Roots)
	if err != nil {
		return Peer{}, err
	}
	if want := id.Peer.Cluster; p.Cluster != want {
		return Peer{}, fmt.Errorf("%w: it is of cluster %s, not of %s", ErrForeign, p.Cluster, want)
	}
	switch {
	case now.Before(cert.NotBefore):
		return Peer{}, &DateError{cert.NotBefore, now}
	case now.After(cert.NotAfter):
		return p, ErrExpired
	}
	return p, nil
}

// verify looks whether the certificate leads to one of the roots, whatever the date.
func verify(cert *x509.Certificate, roots []*x509.Certificate) (Peer, error) {
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	// Within the certificate's life; its authority's is longer.
	_, err := cert.Verify(x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool(), CurrentTime: cert.NotAfter,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return Peer{}, fmt.Errorf("%w (%w)", ErrForeign, err)
	}
	return PeerOf(cert)
}

// VerifyPin reads who shows a chain that leads to the authority of a pin, whatever the dates.
func VerifyPin(chain []*x509.Certificate, pin [sha256.Size]byte) (Peer, error) {
	i := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return Pin(c) == pin })
	if i < 1 {
		return Peer{}, ErrForeign
	}
	return verify(chain[0], chain[i:i+1])
}

// RenewAt is when the certificate is to be renewed: at the part of its life, counted from its issue, that roll in [0,1) picks between
// 50 and 80 %, so that machines that came together do not renew together.
func (id *Identity) RenewAt(roll float64) time.Time {
	issued := id.Cert.NotBefore.Add(Backdate)
	life := id.Cert.NotAfter.Sub(issued)
	return issued.Add(time.Duration((0.5 + 0.3*roll) * float64(life)))
}

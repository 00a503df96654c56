package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// The files of a server's certificate for etcd's port, and of the authorities that it believes there.
const (
	EtcdCertFile, EtcdKeyFile, EtcdCAFile = "etcd.pem", "etcd.key", "etcd-ca.pem"
)

// EtcdName is the name that the certificates of a cluster's servers carry on etcd's port: etcd compares names, not URIs.
func EtcdName(cluster string) string { return "servers." + cluster + ".berth" }

// HasEtcd tells whether dir holds a certificate for etcd's port.
func HasEtcd(dir string) bool {
	_, err := readCerts(filepath.Join(dir, EtcdCertFile))
	return err == nil
}

// SignedEtcd tells whether the authority signed dir's certificate for etcd's port.
func (ca *CA) SignedEtcd(dir string) bool {
	certs, err := readCerts(filepath.Join(dir, EtcdCertFile))
	return err == nil && certs[0].CheckSignatureFrom(ca.Cert) == nil
}

// EnsureEtcd sees to it that dir holds a certificate for etcd's port whose life is not half over yet, of a key of its own. etcd reads it
// anew at each handshake.
func (ca *CA) EnsureEtcd(dir string, now time.Time) error {
	certs, err := readCerts(filepath.Join(dir, EtcdCertFile))
	if err == nil && certs[0].CheckSignatureFrom(ca.Cert) == nil && now.Before(certs[0].NotBefore.Add(certs[0].NotAfter.Sub(certs[0].NotBefore)/2)) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the certificate of etcd's port: %w", err)
	}
	key, err := NewKey()
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	name := EtcdName(ca.Cluster)
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-Backdate), NotAfter: now.Add(LeafLife), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	return errors.Join(write(dir, EtcdCAFile, EncodeCerts([]*x509.Certificate{ca.Cert})), write(dir, EtcdKeyFile, private),
		write(dir, EtcdCertFile, EncodeCerts([]*x509.Certificate{cert})))
}

package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The files of a machine's pki folder, and those that servers have besides.
const (
	keyFile, certFile, rootsFile = "key.pem", "cert.pem", "roots.pem"
	caKeyFile, caFile            = "ca.key", "ca.pem"
	nextKeyFile, nextFile        = "ca-next.key", "ca-next.pem" // of an authority that the settings are about to name
	beatFile                     = "beat.key"
	serversFile                  = "servers" // host:port of cluster ports, one a line
)

// BeatKeySize is the size of the keys of beats, in bytes.
const BeatKeySize = 32

// Load reads a machine's identity. The error is fs.ErrNotExist when the folder holds none.
func Load(dir string) (*Identity, error) {
	key, err := readKey(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	certs, err := readCerts(filepath.Join(dir, certFile))
	if err != nil {
		return nil, err
	}
	roots, err := readCerts(filepath.Join(dir, rootsFile))
	if err != nil {
		return nil, err
	}
	id, err := NewIdentity(key, certs[0].Raw, roots)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return id, nil
}

// Save writes the identity, with its key, so that a crash leaves the old or the new one whole.
func (id *Identity) Save(dir string) error {
	key, err := encodeKey(id.Key)
	if err != nil {
		return err
	}
	// With a new key the old certificate would be wrong, so that is taken away first.
	if old, err := os.ReadFile(filepath.Join(dir, keyFile)); err == nil && !bytes.Equal(old, key) {
		if err := os.Remove(filepath.Join(dir, certFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(
		write(dir, rootsFile, EncodeCerts(id.Roots)),
		write(dir, keyFile, key),
		write(dir, certFile, EncodeCerts([]*x509.Certificate{id.Cert})))
}

// LoadCA reads the authority of a server. The error is fs.ErrNotExist when the folder holds none.
func LoadCA(dir string) (*CA, error) { return loadCA(dir, caFile, caKeyFile) }

// LoadNextCA reads the authority that SaveNext wrote.
func LoadNextCA(dir string) (*CA, error) { return loadCA(dir, nextFile, nextKeyFile) }

func loadCA(dir, cert, private string) (*CA, error) {
	key, err := readKey(filepath.Join(dir, private))
	if err != nil {
		return nil, err
	}
	certs, err := readCerts(filepath.Join(dir, cert))
	if err != nil {
		return nil, err
	}
	return newCA(certs[0], key)
}

func newCA(cert *x509.Certificate, key *ecdsa.PrivateKey) (*CA, error) {
	if !key.PublicKey.Equal(cert.PublicKey) || !cert.IsCA || len(cert.URIs) != 1 || cert.URIs[0].Scheme != "berth" {
		return nil, errors.New("the certificate is not that of a Berth's authority with this key")
	}
	return &CA{Cluster: cert.URIs[0].Host, Cert: cert, Key: key}, nil
}

// Save writes the authority in the place of another one.
func (ca *CA) Save(dir string) error { return ca.save(dir, caFile, caKeyFile) }

// SaveNext writes the authority beside the one that signs.
func (ca *CA) SaveNext(dir string) error { return ca.save(dir, nextFile, nextKeyFile) }

// DropNextCA removes what SaveNext wrote.
func DropNextCA(dir string) error {
	for _, name := range []string{nextKeyFile, nextFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (ca *CA) save(dir, cert, private string) error {
	key, err := encodeKey(ca.Key)
	if err != nil {
		return err
	}
	return errors.Join(write(dir, cert, EncodeCerts([]*x509.Certificate{ca.Cert})), write(dir, private, key))
}

// LoadBeatKey reads the key of beats: a server's is the cluster's, a node's its own (see NodeBeatKey).
func LoadBeatKey(dir string) ([]byte, error) {
	file := filepath.Join(dir, beatFile)
	key, err := os.ReadFile(file)
	if err == nil && len(key) != BeatKeySize {
		return nil, fmt.Errorf("%s: %d bytes, want %d", file, len(key), BeatKeySize)
	}
	return key, err
}

// SaveBeatKey writes it.
func SaveBeatKey(dir string, key []byte) error { return write(dir, beatFile, key) }

// NewBeatKey makes a cluster's.
func NewBeatKey() []byte {
	key := make([]byte, BeatKeySize)
	rand.Read(key)
	return key
}

// LoadServers reads where the servers were when somebody last said it.
func LoadServers(dir string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, serversFile))
	return strings.Fields(string(data)), err
}

// SaveServers writes it.
func SaveServers(dir string, addresses []string) error {
	return write(dir, serversFile, []byte(strings.Join(addresses, "\n")+"\n"))
}

// LoadOrMakeKey reads the key of a machine that has no certificate yet, or makes one.
func LoadOrMakeKey(dir string) (key *ecdsa.PrivateKey, made bool, err error) {
	if key, err = readKey(filepath.Join(dir, keyFile)); !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if key, err = NewKey(); err != nil {
		return nil, false, err
	}
	data, err := encodeKey(key)
	if err != nil {
		return nil, false, err
	}
	return key, true, write(dir, keyFile, data)
}

// DropKey removes a key that came to nothing, and the folder if nothing else is in it.
func DropKey(dir string) error {
	err := os.Remove(filepath.Join(dir, keyFile))
	_ = os.Remove(dir) // fails while there is something in it
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Reset forgets who the machine is, whom it believes and, on a server, what it signs with.
func Reset(dir string) error { return os.RemoveAll(dir) }

// EncodeCA writes the authority as PEM.
func (ca *CA) EncodeCA() (cert, key string, err error) {
	data, err := encodeKey(ca.Key)
	return string(EncodeCerts([]*x509.Certificate{ca.Cert})), string(data), err
}

// DecodeCA reads what EncodeCA wrote.
func DecodeCA(cert, key string) (*CA, error) {
	certs, err := DecodeCerts([]byte(cert))
	if err != nil {
		return nil, err
	}
	k, err := decodeKey([]byte(key))
	if err != nil {
		return nil, err
	}
	return newCA(certs[0], k)
}

// EncodeCerts writes certificates as PEM.
func EncodeCerts(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// DecodeCerts reads at least one certificate from PEM.
func DecodeCerts(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return certs, nil
}

func readCerts(file string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	certs, err := DecodeCerts(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return certs, nil
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it holds no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("it holds no P-256 key")
	}
	return ec, nil
}

// write puts a file of mode 0600 in the place of the old one, in a folder that only its owner may enter.
func write(dir, name string, data []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, name+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}

// Package seal encrypts blobs in segments, in Tink's format of AES-256-GCM-HKDF streaming: whoever has the data key can decrypt a blob
// with Tink. Its reader, unlike Tink's, may begin anywhere.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

// The format's sizes in bytes: of keys, of a segment as it is stored, of the prefix of nonces and of a segment's tag.
const (
	KeySize = 32
	segment = 64 << 10
	prefix  = 7
	tag     = 16
	header  = 1 + KeySize + prefix
)

// NewWriter encrypts what is written to it; Close writes the end.
func NewWriter(w io.Writer, key, about []byte) (io.WriteCloser, error) {
	a, err := subtle.NewAESGCMHKDF(key, "SHA256", KeySize, segment, 0)
	if err != nil {
		return nil, err
	}
	return a.NewEncryptingWriter(w, about)
}

// ErrForged says that a sealed blob was changed, or that the key is another's.
var ErrForged = errors.New("the sealed blob was changed, or is not sealed with this key")

// Reader decrypts a sealed blob from any place. It is not for several goroutines at once.
type Reader struct {
	r      io.ReadSeeker
	aead   cipher.AEAD
	nonce  [12]byte
	sealed int64 // bytes
	size   int64
	last   int64 // the number of the last segment
	at     int64
	held   []byte // the plain segment of number number
	number int64
	buf    []byte
}

// NewReader reads a blob of so many sealed bytes.
func NewReader(r io.ReadSeeker, sealed int64, key, about []byte) (*Reader, error) {
	if sealed < header+tag {
		return nil, ErrForged
	}
	var h [header]byte
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	if h[0] != header {
		return nil, ErrForged
	}
	derived, err := hkdf.Key(sha256.New, key, h[1:1+KeySize], string(about), KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	s := &Reader{r: r, aead: aead, sealed: sealed, number: -1, buf: make([]byte, segment), last: (sealed - 1) / segment}
	copy(s.nonce[:], h[1+KeySize:])
	s.size = sealed - header - tag*(s.last+1)
	if s.size < 0 {
		return nil, ErrForged
	}
	return s, nil
}

// Size is that of the plain blob.
func (s *Reader) Size() int64 { return s.size }

// Seek implements io.Seeker.
func (s *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the blob's beginning")
	}
	s.at = offset
	return offset, nil
}

// Read implements io.Reader.
func (s *Reader) Read(p []byte) (int, error) {
	if s.at >= s.size {
		if s.size == 0 && s.number < 0 { // an empty blob has a tag too
			if err := s.load(0); err != nil {
				return 0, err
			}
		}
		return 0, io.EOF
	}
	number, from := int64(0), s.at
	if first := int64(segment - header - tag); s.at >= first {
		number = 1 + (s.at-first)/(segment-tag)
		from = (s.at - first) % (segment - tag)
	}
	if number != s.number {
		if err := s.load(number); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.held[from:])
	s.at += int64(n)
	return n, nil
}

// load decrypts a segment.
func (s *Reader) load(number int64) error {
	start, end := number*segment, min((number+1)*segment, s.sealed)
	if number == 0 {
		start = header
	}
	s.number = -1
	if _, err := s.r.Seek(start, io.SeekStart); err != nil {
		return err
	}
	buf := s.buf[:end-start]
	if _, err := io.ReadFull(s.r, buf); err != nil {
		return fmt.Errorf("read a sealed blob: %w", err)
	}
	binary.BigEndian.PutUint32(s.nonce[prefix:], uint32(number))
	s.nonce[11] = 0
	if number == s.last {
		s.nonce[11] = 1
	}
	plain, err := s.aead.Open(buf[:0], s.nonce[:], buf, nil)
	if err != nil {
		return ErrForged
	}
	s.held, s.number = plain, number
	return nil
}

package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
)

// What Encrypt makes: format (1 byte), the key's id (16), the number of the material (4), a salt (32), and the box. Each has a key and a
// nonce of its own, made from the material and the salt, so that no number of messages is too many for a material.
const (
	format   = 1
	headSize = 1 + 16 + 4
	saltSize = 32
	tagSize  = 16
)

var errFormat = errors.New("no ciphertext of a key here")

// box is the AEAD and the nonce for one message.
func box(material, salt []byte, purpose string) (cipher.AEAD, []byte, error) {
	k, err := hkdf.Key(sha256.New, material, salt, purpose, 32+12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(k[:32])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, k[32:], err
}

// seal encrypts plain under one of a key's materials.
func seal(id string, number int, material, plain []byte, context map[string]string) ([]byte, error) {
	out := append([]byte{format}, idBytes(id)...)
	out = binary.BigEndian.AppendUint32(out, uint32(number))
	salt := random(saltSize)
	aead, nonce, err := box(material, salt, "berth kms")
	if err != nil {
		return nil, err
	}
	aad := append(slices.Clone(out), canonical(context)...)
	return aead.Seal(append(out, salt...), nonce, plain, aad), nil
}

// head reads whose a ciphertext is.
func head(sealed []byte) (id string, number int, err error) {
	if len(sealed) < headSize+saltSize+tagSize || sealed[0] != format {
		return "", 0, errFormat
	}
	return idText(sealed[1:17]), int(binary.BigEndian.Uint32(sealed[17:headSize])), nil
}

// open decrypts what seal made.
func open(material, sealed []byte, context map[string]string) ([]byte, error) {
	salt, text := sealed[headSize:headSize+saltSize], sealed[headSize+saltSize:]
	aead, nonce, err := box(material, salt, "berth kms")
	if err != nil {
		return nil, err
	}
	aad := append(slices.Clone(sealed[:headSize]), canonical(context)...)
	return aead.Open(nil, nonce, text, aad)
}

// wrap and unwrap are for materials, under the master key; name says what is wrapped.
func wrap(master, material []byte, name string) ([]byte, error) {
	salt := random(saltSize)
	aead, nonce, err := box(master, salt, "berth wraps a key")
	if err != nil {
		return nil, err
	}
	return aead.Seal(salt, nonce, material, []byte(name)), nil
}

func unwrap(master, wrapped []byte, name string) ([]byte, error) {
	if len(wrapped) < saltSize+tagSize {
		return nil, errFormat
	}
	aead, nonce, err := box(master, wrapped[:saltSize], "berth wraps a key")
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nonce, wrapped[saltSize:], []byte(name))
}

// canonical is an encryption context as bytes: no two have the same.
func canonical(context map[string]string) (out []byte) {
	for _, k := range slices.Sorted(maps.Keys(context)) {
		for _, s := range []string{k, context[k]} {
			out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
			out = append(out, s...)
		}
	}
	return out
}

func idBytes(id string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != 16 {
		return make([]byte, 16) // ids are made here, and are UUIDs
	}
	return b
}

func idText(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// newID is a random UUID.
func newID() string {
	b := random(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return idText(b)
}

package ecs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// randomID returns 32 hexadecimal digits.
func randomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// deploymentDigits makes the 19 digits of "ecs-svc/<digits>" from a fresh id.
func deploymentDigits(id string) string {
	const first = 1_000_000_000_000_000_000 // the smallest number of 19 digits; 8.2e18 of them fit in an int64
	sum := sha256.Sum256([]byte(id))
	return strconv.FormatUint(first+binary.BigEndian.Uint64(sum[:8])%(8*first), 10)
}

// serviceDeploymentID makes the 21 characters of a service deployment's id from a fresh id.
func serviceDeploymentID(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:21]
}

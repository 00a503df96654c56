package wire

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"
)

// Scope is the service for which a request says it is signed, "" when it says nothing.
func Scope(r *http.Request) string {
	a, refused := readAuthorization(r)
	if refused != nil {
		return ""
	}
	return a.service
}

// ErrBody is what reading a body ends with that is not the one that was signed.
var ErrBody = errors.New("the body is not the one that was signed")

// Authenticate tells who signed a request of a service that reads its bodies as they come, as S3's are: the head is checked at once, and
// the body, where its hash is signed, while it is read (ErrBody). A body that is sent in chunks of its own (aws-chunked) is not: its
// checksum is for whoever takes it apart. Errors: *model.Error.
func Authenticate(r *http.Request, keys Keys, now func() time.Time) (Caller, error) {
	a, refused := readAuthorization(r)
	if refused != nil {
		return Caller{}, refused
	}
	signer, err := (&Endpoint{Config: Config{Keys: keys, Now: now}}).identify(r, a)
	if err != nil {
		return Caller{}, err
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if a.presigned && !a.isSigned("x-amz-content-sha256") {
		if payload = r.URL.Query().Get("X-Amz-Content-Sha256"); payload == "" {
			payload = unsignedPayload
		}
	}
	if err := signer.check(r, payload, max(r.ContentLength, 0)); err != nil {
		return Caller{}, err
	}
	if sum, err := hex.DecodeString(payload); err == nil && len(sum) == sha256.Size && r.Body != nil {
		r.Body = &checkedBody{ReadCloser: r.Body, hash: sha256.New(), want: strings.ToLower(payload), left: r.ContentLength}
	}
	return signer.caller, nil
}

// checkedBody compares a body with its hash when all of it was read.
type checkedBody struct {
	io.ReadCloser
	hash hash.Hash
	want string
	left int64 // -1: unknown
}

// Read implements io.Reader.
func (b *checkedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	if b.left > 0 {
		b.left -= int64(n)
	}
	if (err == io.EOF || b.left == 0) && subtle.ConstantTimeCompare([]byte(hex.EncodeToString(b.hash.Sum(nil))), []byte(b.want)) != 1 {
		return 0, ErrBody
	}
	return n, err
}

package wire

import (
	"bytes"
	"compress/gzip"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
)

// admit reads the body of a request, whose head is in order, and checks its signature. It takes the body's bytes from the budgets
// before it reads them; give gives them back.
func (x *exchange) admit(s *signer) (body []byte, give func(), err error) {
	claimed := s.claimed(x.r)
	early := claimed != "" && (x.r.ContentLength >= 0 || !s.isSigned("content-length"))
	if early { // nobody without the secret gets further
		if err := s.check(x.r, claimed, x.r.ContentLength); err != nil {
			return nil, nil, err
		}
	}
	body, give, err = x.body()
	if err != nil {
		return nil, nil, err
	}
	done := give
	defer func() {
		if err != nil {
			done()
		}
	}()
	if err := x.signed(s, body, claimed, early); err != nil {
		return nil, nil, err
	}
	// As a value a body takes many times its bytes, and a compressed one may become as large as any.
	weight := int64(len(body))
	if x.r.Header.Get("Content-Encoding") != "" {
		weight = x.e.MaxBody
	}
	parsed, err := x.take(x.e.parsing, weight)
	if err != nil {
		return nil, nil, err
	}
	give = func() { parsed(); done() }
	if body, err = x.inflate(body); err != nil {
		parsed()
		return nil, nil, err
	}
	return body, give, nil
}

// signed checks a body that was read against what was signed.
func (x *exchange) signed(s *signer, body []byte, claimed string, early bool) error {
	hash := hashOf(body)
	switch {
	case claimed == "":
		return s.check(x.r, hash, int64(len(body)))
	case claimed != unsignedPayload && subtle.ConstantTimeCompare([]byte(hash), []byte(claimed)) != 1:
		return mismatch()
	case !early:
		return s.check(x.r, claimed, int64(len(body)))
	}
	return nil
}

// take takes bytes from a budget, or refuses in words that clients try again for.
func (x *exchange) take(b *gate.Budget, n int64) (give func(), err error) {
	if give, err = b.Take(x.r.Context(), gate.Source(x.r), n); errors.Is(err, gate.ErrBusy) {
		return nil, model.Errorf("ThrottlingException", "Rate exceeded")
	}
	return give, err
}

// body reads the body. One that says its length takes that much memory, another as much as the largest.
func (x *exchange) body() (body []byte, give func(), err error) {
	length := x.r.ContentLength
	if length > x.e.MaxBody {
		return nil, nil, x.tooLarge()
	}
	weight := length
	if length < 0 {
		weight = x.e.MaxBody
	}
	if give, err = x.take(x.e.Bodies, weight); err != nil {
		return nil, nil, err
	}
	if length >= 0 {
		body = make([]byte, length)
		_, err = io.ReadFull(x.paced, body)
	}
	if err == nil { // the rest, of which there is none when the length was said: reading to the end lets the connection live
		var rest []byte
		rest, err = io.ReadAll(http.MaxBytesReader(x.w, io.NopCloser(x.paced), x.e.MaxBody))
		body = append(body, rest...)
	}
	if err == nil {
		return body, give, nil
	}
	give()
	switch _, tooBig := errors.AsType[*http.MaxBytesError](err); {
	case tooBig:
		return nil, nil, x.tooLarge()
	case errors.Is(err, gate.ErrSlow):
		return nil, nil, model.Errorf("RequestTimeoutException",
			"Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.")
	}
	return nil, nil, malformed("the request did not arrive whole")
}

func (x *exchange) tooLarge() error {
	return model.Errorf("RequestEntityTooLargeException", "The request is larger than %d bytes", x.e.MaxBody)
}

func (x *exchange) inflate(body []byte) ([]byte, error) {
	switch encoding := x.r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return body, nil
	case "gzip":
	default:
		return nil, model.Errorf("SerializationException", "Berth reads bodies that are plain or gzip, not %.40q", encoding)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, malformed("the body is not gzip")
	}
	plain, err := io.ReadAll(io.LimitReader(z, x.e.MaxBody+1))
	if err != nil {
		return nil, malformed("the body is not gzip")
	}
	if int64(len(plain)) > x.e.MaxBody {
		return nil, x.tooLarge()
	}
	return plain, nil
}

package wire

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/berthdev/berth/internal/model"
)

// maxSkew is how far a signature's time may be from now (AWS: "Signature expired", 15 minutes).
const maxSkew = 15 * time.Minute

const algorithm = "AWS4-HMAC-SHA256"

// authorization is a parsed Authorization header.
type authorization struct {
	accessKey, date, region, service string
	signed                           []string // header names, lower case
	signature                        string
}

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/<service>/aws4_request, SignedHeaders=…, Signature=…".
func parseAuthorization(header string) (*authorization, *model.Error) {
	if header == "" {
		return nil, model.Errorf("MissingAuthenticationToken", "Missing Authentication Token")
	}
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return nil, model.Errorf("IncompleteSignature", "Unsupported AWS 'algorithm': want %s", algorithm)
	}
	a := &authorization{}
	for part := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch k {
		case "Credential":
			scope := strings.Split(v, "/")
			if len(scope) != 5 || scope[4] != "aws4_request" {
				return nil, model.Errorf("IncompleteSignature", "Credential must have exactly 5 slash-delimited elements")
			}
			a.accessKey, a.date, a.region, a.service = scope[0], scope[1], scope[2], scope[3]
		case "SignedHeaders":
			a.signed = strings.Split(v, ";")
		case "Signature":
			a.signature = v
		}
	}
	if a.accessKey == "" || len(a.signed) == 0 || a.signature == "" {
		return nil, model.Errorf("IncompleteSignature", "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters")
	}
	if !slices.Contains(a.signed, "host") {
		return nil, model.Errorf("SignatureDoesNotMatch", "The 'host' header must be signed")
	}
	return a, nil
}

// verify checks a request's signature by signing it again with the caller's secret.
func (e *Endpoint) verify(r *http.Request, body []byte) (*authorization, Caller, error) {
	a, refused := parseAuthorization(r.Header.Get("Authorization"))
	if refused != nil {
		return nil, Caller{}, refused
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || at.Format("20060102") != a.date {
		return a, Caller{}, model.Errorf("IncompleteSignature", "The request needs an X-Amz-Date header that fits its Credential")
	}
	if now := e.Now(); at.Before(now.Add(-maxSkew)) || at.After(now.Add(maxSkew)) {
		return a, Caller{}, model.Errorf("SignatureDoesNotMatch", "Signature expired: %s is now earlier than %s (15 min.)",
			r.Header.Get("X-Amz-Date"), now.Add(-maxSkew).UTC().Format("20060102T150405Z"))
	}
	token := r.Header.Get("X-Amz-Security-Token")
	secret, caller, err := e.Keys.Secret(a.accessKey, token)
	if err != nil {
		return a, Caller{}, err
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if said := r.Header.Get("X-Amz-Content-Sha256"); said != "" && said != hash {
		if said != "UNSIGNED-PAYLOAD" {
			return a, Caller{}, mismatch()
		}
		hash = said
	}
	again, err := resign(r, a, hash, at, aws.Credentials{AccessKeyID: a.accessKey, SecretAccessKey: secret, SessionToken: token})
	if err != nil || subtle.ConstantTimeCompare([]byte(again), []byte(a.signature)) != 1 {
		return a, Caller{}, mismatch()
	}
	caller.Region = a.region
	return a, caller, nil
}

func mismatch() error {
	return model.Errorf("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. "+
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// resign returns the signature that a request with just the signed headers gets.
func resign(r *http.Request, a *authorization, hash string, at time.Time, creds aws.Credentials) (string, error) {
	bare := &http.Request{Method: r.Method, URL: cloneURL(r), Host: r.Host, Header: http.Header{}}
	for _, name := range a.signed {
		switch name {
		case "host":
		case "content-length":
			bare.ContentLength = r.ContentLength
		default:
			bare.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	err := v4.NewSigner().SignHTTP(r.Context(), creds, bare, hash, a.service, a.region, at)
	if err != nil {
		return "", err
	}
	signed, refused := parseAuthorization(bare.Header.Get("Authorization"))
	if refused != nil {
		return "", refused
	}
	return signed.signature, nil
}

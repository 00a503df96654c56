package wire

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
)

// maxSkew is how far a signature's time may be from now (AWS: "Signature expired", 15 minutes).
const maxSkew = 15 * time.Minute

// maxPresigned is the longest life of a presigned request, seconds (AWS: 7 days).
const maxPresigned = 7 * 24 * 60 * 60

const (
	algorithm = "AWS4-HMAC-SHA256"
	timestamp = "20060102T150405Z"
)

// authorization is what a request says about its signature, not yet checked.
type authorization struct {
	accessKey, date, region, service string
	signed                           []string // header names, lower case
	signature                        string
	at                               time.Time
	token                            string
	presigned                        bool          // the signature is in the query
	life                             time.Duration // of a presigned request
}

// readAuthorization reads the signature of a request from its header or, presigned, its query.
func readAuthorization(r *http.Request) (*authorization, *model.Error) {
	var a *authorization
	var refused *model.Error
	var at string
	if q := r.URL.Query(); r.Header.Get("Authorization") == "" && q.Get("X-Amz-Algorithm") != "" {
		a, refused = parsePresigned(q)
		at = q.Get("X-Amz-Date")
	} else {
		a, refused = parseAuthorization(r.Header.Get("Authorization"))
		at = r.Header.Get("X-Amz-Date")
	}
	if refused != nil {
		return nil, refused
	}
	if !a.presigned && a.isSigned("x-amz-security-token") {
		a.token = r.Header.Get("X-Amz-Security-Token")
	}
	var err error
	if a.at, err = time.Parse(timestamp, at); err != nil {
		return nil, model.Errorf("IncompleteSignature", "The request needs an X-Amz-Date such as %s, not %.40q", timestamp, at)
	}
	if a.at.Format("20060102") != a.date {
		return nil, model.Errorf("SignatureDoesNotMatch",
			"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%.20s' != '%s', from '%s'.",
			a.date, a.at.Format("20060102"), at)
	}
	return a, nil
}

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/<service>/aws4_request, SignedHeaders=…,
// Signature=…".
func parseAuthorization(header string) (*authorization, *model.Error) {
	if header == "" {
		return nil, model.Errorf("MissingAuthenticationToken", "Missing Authentication Token")
	}
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return nil, model.Errorf("IncompleteSignature", "Unsupported AWS 'algorithm': want %s", algorithm)
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[k] = v
	}
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[name] == "" {
			return nil, model.Errorf("IncompleteSignature", "Authorization header requires '%s' parameter.", name)
		}
	}
	return newAuthorization(parts["Credential"], parts["SignedHeaders"], parts["Signature"])
}

// parsePresigned reads the same from the query of a presigned request.
func parsePresigned(q url.Values) (*authorization, *model.Error) {
	if q.Get("X-Amz-Algorithm") != algorithm {
		return nil, model.Errorf("IncompleteSignature", "Unsupported AWS 'algorithm': want %s", algorithm)
	}
	for _, name := range []string{"X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders"} {
		if q.Get(name) == "" {
			return nil, model.Errorf("IncompleteSignature", "AWS query-string parameters must include '%s'.", name)
		}
	}
	a, refused := newAuthorization(q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature"))
	if refused != nil {
		return nil, refused
	}
	a.presigned, a.token, a.life = true, q.Get("X-Amz-Security-Token"), maxSkew
	if text := q.Get("X-Amz-Expires"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 || seconds > maxPresigned {
			return nil, model.Errorf("IncompleteSignature", "X-Amz-Expires must be from 1 to %d seconds, not %.20q", maxPresigned, text)
		}
		a.life = time.Duration(seconds) * time.Second
	}
	return a, nil
}

func newAuthorization(credential, signedHeaders, signature string) (*authorization, *model.Error) {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || slices.Contains(scope, "") {
		return nil, model.Errorf("IncompleteSignature", "Credential must have exactly 5 slash-delimited elements, "+
			"e.g. keyid/date/region/service/term, got '%.200s'", credential)
	}
	if scope[4] != "aws4_request" {
		return nil, model.Errorf("SignatureDoesNotMatch",
			"Credential should be scoped with a valid terminator: 'aws4_request', not '%.40s'.", scope[4])
	}
	a := &authorization{accessKey: scope[0], date: scope[1], region: scope[2], service: scope[3], signature: signature,
		signed: strings.Split(strings.ToLower(signedHeaders), ";")}
	if !a.isSigned("host") {
		return nil, model.Errorf("SignatureDoesNotMatch", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return a, nil
}

func (a *authorization) isSigned(header string) bool { return slices.Contains(a.signed, header) }

// inTime refuses what was signed too long ago or for the future.
func (a *authorization) inTime(now time.Time) error {
	said, is := a.at.Format(timestamp), now.UTC().Format(timestamp)
	if a.at.After(now.Add(maxSkew)) {
		return model.Errorf("SignatureDoesNotMatch", "Signature not yet current: %s is still later than %s (%s + 15 min.)",
			said, now.Add(maxSkew).UTC().Format(timestamp), is)
	}
	if a.presigned && now.After(a.at.Add(a.life)) {
		return model.Errorf("SignatureDoesNotMatch", "Signature expired: %s is now earlier than %s (%s - %s)",
			said, now.Add(-a.life).UTC().Format(timestamp), is, a.life)
	}
	if !a.presigned && a.at.Before(now.Add(-maxSkew)) {
		return model.Errorf("SignatureDoesNotMatch", "Signature expired: %s is now earlier than %s (%s - 15 min.)",
			said, now.Add(-maxSkew).UTC().Format(timestamp), is)
	}
	return nil
}

// signer is who says to have signed a request, by its head; whether that is so, check tells.
type signer struct {
	*authorization
	caller Caller
	secret string
}

// identify finds the signer of a request whose head is in order.
func (e *Endpoint) identify(r *http.Request, a *authorization) (*signer, error) {
	if err := a.inTime(e.Now()); err != nil {
		return nil, err
	}
	if r.Header.Get("X-Amz-Target") != "" && !a.isSigned("x-amz-target") {
		return nil, model.Errorf("SignatureDoesNotMatch", "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.")
	}
	secret, caller, err := e.Keys.Secret(a.accessKey, a.token)
	if err != nil {
		return nil, err
	}
	caller.Region, caller.Source, caller.UserAgent, caller.Secure = a.region, gate.Source(r), r.UserAgent(), r.TLS != nil
	return &signer{authorization: a, caller: caller, secret: secret}, nil
}

func mismatch() error {
	return model.Errorf("SignatureDoesNotMatch",
		"The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// check signs a request again, with a body of that hash and length, and compares.
func (s *signer) check(r *http.Request, hash string, length int64) error {
	again, err := resign(r, s.authorization, hash, length,
		aws.Credentials{AccessKeyID: s.accessKey, SecretAccessKey: s.secret, SessionToken: s.token})
	if err != nil || subtle.ConstantTimeCompare([]byte(again), []byte(s.signature)) != 1 {
		return mismatch()
	}
	return nil
}

const unsignedPayload = "UNSIGNED-PAYLOAD"

// claimed is the hash of the body that the head of a request is signed with: a hash, unsignedPayload, or "" when the head does not
// say and the body alone tells.
func (s *signer) claimed(r *http.Request) string {
	said := ""
	if s.isSigned("x-amz-content-sha256") {
		said = r.Header.Get("X-Amz-Content-Sha256")
	} else if s.presigned {
		said = r.URL.Query().Get("X-Amz-Content-Sha256")
	}
	if said == unsignedPayload || len(said) == hex.EncodedLen(sha256.Size) {
		return said
	}
	return ""
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// resign returns the signature that a request with just the signed headers gets. The headers' names stay in lower case, or the
// signer would leave out those that it does not sign itself, such as User-Agent, which other clients do sign.
func resign(r *http.Request, a *authorization, hash string, length int64, creds aws.Credentials) (string, error) {
	bare := &http.Request{Method: r.Method, URL: cloneURL(r), Host: r.Host, Header: http.Header{}}
	for _, name := range a.signed {
		switch name {
		case "host":
		case "content-length":
			bare.ContentLength = length // a proxy may have chunked it
		case "x-amz-date", "x-amz-security-token":
			if !a.presigned {
				continue // the signer sets them
			}
			fallthrough
		default:
			bare.Header[name] = r.Header.Values(name)
		}
	}
	if a.presigned {
		return resignQuery(bare, a, hash, creds)
	}
	if err := v4.NewSigner(asS3(a)).SignHTTP(r.Context(), creds, bare, hash, a.service, a.region, a.at); err != nil {
		return "", err
	}
	_, signature, _ := strings.Cut(bare.Header.Get("Authorization"), "Signature=")
	return signature, nil
}

// asS3: S3's paths are signed as they are, those of other services escaped once more.
func asS3(a *authorization) func(*v4.SignerOptions) {
	return func(o *v4.SignerOptions) { o.DisableURIPathEscaping = a.service == "s3" }
}

func resignQuery(bare *http.Request, a *authorization, hash string, creds aws.Credentials) (string, error) {
	q := bare.URL.Query()
	q.Del("X-Amz-Signature")
	bare.URL.RawQuery = q.Encode()
	signed, _, err := v4.NewSigner(asS3(a), func(o *v4.SignerOptions) { o.DisableHeaderHoisting = true }).
		PresignHTTP(bare.Context(), creds, bare, hash, a.service, a.region, a.at)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(signed)
	if err != nil {
		return "", err
	}
	return u.Query().Get("X-Amz-Signature"), nil
}

func cloneURL(r *http.Request) *url.URL {
	u := *r.URL
	u.Host = r.Host
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	return &u
}

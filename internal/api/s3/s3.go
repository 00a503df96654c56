// Package s3 is a small S3 for environment files, Terraform's state and the like: buckets and objects over serve/objects, in the protocol
// as gofakes3 speaks it, under Berth's own signatures and permissions. Buckets are named in the path. Versions, lifecycles, policies and
// the like of buckets are refused, or answered as for a bucket that has none.
package s3

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/rclone/gofakes3"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/objects"
)

// Config is what the API needs.
type Config struct {
	Objects *objects.Objects
	Keys    wire.Keys
	Access  wire.Access
	Now     func() time.Time
	Log     *slog.Logger
	// Refuse, when not nil, tells why nothing is served now; "" when it is.
	Refuse func() string
}

// Service is an http.Handler.
type Service struct {
	Config
	fake http.Handler
}

// New makes the service.
func New(c Config) *Service {
	fake := gofakes3.New(c.Objects, gofakes3.WithTimeSkewLimit(0), gofakes3.WithLogger(logger{c.Log}))
	return &Service{Config: c, fake: fake.Server()}
}

// logger hands on what went wrong.
type logger struct{ log *slog.Logger }

// Print implements gofakes3.Logger.
func (l logger) Print(level gofakes3.LogLevel, v ...any) {
	if level == gofakes3.LogErr && l.log != nil {
		l.log.Error("a request to S3 failed", "error", fmt.Sprint(v...))
	}
}

// Claims tells whether a request is for S3: it is signed for it.
func Claims(r *http.Request) bool { return wire.Scope(r) == "s3" }

// maxDocument bounds the bodies that are read as documents, bytes.
const maxDocument = 2 << 20

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, err := wire.Authenticate(r, s.Keys, s.Now)
	if err != nil {
		refuse(w, r, err)
		return
	}
	if s.Refuse != nil {
		if why := s.Refuse(); why != "" {
			refuse(w, r, model.Errorf("NotImplemented", "%s", why))
			return
		}
	}
	var document []byte
	if r.Method == http.MethodPost && r.URL.Query().Has("delete") {
		if document, err = io.ReadAll(io.LimitReader(r.Body, maxDocument+1)); err != nil || len(document) > maxDocument {
			refuse(w, r, model.Errorf("MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(document))
	}
	for _, ask := range asks(r, document) {
		if s.Access == nil {
			break
		}
		if err := s.Access.Allow(caller, ask); err != nil {
			refuse(w, r, err)
			return
		}
	}
	r.Header.Set("X-Amz-Date", s.Now().UTC().Format("20060102T150405Z")) // it was checked
	s.fake.ServeHTTP(w, r)
}

type problem struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string
	RequestID string `xml:"RequestId"`
}

// codes are what S3 calls the refusals of others.
var codes = map[string]struct {
	name   string
	status int
}{
	"AccessDeniedException":       {"AccessDenied", http.StatusForbidden},
	"AccessDenied":                {"AccessDenied", http.StatusForbidden},
	"UnrecognizedClientException": {"InvalidAccessKeyId", http.StatusForbidden},
	"InvalidClientTokenId":        {"InvalidAccessKeyId", http.StatusForbidden},
	"ExpiredTokenException":       {"ExpiredToken", http.StatusBadRequest},
	"SignatureDoesNotMatch":       {"SignatureDoesNotMatch", http.StatusForbidden},
	"MissingAuthenticationToken":  {"AccessDenied", http.StatusForbidden},
	"NotImplemented":              {"NotImplemented", http.StatusNotImplemented},
	"IncompleteSignature":         {"AuthorizationHeaderMalformed", http.StatusBadRequest},
	"MalformedXML":                {"MalformedXML", http.StatusBadRequest},
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problem{Code: "InternalError", Message: "We encountered an internal error. Please try again.", Resource: r.URL.Path}
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[*model.Error](err); ok {
		known := codes[e.Code]
		p.Code, p.Message, status = cmp.Or(known.name, e.Code), e.Message, cmp.Or(known.status, http.StatusBadRequest)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Server", "AmazonS3")
	if strings.HasPrefix(r.Header.Get("Expect"), "100-") || r.ContentLength > maxDocument {
		w.Header().Set("Connection", "close") // what comes is not read
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, xml.Header) // who has gone asks again
		_ = xml.NewEncoder(w).Encode(p)
	}
}

package wire

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// DefaultMaxBody bounds a request's body, bytes.
const DefaultMaxBody = 10 << 20

// Config is what an Endpoint needs.
type Config struct {
	Keys     Keys
	Now      func() time.Time // nil means time.Now
	Log      *slog.Logger     // nil discards
	MaxBody  int64            // bytes, before and after decompression; default DefaultMaxBody
	Services []*Service
}

// Endpoint serves the AWS protocols for all services at one address. Every request must be signed.
type Endpoint struct {
	Config
	byTarget map[string]*Service // JSON services, by X-Amz-Target prefix
	byName   map[string]*Service // query services, by the name in a signature's scope
}

// NewEndpoint makes an Endpoint.
func NewEndpoint(c Config) *Endpoint {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := &Endpoint{Config: c, byTarget: map[string]*Service{}, byName: map[string]*Service{}}
	for _, s := range c.Services {
		if s.Protocol == Query || s.Protocol == EC2Query {
			e.byName[s.Name] = s
		} else {
			e.byTarget[s.Target] = s
		}
	}
	return e
}

// exchange is one request on its way to an answer.
type exchange struct {
	e       *Endpoint
	w       http.ResponseWriter
	r       *http.Request
	id      string
	service *Service // nil while, or because, none is known
	op      string
	form    url.Values // of query services
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{e: e, w: w, r: r, id: requestID()}
	w.Header().Set("x-amzn-RequestId", x.id)
	answer, err := x.serve()
	if err != nil {
		x.fail(err)
		return
	}
	x.write(http.StatusOK, answer)
}

func requestID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// serve returns the answer's body. The service is looked up before the signature is checked, so that a refusal is written in its
// protocol; nothing is run before. A panic fails this request alone.
func (x *exchange) serve() (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	body, err := x.body()
	if err != nil {
		return nil, err
	}
	auth, refused := readAuthorization(x.r)
	x.findService(auth)
	if refused != nil {
		return nil, refused
	}
	caller, err := x.e.verify(x.r, auth, body)
	if err != nil {
		return nil, err
	}
	if body, err = x.inflate(body); err != nil {
		return nil, err
	}
	if err := x.findOperation(auth, body); err != nil {
		return nil, err
	}
	return x.run(WithCaller(x.r.Context(), caller), body)
}

// run decodes the request, calls the handler and encodes what it returned.
func (x *exchange) run(ctx context.Context, body []byte) ([]byte, error) {
	op, ok := x.service.operations[x.op]
	if !ok {
		return nil, x.unknown()
	}
	in := op.newInput()
	var err error
	if x.form != nil {
		err = decodeQuery(x.form, in, x.service.Protocol == EC2Query)
	} else {
		err = decodeJSON(body, op.schema.Input, in, x.service.Unions)
	}
	if err != nil {
		return nil, err
	}
	out, err := op.call(ctx, in)
	if err != nil {
		return nil, err
	}
	if reflect.ValueOf(out).IsNil() {
		out = op.newOutput()
	}
	if x.form != nil {
		return x.xmlAnswer(out), nil
	}
	return encodeJSON(out, op.schema.Output), nil
}

func (x *exchange) body() ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, x.e.MaxBody))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		x.findService(nil)
		return nil, x.tooLarge()
	}
	if err != nil {
		return nil, malformed("the request did not arrive whole")
	}
	return body, nil
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

// findService finds the service that a request is for; a is nil when the request says nothing of a signature.
func (x *exchange) findService(a *authorization) {
	if target := x.r.Header.Get("X-Amz-Target"); target != "" {
		prefix, op, _ := strings.Cut(target, ".")
		x.service, x.op = x.e.byTarget[prefix], op
		return
	}
	if a != nil && x.isQuery() {
		x.service = x.e.byName[a.service]
	}
}

// isQuery tells whether a request without X-Amz-Target is of the query protocols; others are REST.
func (x *exchange) isQuery() bool {
	kind, _, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	return kind == "application/x-www-form-urlencoded" || x.r.URL.Query().Has("Action")
}

// findOperation finds the operation, for query services in the parameters.
func (x *exchange) findOperation(a *authorization, body []byte) error {
	if x.service == nil {
		return model.Errorf("UnsupportedOperationException", "Berth does not serve %s yet", a.service)
	}
	if a.service != x.service.Name {
		return model.Errorf("SignatureDoesNotMatch", "Credential should be scoped to correct service: '%s'.", x.service.Name)
	}
	if x.r.Header.Get("X-Amz-Target") != "" {
		return nil
	}
	form := x.r.URL.Query()
	if kind, _, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" {
		posted, err := url.ParseQuery(string(body))
		if err != nil {
			return model.Errorf("MalformedQueryString", "The body is no query string")
		}
		for k, v := range posted {
			form[k] = v
		}
	}
	x.form = form
	if x.op = form.Get("Action"); x.op == "" {
		return model.Errorf("MissingAction", "The request must contain the parameter Action")
	}
	if v := form.Get("Version"); v != "" && v != x.service.Version && x.service.Version != "" {
		return model.Errorf("NoSuchVersion", "Berth serves version %s of %s, not %.40q", x.service.Version, x.service.Name, v)
	}
	form.Del("Action")
	form.Del("Version")
	return nil
}

func (x *exchange) unknown() error {
	if slices.Contains(x.service.Modelled, x.op) {
		return model.Errorf("UnsupportedOperationException", "Berth does not support %s:%s yet", x.service.Name, x.op)
	}
	if x.form != nil {
		return model.Errorf("InvalidAction", "The action %.100s is not valid for this web service.", x.op)
	}
	return model.Errorf("UnknownOperationException", "%s has no operation %.100s", x.service.Name, x.op)
}

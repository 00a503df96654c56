package wire

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
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

	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/model"
)

// DefaultMaxBody bounds a request's body, bytes.
const DefaultMaxBody = 10 << 20

// Config is what an Endpoint needs.
type Config struct {
	Keys     Keys
	Now      func() time.Time
	Log      *slog.Logger
	MaxBody  int64 // bytes, before and after decompression; default DefaultMaxBody
	Services []*Service
}

// Endpoint serves the AWS protocols for all services at one address. Every request must be signed.
type Endpoint struct {
	Config
	byTarget map[string]*Service // X-Amz-Target prefix
	byName   map[string]*Service // query services, by the name in a signature's scope
}

// NewEndpoint makes an Endpoint.
func NewEndpoint(c Config) *Endpoint {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
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

func cloneURL(r *http.Request) *url.URL {
	u := *r.URL
	u.Host = r.Host
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	return &u
}

// exchange is one request on its way to an answer.
type exchange struct {
	e       *Endpoint
	w       http.ResponseWriter
	r       *http.Request
	id      string
	json    bool // how errors are written while the service is not known
	service *Service
	op      string
	form    url.Values
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{e: e, w: w, r: r, id: requestID(), json: r.Header.Get("X-Amz-Target") != ""}
	w.Header().Set("x-amzn-RequestId", x.id)
	out, err := x.serve()
	if err != nil {
		x.fail(err)
		return
	}
	x.answer(out)
}

func requestID() string {
	b := make([]byte, 16)
	rand.Read(b)
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (x *exchange) serve() (out any, err error) {
	body, err := x.body()
	if err != nil {
		return nil, err
	}
	auth, caller, err := x.e.verify(x.r, body)
	if err != nil {
		return nil, err
	}
	if body, err = x.inflate(body); err != nil {
		return nil, err
	}
	if err := x.route(auth, body); err != nil {
		return nil, err
	}
	op, ok := x.service.operations[x.op]
	if !ok {
		return nil, x.unknown()
	}
	in := op.newInput()
	if x.form != nil {
		err = decodeQuery(x.form, in)
	} else {
		err = decodeJSON(body, op.schema.Input, in)
	}
	if err != nil {
		return nil, err
	}
	return x.call(op, WithCaller(x.r.Context(), caller), in)
}

// call runs the handler; a panic is its failure alone.
func (x *exchange) call(op operation, ctx context.Context, in any) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return op.call(ctx, in)
}

func (x *exchange) body() ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, x.e.MaxBody))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return nil, model.Errorf("RequestEntityTooLargeException", "The request is larger than %d bytes", x.e.MaxBody)
	}
	if err != nil {
		return nil, malformed("the request did not arrive whole")
	}
	return body, nil
}

func (x *exchange) inflate(body []byte) ([]byte, error) {
	if x.r.Header.Get("Content-Encoding") != "gzip" {
		return body, nil
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
		return nil, model.Errorf("RequestEntityTooLargeException", "The request is larger than %d bytes", x.e.MaxBody)
	}
	return plain, nil
}

// route finds the service and the operation.
func (x *exchange) route(auth *authorization, body []byte) error {
	if target := x.r.Header.Get("X-Amz-Target"); target != "" {
		prefix, op, _ := strings.Cut(target, ".")
		if x.service = x.e.byTarget[prefix]; x.service == nil {
			return model.Errorf("UnknownOperationException", "Berth does not serve %s yet", prefix)
		}
		x.op = op
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
	if x.op = form.Get("Action"); x.op == "" {
		return model.Errorf("MissingAction", "Berth serves no API named %q at this path", auth.service)
	}
	if x.service = x.e.byName[auth.service]; x.service == nil {
		return model.Errorf("InvalidAction", "Berth does not serve %s yet", auth.service)
	}
	if v := form.Get("Version"); v != "" && v != x.service.Version && x.service.Version != "" {
		return model.Errorf("NoSuchVersion", "Berth serves version %s of %s, not %s", x.service.Version, x.service.Name, v)
	}
	form.Del("Action")
	form.Del("Version")
	x.form = form
	return nil
}

func (x *exchange) unknown() error {
	if slices.Contains(x.service.Modelled, x.op) {
		return model.Errorf("UnsupportedOperationException", "Berth does not support %s:%s yet", x.service.Name, x.op)
	}
	if x.form != nil {
		return model.Errorf("InvalidAction", "The action %s is not valid for this web service.", x.op)
	}
	return model.Errorf("UnknownOperationException", "%s has no operation %s", x.service.Name, x.op)
}

func (x *exchange) contentType() string {
	switch {
	case x.service == nil && x.json || x.service != nil && x.service.Protocol == JSON11:
		return "application/x-amz-json-1.1"
	case x.service != nil && x.service.Protocol == JSON10:
		return "application/x-amz-json-1.0"
	}
	return "text/xml"
}

// answer writes an operation's output.
func (x *exchange) answer(out any) {
	var body []byte
	if x.form == nil {
		w := &jsonWriter{}
		out.(smithy.Serializable).Serialize(w)
		body = w.Bytes()
	} else {
		body = x.xmlAnswer(out)
	}
	x.write(http.StatusOK, body)
}

func (x *exchange) write(status int, body []byte) {
	x.w.Header().Set("Content-Type", x.contentType())
	x.w.WriteHeader(status)
	x.w.Write(body) // the client may be gone; there is nobody left to tell
}

func (x *exchange) xmlAnswer(out any) []byte {
	v := reflect.ValueOf(out).Elem()
	w := &xmlWriter{item: "member", name: func(_ reflect.Type, f string) string { return f }}
	if x.service.Protocol == EC2Query {
		w.item = "item"
		w.name = func(_ reflect.Type, f string) string {
			if n, ok := x.service.Names[f]; ok {
				return n
			}
			return strings.ToLower(f[:1]) + f[1:]
		}
		fmt.Fprintf(&w.buf, `<%sResponse xmlns="%s"><requestId>%s</requestId>`, x.op, x.service.Namespace, x.id)
		w.fields(v)
		fmt.Fprintf(&w.buf, "</%sResponse>", x.op)
		return []byte(w.buf.String())
	}
	fmt.Fprintf(&w.buf, `<%sResponse xmlns="%s"><%sResult>`, x.op, x.service.Namespace, x.op)
	w.fields(v)
	fmt.Fprintf(&w.buf, `</%sResult><ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>`, x.op, x.id, x.op)
	return []byte(w.buf.String())
}

// fail answers with a refusal, or hides a fault behind a name and logs it.
func (x *exchange) fail(err error) {
	if modelled, ok := errors.AsType[smithy.DeserializableError](err); ok && x.form == nil {
		if api, ok := modelled.(interface {
			smithy.Serializable
			smithy.APIError
		}); ok {
			x.failModelled(api)
			return
		}
	}
	refused, ok := errors.AsType[*model.Error](err)
	if !ok {
		if x.r.Context().Err() != nil {
			return // the client is gone
		}
		x.e.Log.Error("request failed", "request", x.id, "operation", x.op, "error", err)
		refused = model.Errorf("InternalFailure", "Something went wrong inside Berth; its log has request %s", x.id)
		if x.service != nil && x.service.Protocol == JSON11 {
			refused.Code = "ServerException"
		}
	}
	code, status := x.errorName(refused.Code)
	if x.contentType() == "text/xml" {
		x.write(status, x.xmlError(code, refused.Message))
		return
	}
	body, _ := json.Marshal(map[string]string{"__type": code, "message": refused.Message}) // strings always marshal
	x.write(status, body)
}

func (x *exchange) failModelled(err interface {
	smithy.Serializable
	smithy.APIError
}) {
	w := &jsonWriter{}
	err.Serialize(w)
	body := map[string]any{}
	if json.Unmarshal(w.Bytes(), &body) != nil {
		body = map[string]any{"message": err.ErrorMessage()}
	}
	body["__type"] = err.ErrorCode()
	out, _ := json.Marshal(body) // it was JSON a moment ago
	x.write(http.StatusBadRequest, out)
}

// errorName spells the errors of the endpoint itself as the service's protocol does, and gives the HTTP status.
func (x *exchange) errorName(code string) (string, int) {
	inJSON := x.contentType() != "text/xml"
	switch code {
	case "ServerException", "InternalFailure", "InternalError":
		return code, http.StatusInternalServerError
	case "RequestEntityTooLargeException":
		return code, http.StatusRequestEntityTooLarge
	case "MissingAuthenticationToken", "IncompleteSignature", "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidClientTokenId",
		"ExpiredToken", "ExpiredTokenException", "AccessDenied", "AccessDeniedException":
		return authName(code, inJSON)
	}
	return code, http.StatusBadRequest
}

// authName: JSON services answer 400 with one set of names, query services 403 with another.
func authName(code string, inJSON bool) (string, int) {
	names := [][2]string{ // JSON, query
		{"MissingAuthenticationTokenException", "MissingAuthenticationToken"},
		{"IncompleteSignatureException", "IncompleteSignature"},
		{"InvalidSignatureException", "SignatureDoesNotMatch"},
		{"UnrecognizedClientException", "InvalidClientTokenId"},
		{"ExpiredTokenException", "ExpiredToken"},
		{"AccessDeniedException", "AccessDenied"},
	}
	for _, n := range names {
		if code == n[0] || code == n[1] {
			if inJSON {
				return n[0], http.StatusBadRequest
			}
			return n[1], http.StatusForbidden
		}
	}
	return code, http.StatusBadRequest
}

func (x *exchange) xmlError(code, message string) []byte {
	w := &xmlWriter{}
	if x.service != nil && x.service.Protocol == EC2Query {
		w.element("Response", func() {
			w.element("Errors", func() {
				w.element("Error", func() {
					w.element("Code", func() { w.text(code) })
					w.element("Message", func() { w.text(message) })
				})
			})
			w.element("RequestID", func() { w.text(x.id) })
		})
		return []byte(w.buf.String())
	}
	w.element("ErrorResponse", func() {
		w.element("Error", func() {
			w.element("Type", func() { w.text("Sender") })
			w.element("Code", func() { w.text(code) })
			w.element("Message", func() { w.text(message) })
		})
		w.element("RequestId", func() { w.text(x.id) })
	})
	return []byte(w.buf.String())
}

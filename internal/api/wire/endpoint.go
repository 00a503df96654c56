package wire

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/api/wire/models"
	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
)

// DefaultMaxBody bounds a request's body, bytes.
const DefaultMaxBody = 10 << 20

// Config is what an Endpoint needs.
type Config struct {
	Keys     Keys
	Access   Access           // nil: every caller may do everything
	Now      func() time.Time // nil means time.Now
	Log      *slog.Logger     // nil discards
	MaxBody  int64            // bytes, before and after decompression; default DefaultMaxBody
	Bodies   *gate.Budget     // of the bodies in memory; default: 128 MiB, of which a source may have a quarter
	Pace     gate.Pace        // of bodies and answers; default gate.DefaultPace
	Services []*Service
	// Regional, when not nil, returns the service as it is in the region of a signature's scope, or refuses the region.
	Regional func(region string, service *Service) (*Service, error)
	// Context, when not nil, prepares the context of an operation's handler.
	Context func(ctx context.Context, operation string) context.Context
	// Unavailable, when not nil, tells which errors of handlers are no faults but a moment's: clients are answered 503, and try again.
	Unavailable func(error) bool
}

// Endpoint serves the AWS protocols for all services at one address. Every request must be signed.
type Endpoint struct {
	Config
	parsing  *gate.Budget        // of the bodies that are being read as values, which take many times their bytes
	byTarget map[string]*Service // JSON services, by X-Amz-Target prefix
	byShape  map[string]*Service // services that speak CBOR too, by their shape's name
	byName   map[string]*Service // query and REST services, by the name in a signature's scope
	routes   map[string][]route  // of REST services, by the same name
}

// patience is how long a request waits for its turn in a budget.
const patience = 5 * time.Second

// NewEndpoint makes an Endpoint. Two services that the same requests would find are a mistake of the wiring: it panics.
func NewEndpoint(c Config) *Endpoint {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.Bodies == nil {
		c.Bodies = gate.NewBudget(max(128<<20, c.MaxBody), max(32<<20, c.MaxBody), patience)
	}
	if c.Pace == (gate.Pace{}) {
		c.Pace = gate.DefaultPace
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := &Endpoint{Config: c, parsing: gate.NewBudget(2*c.MaxBody, 2*c.MaxBody, patience), byTarget: map[string]*Service{},
		byShape: map[string]*Service{}, byName: map[string]*Service{}, routes: map[string][]route{}}
	for _, s := range c.Services {
		if s.Shape != "" {
			enter(e.byShape, "shape", s.Shape, s)
			enter(e.byTarget, "target", s.Shape, s) // CloudWatch's clients may speak JSON, too
		}
		switch s.Protocol {
		case JSON11, JSON10:
			enter(e.byTarget, "target", s.Target, s)
		case RESTJSON, RESTXML:
			enter(e.byName, "name", s.Name, s)
			e.routes[s.Name] = routesOf(s)
		default:
			enter(e.byName, "name", s.Name, s)
		}
	}
	return e
}

// enter puts a service where requests find it. A service may stand under one word twice, two may not.
func enter(found map[string]*Service, what, word string, s *Service) {
	if other := found[word]; other != nil && other != s {
		panic(fmt.Sprintf("wire: services %s and %s have one %s, %q", other.Name, s.Name, what, word))
	}
	found[word] = s
}

// exchange is one request on its way to an answer.
type exchange struct {
	e       *Endpoint
	w       http.ResponseWriter
	r       *http.Request
	id      string
	paced   io.Reader // the request's body
	service *Service  // nil while, or because, none is known
	proto   Protocol  // what is spoken, or seems to be
	scope   string    // the service of the signature
	op      string
	form    url.Values        // of query services
	labels  map[string]string // of the path, by member (REST services)
	// unsigned: the operation is one that is called so
	unsigned bool
}

// answer is a response; kind is its content type, "" for the service's usual one.
type answer struct {
	status int
	kind   string
	body   []byte
	sent   bool // it was a stream, which is over
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{e: e, w: w, r: r, id: requestID()}
	w.Header().Set("x-amzn-RequestId", x.id)
	a, err := x.serve()
	if err != nil {
		x.fail(err)
		return
	}
	if !a.sent {
		x.write(a)
	}
}

func requestID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// serve returns the answer. The service is looked up before the signature is checked, so that a refusal is written in its
// protocol; nothing is run before. What the head of the request spoils is refused before its body is read. A panic fails this
// request alone.
func (x *exchange) serve() (a answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	x.paced = x.e.Pace.Body(x.w, x.r)
	auth, refused := readAuthorization(x.r)
	x.findService(auth)
	if refused != nil && refused.Code == "MissingAuthenticationToken" {
		return x.serveUnsigned(refused)
	}
	if refused != nil {
		return answer{}, refused
	}
	signer, err := x.e.identify(x.r, auth)
	if err != nil {
		return answer{}, err
	}
	if err := x.served(auth); err != nil {
		return answer{}, err
	}
	body, give, err := x.admit(signer)
	if err != nil {
		return answer{}, err
	}
	defer give()
	if err := x.findOperation(body); err != nil {
		return answer{}, err
	}
	if x.e.Regional != nil {
		own, err := x.e.Regional(auth.region, x.service)
		if err != nil {
			return answer{}, err
		}
		x.service = own
	}
	ctx := WithCaller(x.r.Context(), signer.caller)
	if x.e.Context != nil {
		ctx = x.e.Context(ctx, x.op)
	}
	return x.run(ctx, body, give)
}

// run decodes the request, calls the handler and encodes what it returned.
// The body's memory is given back when it is decoded.
func (x *exchange) run(ctx context.Context, body []byte, give func()) (answer, error) {
	op, ok := x.service.operations[x.op]
	if !ok && !models.Has(x.service.Name, x.op) {
		return answer{}, x.unknown()
	}
	if !ok {
		if err := x.allow(ctx, nil); err != nil {
			return answer{}, err
		}
		return answer{}, x.unknown()
	}
	in := op.newInput()
	if err := x.decode(op, body, in); err != nil {
		return answer{}, err
	}
	give()
	if err := x.allow(ctx, in); err != nil {
		return answer{}, err
	}
	if x.proto == EC2Query && isDryRun(in) {
		return answer{}, model.Errorf("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	}
	if op.stream != nil {
		return x.stream(ctx, op, in)
	}
	out, err := op.call(ctx, in)
	if err != nil {
		return answer{}, err
	}
	if reflect.ValueOf(out).IsNil() {
		out = op.newOutput()
	}
	return x.encode(op, out), nil
}

// allow asks for everything that the request wants; in is nil for operations that are not served.
func (x *exchange) allow(ctx context.Context, in any) error {
	if x.e.Access == nil || x.unsigned {
		return nil
	}
	var asks []Ask
	if in != nil && x.service.Asks != nil {
		asks = x.service.Asks(ctx, x.op, in)
	}
	if len(asks) == 0 {
		asks = []Ask{{Action: cmp.Or(x.service.Actions, x.service.Name) + ":" + x.op}}
	}
	for _, ask := range asks {
		if err := x.e.Access.Allow(CallerFrom(ctx), ask); err != nil {
			return err
		}
	}
	return nil
}

func (x *exchange) encode(op operation, out any) answer {
	switch x.proto {
	case Query, EC2Query:
		return answer{status: http.StatusOK, body: x.xmlAnswer(out)}
	case RESTJSON, RESTXML:
		return encodeREST(out, op.schema, x.w.Header(), x.proto == RESTXML)
	case CBOR:
		return answer{status: http.StatusOK, body: encodeCBOR(out, op.schema.Output)}
	}
	return answer{status: http.StatusOK, body: encodeJSON(out, op.schema.Output)}
}

// isDryRun tells whether a request to EC2 only asks if it would be allowed.
func isDryRun(in any) bool {
	f := reflect.ValueOf(in).Elem().FieldByName("DryRun")
	if !f.IsValid() { // an operation without the parameter
		return false
	}
	asked, ok := reflect.TypeAssert[*bool](f)
	return ok && asked != nil && *asked
}

func (x *exchange) decode(op operation, body []byte, in any) error {
	switch x.proto {
	case Query, EC2Query:
		return decodeQuery(x.form, in, x.proto == EC2Query)
	case RESTJSON, RESTXML:
		return decodeREST(restRequest{x.r, x.labels, body, x.proto == RESTXML}, op.schema.Input, in)
	case CBOR:
		return decodeCBOR(body, op.schema.Input, in)
	}
	return decodeJSON(body, op.schema.Input, in)
}

// findService finds the service that a request is for, and the protocol that it speaks; a is nil when the request says nothing of a
// signature.
func (x *exchange) findService(a *authorization) {
	if a != nil {
		x.scope = a.service
	}
	if target := x.r.Header.Get("X-Amz-Target"); target != "" {
		prefix, op, _ := strings.Cut(target, ".")
		x.service, x.op, x.proto = x.e.byTarget[prefix], op, JSON11
		if x.service != nil {
			if x.proto = x.service.Protocol; x.proto != JSON11 {
				x.proto = JSON10
			}
		}
		return
	}
	if x.r.Header.Get("Smithy-Protocol") == protocolCBOR {
		x.proto = CBOR
		// [<prefix>]/service/<shape>/operation/<operation>
		if p := strings.Split(x.r.URL.Path, "/"); len(p) > 4 && p[len(p)-4] == "service" && p[len(p)-2] == "operation" {
			x.service, x.op = x.e.byShape[p[len(p)-3]], p[len(p)-1]
		}
		return
	}
	x.proto = x.guess()
	if s := x.e.byName[x.scope]; s != nil && (s.Protocol == RESTJSON || s.Protocol == RESTXML || x.isQuery()) {
		x.service, x.proto = s, s.Protocol
	}
}

// guess is the protocol of a request without a service here: by the name in its signature's scope, or its form.
func (x *exchange) guess() Protocol {
	switch x.scope {
	case "ec2":
		return EC2Query
	case "s3", "s3express", "s3-outposts", "route53", "cloudfront":
		return RESTXML
	}
	if x.isQuery() {
		return Query
	}
	return RESTJSON
}

// isQuery tells whether a request without X-Amz-Target seems to be of the query protocols; others are REST.
func (x *exchange) isQuery() bool {
	kind, _, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	return kind == "application/x-www-form-urlencoded" || x.r.URL.Query().Has("Action")
}

// served refuses what is for a service that Berth does not have, or that was signed for another.
func (x *exchange) served(a *authorization) error {
	if x.service == nil {
		return model.Errorf("UnsupportedOperationException", "Berth does not serve %s yet", a.service)
	}
	if a.service != x.service.Name {
		return model.Errorf("SignatureDoesNotMatch", "Credential should be scoped to correct service: '%s'.", x.service.Name)
	}
	return nil
}

// findOperation finds the operation: for query services in the parameters, for REST services by method and path.
func (x *exchange) findOperation(body []byte) error {
	switch x.proto {
	case JSON11, JSON10, CBOR:
		return nil
	case RESTJSON, RESTXML:
		return x.findRoute()
	}
	return x.findAction(body)
}

func (x *exchange) findRoute() error {
	op, labels, ok := findRoute(x.e.routes[x.service.Name], x.r.Method, x.r.URL)
	if !ok {
		return model.Errorf("UnknownOperationException", "%s has no operation %.20s %.100s", x.service.Name, x.r.Method, x.r.URL.Path)
	}
	x.op, x.labels = op, labels
	return nil
}

// findAction reads the parameters of a query service's request.
func (x *exchange) findAction(body []byte) error {
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
	if models.Has(x.service.Name, x.op) {
		return model.Errorf("UnsupportedOperationException", "Berth does not support %s:%s yet", x.service.Name, x.op)
	}
	if x.form != nil {
		return model.Errorf("InvalidAction", "The action %.100s is not valid for this web service.", x.op)
	}
	return model.Errorf("UnknownOperationException", "%s has no operation %.100s", x.service.Name, x.op)
}

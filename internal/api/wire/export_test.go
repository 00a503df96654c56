package wire

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"

	smithy "github.com/aws/smithy-go"
)

// What the tests of package wire_test see of the codecs.
var (
	DecodeJSON         = decodeJSON
	EncodeJSON         = encodeJSON
	DecodeCBOR         = decodeCBOR
	EncodeCBOR         = encodeCBOR
	ParseAuthorization = parseAuthorization
)

// DecodeQuery decodes awsQuery.
func DecodeQuery(form url.Values, into any) error { return decodeQuery(form, into, false) }

// DecodeEC2 decodes ec2Query.
func DecodeEC2(form url.Values, into any) error { return decodeQuery(form, into, true) }

// Operation is what a service does for a name.
type Operation struct {
	Name                string
	NewInput, NewOutput func() any
	Call                func(ctx context.Context, in any) (any, error)
	Schema              *smithy.OperationSchema
}

func Operations(s *Service) (all []Operation) {
	for _, name := range slices.Sorted(maps.Keys(s.operations)) {
		o := s.operations[name]
		all = append(all, Operation{name, o.newInput, o.newOutput, o.call, o.schema})
	}
	return all
}

// EncodeXML is the answer of an operation of a query service.
func EncodeXML(s *Service, op string, out any) []byte {
	return (&exchange{service: s, proto: s.Protocol, op: op, id: "request"}).xmlAnswer(out)
}

// DecodeREST finds the operation of a request of a REST service and reads its input into what newInput makes for it.
func DecodeREST(s *Service, r *http.Request, newInput func(op string) (*smithy.Schema, any)) (op string, in any, err error) {
	op, labels, ok := findRoute(routesOf(s), r.Method, r.URL)
	if !ok {
		return "", nil, fmt.Errorf("no route for %s %s", r.Method, r.URL)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return op, nil, err
	}
	schema, in := newInput(op)
	return op, in, decodeREST(restRequest{r, labels, body, false}, schema, in)
}

// EncodeREST is the answer of an operation of a REST service.
func EncodeREST(op *smithy.OperationSchema, out any) *http.Response {
	w := httptest.NewRecorder()
	x := &exchange{e: NewEndpoint(Config{}), w: w, service: &Service{Protocol: RESTJSON}, proto: RESTJSON}
	x.write(encodeREST(out, op, w.Header(), false))
	return w.Result()
}

// Refuse is the answer to a request whose handler returned err.
func Refuse(s *Service, err error) (status int, body []byte) {
	w := RefuseREST(s, err)
	return w.Code, w.Body.Bytes()
}

// RefuseREST is the same with the headers.
func RefuseREST(s *Service, err error) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	x := &exchange{e: NewEndpoint(Config{}), w: w, r: httptest.NewRequest("POST", "/", nil), service: s, proto: s.Protocol, op: "Op", id: "request"}
	x.fail(err)
	return w
}

// EncodeElement and DecodeElement are a document of restXml.
func EncodeElement(name string, s *smithy.Schema, v any) []byte {
	return appendElement(nil, name, s, reflect.ValueOf(v))
}

func DecodeElement(body []byte, s *smithy.Schema, into any) error {
	root, err := parseXML(body)
	if err != nil {
		return err
	}
	return assign(reflect.ValueOf(into).Elem(), s, root.value(s), "")
}

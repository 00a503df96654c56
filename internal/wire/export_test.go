package wire

import (
	"maps"
	"net/http/httptest"
	"net/url"
	"slices"

	smithy "github.com/aws/smithy-go"
)

// What the tests of package wire_test see of the codecs.
var (
	EncodeJSON         = encodeJSON
	DecodeInput        = decodeJSON
	ParseAuthorization = parseAuthorization
)

// DecodeJSON decodes for a service that keeps unions.
func DecodeJSON(body []byte, s *smithy.Schema, into any) error {
	return decodeJSON(body, s, into, true)
}

// DecodeQuery decodes awsQuery.
func DecodeQuery(form url.Values, into any) error { return decodeQuery(form, into, false) }

// DecodeEC2 decodes ec2Query.
func DecodeEC2(form url.Values, into any) error { return decodeQuery(form, into, true) }

// Operation is what a service does for a name.
type Operation struct {
	Name                string
	NewInput, NewOutput func() any
	Schema              *smithy.OperationSchema
}

func Operations(s *Service) (all []Operation) {
	for _, name := range slices.Sorted(maps.Keys(s.operations)) {
		o := s.operations[name]
		all = append(all, Operation{name, o.newInput, o.newOutput, o.schema})
	}
	return all
}

// EncodeXML is the answer of an operation of a query service.
func EncodeXML(s *Service, op string, out any) []byte {
	return (&exchange{service: s, op: op, id: "request"}).xmlAnswer(out)
}

// Refuse is the answer to a request whose handler returned err.
func Refuse(s *Service, err error) (status int, body []byte) {
	w := httptest.NewRecorder()
	x := &exchange{e: NewEndpoint(Config{}), w: w, r: httptest.NewRequest("POST", "/", nil), service: s, op: "Op", id: "request"}
	x.fail(err)
	return w.Code, w.Body.Bytes()
}

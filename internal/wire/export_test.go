package wire

import (
	"maps"
	"slices"

	smithy "github.com/aws/smithy-go"
)

// What the tests of package wire_test see of the codecs.
var (
	EncodeJSON         = encodeJSON
	DecodeQuery        = decodeQuery
	ParseAuthorization = parseAuthorization
)

// DecodeJSON decodes for a service that keeps unions.
func DecodeJSON(body []byte, s *smithy.Schema, into any) error {
	return decodeJSON(body, s, into, true)
}

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

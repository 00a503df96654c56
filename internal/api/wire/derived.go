package wire

import (
	"reflect"
	"sync"
	"time"

	smithy "github.com/aws/smithy-go"
)

// derived keeps the schemas that were made from Go types.
var derived = struct {
	sync.Mutex
	of map[reflect.Type]*smithy.Schema
}{of: map[reflect.Type]*smithy.Schema{}}

// derive makes the schema of one of the SDK's structs from its Go type, for awsJson services whose SDK module has none: members are named
// as the Go fields are, which holds where the model's names begin with capitals, and times are seconds.
func derive(t reflect.Type) *smithy.Schema {
	derived.Lock()
	defer derived.Unlock()
	return deriveLocked(t)
}

func deriveLocked(t reflect.Type) *smithy.Schema {
	if s, ok := derived.of[t]; ok {
		return s
	}
	id := smithy.ShapeID{Namespace: t.PkgPath(), Name: t.Name()}
	leaf := func(typ smithy.ShapeType) *smithy.Schema { return smithy.NewSchema(id, typ, 0) }
	var s *smithy.Schema
	switch {
	case t.Kind() == reflect.Pointer:
		return deriveLocked(t.Elem())
	case t == reflect.TypeFor[time.Time]():
		s = leaf(smithy.ShapeTypeTimestamp)
	case t.Kind() == reflect.Struct:
		s = leaf(smithy.ShapeTypeStructure)
		derived.of[t] = s // types may hold themselves
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !f.Anonymous && f.Name != "ResultMetadata" {
				s.AddMember(f.Name, deriveLocked(f.Type))
			}
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		s = leaf(smithy.ShapeTypeBlob)
	case t.Kind() == reflect.Slice:
		s = leaf(smithy.ShapeTypeList)
		s.AddMember("member", deriveLocked(t.Elem()))
	case t.Kind() == reflect.Map:
		s = leaf(smithy.ShapeTypeMap)
		s.AddMember("key", deriveLocked(t.Key()))
		s.AddMember("value", deriveLocked(t.Elem()))
	case t.Kind() == reflect.Bool:
		s = leaf(smithy.ShapeTypeBoolean)
	case t.Kind() == reflect.String:
		s = leaf(smithy.ShapeTypeString)
	case t.Kind() == reflect.Int32:
		s = leaf(smithy.ShapeTypeInteger)
	case t.Kind() == reflect.Int64:
		s = leaf(smithy.ShapeTypeLong)
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		s = leaf(smithy.ShapeTypeDouble)
	default: // a union or a document: named when somebody sends it
		s = leaf(smithy.ShapeTypeDocument)
	}
	derived.of[t] = s
	return s
}

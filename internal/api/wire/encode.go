package wire

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/document"
	"github.com/aws/smithy-go/traits"
)

// encodeJSON writes one of the SDK's structs as awsJson, walking the schema over it: members as they are modelled, timestamps as
// seconds with a fraction unless the model says otherwise. What is not set is left out, but numbers and booleans that are no
// pointers are always written, as AWS does (runningCount 0): the SDK's own Serialize leaves their zeros out, which is why it is
// not used here.
func encodeJSON(v any, s *smithy.Schema) []byte {
	if s == nil { // an operation without output
		return []byte("{}")
	}
	return appendJSON(nil, s, reflect.ValueOf(v))
}

// memberField is a member and the struct field that holds it.
type memberField struct {
	name   string
	schema *smithy.Schema
	index  []int
}

// plans caches the members of a struct in the order of their names.
var plans sync.Map // of planKey to []memberField

type planKey struct {
	t reflect.Type
	s *smithy.Schema
}

func planOf(t reflect.Type, s *smithy.Schema) []memberField {
	key := planKey{t, s}
	if p, ok := plans.Load(key); ok {
		return p.([]memberField)
	}
	var plan []memberField
	for name, m := range s.Members() {
		if f, ok := t.FieldByName(strings.ToUpper(name[:1]) + name[1:]); ok && f.IsExported() {
			plan = append(plan, memberField{name, m, f.Index})
		}
	}
	slices.SortFunc(plan, func(a, b memberField) int { return strings.Compare(a.name, b.name) })
	p, _ := plans.LoadOrStore(key, plan)
	return p.([]memberField)
}

// unset tells whether a member is left out.
func unset(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		return v.IsNil()
	case reflect.String: // an enum; plain strings are pointers
		return v.Len() == 0
	}
	return false
}

func appendJSON(b []byte, s *smithy.Schema, v reflect.Value) []byte {
	switch {
	case v.Kind() == reflect.Pointer:
		return appendJSON(b, s, v.Elem())
	case v.Type() == timeType:
		return appendTime(b, s, v.Interface().(time.Time))
	case v.Kind() == reflect.Struct:
		return appendMembers(b, v, planOf(v.Type(), s))
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		return appendText(b, base64.StdEncoding.EncodeToString(v.Bytes()))
	case v.Kind() == reflect.Slice:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, s.ListMember(), v.Index(i))
		}
		return append(b, ']')
	case v.Kind() == reflect.Map:
		return appendMap(b, s, v)
	case v.Kind() == reflect.Interface:
		return appendVariant(b, s, v.Elem())
	}
	return appendScalar(b, v)
}

// appendMembers writes an object of the members of plan that v has set.
func appendMembers(b []byte, v reflect.Value, plan []memberField) []byte {
	b = append(b, '{')
	first := true
	for _, m := range plan {
		f := v.FieldByIndex(m.index)
		if unset(f) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendText(b, m.name), ':')
		b = appendJSON(b, m.schema, f)
	}
	return append(b, '}')
}

func appendMap(b []byte, s *smithy.Schema, v reflect.Value) []byte {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, k.String()), ':')
		b = appendJSON(b, s.MapValue(), v.MapIndex(k))
	}
	return append(b, '}')
}

func appendScalar(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.String:
		return appendText(b, v.String())
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Float32, reflect.Float64:
		switch f := v.Float(); {
		case math.IsNaN(f):
			return append(b, `"NaN"`...)
		case math.IsInf(f, 1):
			return append(b, `"Infinity"`...)
		case math.IsInf(f, -1):
			return append(b, `"-Infinity"`...)
		default:
			return strconv.AppendFloat(b, f, 'f', -1, v.Type().Bits())
		}
	}
	return append(b, "null"...)
}

// appendVariant writes what an interface of the SDK holds: a union, whose variants are the types <Union>Member<Name> with one
// field, or a document. A variant that the model does not know is null.
func appendVariant(b []byte, s *smithy.Schema, v reflect.Value) []byte {
	if !v.IsValid() {
		return append(b, "null"...)
	}
	if m, ok := v.Interface().(document.Marshaler); ok {
		if text, err := m.MarshalSmithyDocument(); err == nil && json.Valid(text) {
			return append(b, text...)
		}
		return append(b, "null"...)
	}
	if name, m, value, ok := variant(s, v); ok {
		b = append(appendText(append(b, '{'), name), ':')
		return append(appendJSON(b, m, value), '}')
	}
	return append(b, "null"...)
}

// variant returns the member that a union's variant is, and its value.
func variant(s *smithy.Schema, v reflect.Value) (name string, m *smithy.Schema, value reflect.Value, ok bool) {
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return "", nil, reflect.Value{}, false
	}
	for name, m := range s.Members() {
		if value := v.Elem().FieldByName("Value"); value.IsValid() &&
			strings.HasSuffix(v.Elem().Type().Name(), "Member"+strings.ToUpper(name[:1])+name[1:]) {
			return name, m, value, true
		}
	}
	return "", nil, reflect.Value{}, false
}

func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			text, _ := json.Marshal(s) // a string always marshals
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendTime(b []byte, s *smithy.Schema, t time.Time) []byte {
	if f, ok := smithy.SchemaTrait[*traits.TimestampFormat](s); ok && f.Format != "epoch-seconds" {
		return appendText(b, formatTime(f.Format, t))
	}
	return strconv.AppendFloat(b, epochSeconds(t), 'f', -1, 64)
}

// formatTime writes a time in one of the formats of the timestampFormat trait.
func formatTime(format string, t time.Time) string {
	switch format {
	case "date-time":
		return t.UTC().Format("2006-01-02T15:04:05.999Z")
	case "http-date":
		return t.UTC().Format(http.TimeFormat)
	}
	return strconv.FormatFloat(epochSeconds(t), 'f', -1, 64)
}

func epochSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

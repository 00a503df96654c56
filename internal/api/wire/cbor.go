package wire

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	smithy "github.com/aws/smithy-go"
	"github.com/fxamacker/cbor/v2"
)

// cborReader reads what strangers send: bounded in depth and in what its lengths claim, and without two values of one key.
var cborReader = must(cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any](), DupMapKey: cbor.DupMapKeyEnforcedAPF,
	MaxNestedLevels: 64, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 20}.DecMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options of our own
	}
	return v
}

// decodeCBOR fills the SDK's input struct from a body of smithy-rpc-v2-cbor, by the same walk as decodeJSON. Errors: *model.Error
// SerializationException.
func decodeCBOR(body []byte, s *smithy.Schema, into any) error {
	if len(body) == 0 || s == nil { // an operation without input
		return nil
	}
	var doc any
	if err := cborReader.Unmarshal(body, &doc); err != nil {
		return malformed("the body is not CBOR: " + err.Error())
	}
	plain, err := plainCBOR(doc)
	if err != nil {
		return err
	}
	if plain == nil {
		return malformed("the body is null, want an object")
	}
	return assign(reflect.ValueOf(into).Elem(), s, plain, "")
}

// plainCBOR makes of CBOR's values those that assign takes.
func plainCBOR(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			plain, err := plainCBOR(e)
			if err != nil {
				return nil, err
			}
			v[k] = plain
		}
		return v, nil
	case []any:
		for i, e := range v {
			plain, err := plainCBOR(e)
			if err != nil {
				return nil, err
			}
			v[i] = plain
		}
		return v, nil
	case uint64:
		return json.Number(strconv.FormatUint(v, 10)), nil
	case int64:
		return json.Number(strconv.FormatInt(v, 10)), nil
	case float64:
		return json.Number(strconv.FormatFloat(v, 'g', -1, 64)), nil
	case time.Time:
		return json.Number(strconv.FormatFloat(epochSeconds(v), 'f', -1, 64)), nil
	case nil, string, bool, []byte:
		return v, nil
	case big.Int, cbor.Tag, cbor.SimpleValue:
		return nil, malformed("the body holds a value that no member has")
	}
	return nil, malformed("the body holds a value that no member has")
}

// encodeCBOR writes one of the SDK's structs, by the same walk as encodeJSON. An operation without output has no body.
func encodeCBOR(v any, s *smithy.Schema) []byte {
	if s == nil {
		return nil
	}
	return appendCBOR(nil, s, reflect.ValueOf(v))
}

// The major types of CBOR (RFC 8949, 3.1).
const (
	cborUint   = 0 << 5
	cborNegint = 1 << 5
	cborBytes  = 2 << 5
	cborText   = 3 << 5
	cborList   = 4 << 5
	cborMap    = 5 << 5
	cborTag    = 6 << 5
	cborFalse  = 7<<5 | 20
	cborNull   = 7<<5 | 22
	cborFloat4 = 7<<5 | 26
	cborFloat8 = 7<<5 | 27
)

// appendHead writes a major type and its argument.
func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendCBORText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

func appendCBORInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, cborNegint, uint64(-1-n))
	}
	return appendHead(b, cborUint, uint64(n))
}

func appendCBORFloat(b []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, cborFloat8), math.Float64bits(f))
}

func appendCBOR(b []byte, s *smithy.Schema, v reflect.Value) []byte {
	switch {
	case v.Kind() == reflect.Pointer:
		return appendCBOR(b, s, v.Elem())
	case v.Type() == timeType:
		return appendCBORFloat(appendHead(b, cborTag, 1), epochSeconds(v.Interface().(time.Time)))
	case v.Kind() == reflect.Struct:
		return appendCBORMembers(b, v, planOf(v.Type(), s))
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		return append(appendHead(b, cborBytes, uint64(v.Len())), v.Bytes()...)
	case v.Kind() == reflect.Slice:
		b = appendHead(b, cborList, uint64(v.Len()))
		for i := range v.Len() {
			b = appendCBOR(b, s.ListMember(), v.Index(i))
		}
		return b
	case v.Kind() == reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
		b = appendHead(b, cborMap, uint64(len(keys)))
		for _, k := range keys {
			b = appendCBOR(appendCBORText(b, k.String()), s.MapValue(), v.MapIndex(k))
		}
		return b
	case v.Kind() == reflect.Interface:
		name, m, value, ok := variant(s, v.Elem())
		if !ok {
			return append(b, cborNull)
		}
		return appendCBOR(appendCBORText(appendHead(b, cborMap, 1), name), m, value)
	}
	return appendCBORScalar(b, v)
}

// appendCBORMembers writes a map of the members of plan that v has set.
func appendCBORMembers(b []byte, v reflect.Value, plan []memberField) []byte {
	n := 0
	for _, m := range plan {
		if !unset(v.FieldByIndex(m.index)) {
			n++
		}
	}
	b = appendHead(b, cborMap, uint64(n))
	for _, m := range plan {
		if f := v.FieldByIndex(m.index); !unset(f) {
			b = appendCBOR(appendCBORText(b, m.name), m.schema, f)
		}
	}
	return b
}

func appendCBORScalar(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.String:
		return appendCBORText(b, v.String())
	case reflect.Bool:
		if v.Bool() {
			return append(b, cborFalse+1)
		}
		return append(b, cborFalse)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		return appendCBORInt(b, v.Int())
	case reflect.Float32:
		return binary.BigEndian.AppendUint32(append(b, cborFloat4), math.Float32bits(float32(v.Float())))
	case reflect.Float64:
		return appendCBORFloat(b, v.Float())
	}
	return append(b, cborNull)
}

// appendCBORValue writes a value such as encoding/json reads them.
func appendCBORValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendCBORText(b, v)
	case bool:
		return appendCBORScalar(b, reflect.ValueOf(v))
	case float64:
		if whole := int64(v); float64(whole) == v {
			return appendCBORInt(b, whole)
		}
		return appendCBORFloat(b, v)
	case []any:
		b = appendHead(b, cborList, uint64(len(v)))
		for _, e := range v {
			b = appendCBORValue(b, e)
		}
		return b
	case map[string]any:
		b = appendHead(b, cborMap, uint64(len(v)))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			b = appendCBORValue(appendCBORText(b, k), v[k])
		}
		return b
	}
	return append(b, cborNull)
}

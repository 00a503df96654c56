package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/model"
)

// decodeJSON fills the SDK's input struct from a request body: its members by reflection over the schema, the types within by
// their own Deserialize. Numbers and booleans may come as strings; null is absent; members that the model does not know are
// ignored. Errors: *model.Error SerializationException.
func decodeJSON(body []byte, s *smithy.Schema, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	doc, err := parseJSON(body)
	if err != nil {
		return err
	}
	if s == nil { // an operation without input
		return nil
	}
	return assign(reflect.ValueOf(into).Elem(), s, doc, "")
}

// parseJSON reads a body of exactly one JSON value that is not null; numbers are json.Number.
func parseJSON(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return nil, malformed("the body is not JSON: " + err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("the body goes on after its JSON value")
	}
	if doc == nil {
		return nil, malformed("the body is null, want an object")
	}
	return doc, nil
}

func malformed(text string) *model.Error { return model.Errorf("SerializationException", "%s", text) }

func wrong(path string, in any, want string) *model.Error {
	kind := fmt.Sprintf("%T", in)
	switch in.(type) {
	case map[string]any:
		kind = "an object"
	case []any:
		kind = "a list"
	case string:
		kind = "a string"
	case json.Number:
		kind = "a number"
	case bool:
		kind = "a boolean"
	}
	if path == "" {
		path = "the body"
	}
	return malformed(strings.TrimPrefix(path, ".") + ": got " + kind + ", want " + want)
}

var (
	timeType = reflect.TypeFor[time.Time]()
	byteType = reflect.TypeFor[byte]()
)

// assign sets v, the Go value of schema s, to what in holds. path names it in errors.
func assign(v reflect.Value, s *smithy.Schema, in any, path string) error {
	if in == nil {
		return nil
	}
	switch {
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := assign(p.Elem(), s, in, path); err != nil {
			return err
		}
		v.Set(p)
		return nil
	case v.Type() == timeType:
		return assignTime(v, in, path)
	case v.Kind() == reflect.Struct:
		if d, ok := v.Addr().Interface().(smithy.Deserializable); ok {
			return d.Deserialize(&reader{base: path, current: in, fresh: true})
		}
		return assignStruct(v, s, in, path)
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		return assignBlob(v, in, path)
	case v.Kind() == reflect.Slice:
		return assignList(v, s, in, path)
	case v.Kind() == reflect.Map:
		return assignMap(v, s, in, path)
	case v.Kind() == reflect.Interface: // a union or a document right in an input: reflection does not know its variants
		return unsupported(path)
	}
	return assignScalar(v, in, path)
}

func unsupported(path string) error {
	return model.Errorf("InvalidParameterException", "Berth does not support %s yet", strings.TrimPrefix(path, "."))
}

// fields caches the settable fields of structs by name.
var fields sync.Map // of reflect.Type to map[string]int

// field returns the field of v that holds a member: the member's name with a large first letter.
func field(v reflect.Value, member string) (reflect.Value, bool) {
	index, ok := fields.Load(v.Type())
	if !ok {
		all := map[string]int{}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !f.Anonymous && f.Name != "ResultMetadata" {
				all[f.Name] = i
			}
		}
		index, _ = fields.LoadOrStore(v.Type(), all)
	}
	if member == "" {
		return reflect.Value{}, false
	}
	i, ok := index.(map[string]int)[strings.ToUpper(member[:1])+member[1:]]
	if !ok {
		return reflect.Value{}, false
	}
	return v.Field(i), true
}

func assignStruct(v reflect.Value, s *smithy.Schema, in any, path string) error {
	object, ok := in.(map[string]any)
	if !ok {
		return wrong(path, in, "an object")
	}
	return assignMembers(v, planOf(v.Type(), s), object, path)
}

// assignMembers sets the members of plan to what object has for them.
func assignMembers(v reflect.Value, plan []memberField, object map[string]any, path string) error {
	for _, m := range plan {
		if err := assign(v.FieldByIndex(m.index), m.schema, object[m.name], path+"."+m.name); err != nil {
			return err
		}
	}
	return nil
}

func assignList(v reflect.Value, s *smithy.Schema, in any, path string) error {
	list, ok := in.([]any)
	if !ok {
		return wrong(path, in, "a list")
	}
	out := reflect.MakeSlice(v.Type(), 0, len(list))
	for i, item := range list {
		if item == nil {
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := assign(e, s.ListMember(), item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
		out = reflect.Append(out, e)
	}
	v.Set(out)
	return nil
}

func assignMap(v reflect.Value, s *smithy.Schema, in any, path string) error {
	object, ok := in.(map[string]any)
	if !ok {
		return wrong(path, in, "an object")
	}
	out := reflect.MakeMapWithSize(v.Type(), len(object))
	for k, item := range object {
		if item == nil {
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := assign(e, s.MapValue(), item, path+"."+k); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), e)
	}
	v.Set(out)
	return nil
}

func assignBlob(v reflect.Value, in any, path string) error {
	if data, ok := in.([]byte); ok { // of CBOR
		v.SetBytes(data)
		return nil
	}
	text, ok := in.(string)
	if !ok {
		return wrong(path, in, "a base64 string")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return wrong(path, in, "base64")
	}
	v.SetBytes(data)
	return nil
}

func assignTime(v reflect.Value, in any, path string) error {
	text, isText := in.(string)
	if n, ok := in.(json.Number); ok {
		text = n.String()
	} else if !isText {
		return wrong(path, in, "a timestamp")
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(seconds) < 1e11 {
		whole, part := math.Modf(seconds)
		v.Set(reflect.ValueOf(time.Unix(int64(whole), int64(math.Round(part*1e6))*1e3).UTC()))
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t, err = http.ParseTime(text)
	}
	if err != nil {
		return wrong(path, in, "a timestamp")
	}
	v.Set(reflect.ValueOf(t.UTC()))
	return nil
}

// assignScalar sets strings, enums, numbers and booleans. Of other types than the model's it takes strings for numbers and
// booleans.
func assignScalar(v reflect.Value, in any, path string) error {
	var text string
	switch in := in.(type) {
	case string:
		text = in
	case json.Number:
		if v.Kind() == reflect.String || v.Kind() == reflect.Bool {
			return wrong(path, in, "a "+kindName(v.Kind()))
		}
		text = in.String()
	case bool:
		if v.Kind() != reflect.Bool {
			return wrong(path, in, "a "+kindName(v.Kind()))
		}
		v.SetBool(in)
		return nil
	default:
		return wrong(path, in, "a "+kindName(v.Kind()))
	}
	if err := setScalar(v, text); err != nil {
		return wrong(path, in, err.Error())
	}
	return nil
}

func kindName(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	}
	return "number"
}

// setScalar parses text into v; the error says what was wanted.
func setScalar(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch strings.ToLower(text) {
		case "true":
			v.SetBool(true)
		case "false":
			v.SetBool(false)
		default:
			return errors.New("a boolean")
		}
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			f, ferr := strconv.ParseFloat(text, 64) // 1e3, 512.0
			if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 || v.OverflowInt(int64(f)) {
				return fmt.Errorf("an integer of %d bits", v.Type().Bits())
			}
			n = int64(f)
		}
		v.SetInt(n)
	case reflect.Float32, reflect.Float64: // what is not finite could not be stored as JSON
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return errors.New("a number")
		}
		v.SetFloat(f)
	default:
		return fmt.Errorf("a %s", v.Kind())
	}
	return nil
}

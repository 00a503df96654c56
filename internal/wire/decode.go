package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/model"
)

// decodeJSON fills the SDK's input struct from a request body, walking the schema over the struct. Numbers and booleans may come as
// strings; null is absent; members that the model does not know are ignored. Errors: *model.Error SerializationException.
func decodeJSON(body []byte, s *smithy.Schema, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return malformed("the body is not JSON: " + err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return malformed("the body goes on after its JSON value")
	}
	return assign(reflect.ValueOf(into).Elem(), s, doc, "")
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
		return assignStruct(v, s, in, path)
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		return assignBlob(v, in, path)
	case v.Kind() == reflect.Slice:
		return assignList(v, s, in, path)
	case v.Kind() == reflect.Map:
		return assignMap(v, s, in, path)
	case v.Kind() == reflect.Interface: // a union or a document: neither can be stored yet
		return model.Errorf("InvalidParameterException", "Berth does not support %s yet", strings.TrimPrefix(path, "."))
	}
	return assignScalar(v, in, path)
}

// fields caches which field of a struct a member is.
var fields sync.Map // of fieldKey to []int (nil: none)

type fieldKey struct {
	t      reflect.Type
	member string
}

func field(v reflect.Value, member string) (reflect.Value, bool) {
	key := fieldKey{v.Type(), member}
	index, ok := fields.Load(key)
	if !ok {
		var found []int
		if f, has := v.Type().FieldByName(strings.ToUpper(member[:1]) + member[1:]); has && f.IsExported() {
			found = f.Index
		}
		index, _ = fields.LoadOrStore(key, found)
	}
	if index.([]int) == nil {
		return reflect.Value{}, false
	}
	return v.FieldByIndex(index.([]int)), true
}

func assignStruct(v reflect.Value, s *smithy.Schema, in any, path string) error {
	object, ok := in.(map[string]any)
	if !ok {
		return wrong(path, in, "an object")
	}
	for name, value := range object {
		m := s.Member(name)
		if m == nil {
			continue
		}
		f, ok := field(v, name)
		if !ok {
			continue
		}
		if err := assign(f, m, value, path+"."+name); err != nil {
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
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(seconds) < 1e14 {
		whole, part := math.Modf(seconds)
		v.Set(reflect.ValueOf(time.Unix(int64(whole), int64(math.Round(part*1e9))).UTC()))
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return wrong(path, in, "a timestamp")
	}
	v.Set(reflect.ValueOf(t.UTC()))
	return nil
}

// assignScalar sets strings, enums, numbers and booleans. text is the scalar as written.
func assignScalar(v reflect.Value, in any, path string) error {
	var text string
	switch in := in.(type) {
	case string:
		text = in
	case json.Number:
		text = in.String()
	case bool:
		text = strconv.FormatBool(in)
	default:
		return wrong(path, in, "a value of type "+v.Kind().String())
	}
	if v.Kind() == reflect.String {
		if _, ok := in.(bool); ok {
			return wrong(path, in, "a string")
		}
	}
	if err := setScalar(v, text); err != nil {
		return wrong(path, in, err.Error())
	}
	return nil
}

// setScalar parses text into v; the error says what was wanted.
func setScalar(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("a boolean")
		}
		v.SetBool(b)
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
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return errors.New("a number")
		}
		v.SetFloat(f)
	default:
		return fmt.Errorf("a %s", v.Kind())
	}
	return nil
}

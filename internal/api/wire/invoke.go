package wire

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime/debug"
	"time"

	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/wire/models"
	"github.com/berthdev/berth/internal/model"
)

// Invoke runs an operation in this process, as a request that caller signed would be: it is decoded, allowed and handled by the same
// code. Input and output are JSON for every service: as in awsJson where the SDK has schemas, and else with the names of the API's
// members, which the Go fields have too, and RFC 3339 timestamps. caller.Region says which region's service it is; "" is the home
// region. Every error is a *model.Error: a refusal, or the name of a fault that the log tells.
func (e *Endpoint) Invoke(ctx context.Context, caller Caller, service, op string, in []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		err = e.refusal(service, op, err)
	}()
	s := e.service(service)
	if s == nil {
		return nil, model.Errorf("UnsupportedOperationException", "Berth does not serve %.60q yet", service)
	}
	if int64(len(in)) > e.MaxBody {
		return nil, model.Errorf("RequestEntityTooLargeException", "The request is larger than %d bytes", e.MaxBody)
	}
	if e.Regional != nil && caller.Region != "" {
		if s, err = e.Regional(caller.Region, s); err != nil {
			return nil, err
		}
	}
	x := &exchange{e: e, service: s, op: op, proto: s.Protocol}
	ctx = WithCaller(ctx, caller)
	if e.Context != nil {
		ctx = e.Context(ctx, op)
	}
	known, ok := s.operations[op]
	if !ok || known.call == nil { // streams go over the wire only
		if models.Has(s.Name, op) || ok {
			return nil, model.Errorf("UnsupportedOperationException", "Berth does not support %s:%s here yet", s.Name, op)
		}
		return nil, model.Errorf("UnknownOperationException", "%s has no operation %.100q", s.Name, op)
	}
	return x.invoke(ctx, known, in)
}

func (x *exchange) invoke(ctx context.Context, op operation, body []byte) ([]byte, error) {
	in := op.newInput()
	if err := decodeAny(body, op.schema.Input, in); err != nil {
		return nil, err
	}
	if err := x.allow(ctx, in); err != nil {
		return nil, err
	}
	out, err := op.call(ctx, in)
	if err != nil {
		return nil, err
	}
	if reflect.ValueOf(out).IsNil() {
		out = op.newOutput()
	}
	if op.schema.Output != nil {
		return encodeJSON(out, op.schema.Output), nil
	}
	return json.Marshal(plain(reflect.ValueOf(out)))
}

// service is the service of that name in a signature's scope.
func (e *Endpoint) service(name string) *Service {
	for _, s := range e.Services {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// refusal is an error as clients may see it.
func (e *Endpoint) refusal(service, op string, err error) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*model.Error](err); ok {
		return known
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return model.Errorf(api.ErrorCode(), "%s", api.ErrorMessage())
	}
	if errors.Is(err, context.Canceled) {
		return model.Errorf("ServiceUnavailable", "The request was given up: its client went away or Berth is stopping")
	}
	if e.Unavailable != nil && e.Unavailable(err) {
		return model.Errorf("ServiceUnavailable", "Berth cannot serve this now, and whether it happened may be unknown; try again: %s", err)
	}
	e.Log.Error("request failed", "service", service, "operation", op, "error", err)
	return model.Errorf("InternalFailure", "Something went wrong inside Berth; its log says what")
}

// decodeAny fills the SDK's input struct from JSON, by its schema or, where the SDK has none, by its fields.
func decodeAny(body []byte, s *smithy.Schema, into any) error {
	if s != nil {
		return decodeJSON(body, s, into)
	}
	if len(body) == 0 {
		return nil
	}
	doc, err := parseJSON(body)
	if err != nil {
		return err
	}
	return assignPlain(reflect.ValueOf(into).Elem(), doc, "")
}

// assignPlain sets v to what in holds, by the names of Go fields.
func assignPlain(v reflect.Value, in any, path string) error {
	if in == nil {
		return nil
	}
	switch {
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := assignPlain(p.Elem(), in, path); err != nil {
			return err
		}
		v.Set(p)
		return nil
	case v.Type() == timeType:
		return assignTime(v, in, path)
	case v.Kind() == reflect.Struct:
		object, ok := in.(map[string]any)
		if !ok {
			return wrong(path, in, "an object")
		}
		for name, item := range object {
			if f, ok := field(v, name); ok && f.CanSet() {
				if err := assignPlain(f, item, path+"."+name); err != nil {
					return err
				}
			}
		}
		return nil
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		return assignBlob(v, in, path)
	case v.Kind() == reflect.Slice:
		list, ok := in.([]any)
		if !ok {
			return wrong(path, in, "a list")
		}
		out := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i, item := range list {
			if err := assignPlain(out.Index(i), item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		v.Set(out)
		return nil
	case v.Kind() == reflect.Map:
		object, ok := in.(map[string]any)
		if !ok {
			return wrong(path, in, "an object")
		}
		out := reflect.MakeMapWithSize(v.Type(), len(object))
		for k, item := range object {
			e := reflect.New(v.Type().Elem()).Elem()
			if err := assignPlain(e, item, path+"."+k); err != nil {
				return err
			}
			out.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), e)
		}
		v.Set(out)
		return nil
	case v.Kind() == reflect.Interface:
		return unsupported(path)
	}
	return assignScalar(v, in, path)
}

// plain is one of the SDK's structs as encoding/json writes it well: what is not set is left out.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		if v.Type() == timeType {
			return v.Interface().(time.Time).UTC().Format(time.RFC3339Nano)
		}
		out := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Anonymous || f.Name == "ResultMetadata" || unset(v.Field(i)) {
				continue
			}
			out[f.Name] = plain(v.Field(i))
		}
		return out
	case reflect.Slice:
		if v.Type().Elem() == byteType {
			return base64.StdEncoding.EncodeToString(v.Bytes())
		}
		out := make([]any, v.Len())
		for i := range out {
			out[i] = plain(v.Index(i))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for key, item := range v.Seq2() {
			out[key.String()] = plain(item)
		}
		return out
	}
	return v.Interface()
}

// Identify returns who signed a request without a body that is for no AWS service, such as the console's.
func (e *Endpoint) Identify(r *http.Request) (Caller, error) {
	a, refused := readAuthorization(r)
	if refused != nil {
		return Caller{}, refused
	}
	s, err := e.identify(r, a)
	if err != nil {
		return Caller{}, err
	}
	if a.presigned {
		return Caller{}, mismatch() // whoever reads a log could repeat it
	}
	return s.caller, s.check(r, hashOf(nil), 0)
}

package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/eventstream"
	"github.com/aws/smithy-go/traits"

	"github.com/berthdev/berth/internal/model"
)

// typeEvents is the content type of an answer that is an event stream.
const typeEvents = "application/vnd.amazon.eventstream"

// events is an answer that is sent in messages (application/vnd.amazon.eventstream).
type events struct {
	x     *exchange
	op    operation
	union *smithy.Schema // of the events
	w     io.Writer
	begun bool
}

// stream runs a handler that answers with events.
func (x *exchange) stream(ctx context.Context, op operation, in any) (answer, error) {
	w, done := x.e.Pace.Writer(x.w)
	defer done()
	e := &events{x: x, op: op, w: w}
	for _, m := range op.schema.Output.Members() {
		if m.Type() == smithy.ShapeTypeUnion {
			e.union = m // an output has one stream, and no other union beside it
		}
	}
	if e.union == nil {
		return answer{}, fmt.Errorf("%s has no stream in its output", op.name)
	}
	err := op.stream(ctx, in, e.send)
	switch {
	case err != nil && !e.begun:
		return answer{}, err
	case err != nil && ctx.Err() == nil:
		err = e.fail(err)
	case err == nil && !e.begun:
		err = e.begin()
	}
	if err != nil && ctx.Err() == nil {
		x.e.Log.Debug("an event stream broke off", "request", x.id, "operation", x.op, "error", err)
	}
	return answer{sent: true}, nil
}

// begin sends the head of the answer and, where the protocol is one of calls, the output's other members as the first message.
func (e *events) begin() error {
	e.begun = true
	e.x.w.Header().Set("Content-Type", typeEvents)
	if e.x.proto == CBOR {
		e.x.w.Header().Set("Smithy-Protocol", protocolCBOR)
	}
	e.x.w.WriteHeader(http.StatusOK)
	if e.x.proto != JSON11 && e.x.proto != JSON10 && e.x.proto != CBOR {
		return nil
	}
	empty := []byte("{}")
	if e.x.proto == CBOR {
		empty = appendHead(nil, cborMap, 0)
	}
	return e.message(eventstream.EventMessageType, eventstream.EventTypeHeader, "initial-response", nil, e.kind(), empty)
}

// kind is the content type of messages.
func (e *events) kind() string {
	if e.x.proto == CBOR {
		return "application/cbor"
	}
	return "application/json"
}

// send sends one event.
func (e *events) send(event any) error {
	name, s, value, ok := variant(e.union, reflect.ValueOf(event))
	if !ok {
		return fmt.Errorf("%T is no event of %s", event, e.op.name)
	}
	if !e.begun {
		if err := e.begin(); err != nil {
			return err
		}
	}
	headers, kind, payload := e.encode(s, value)
	return e.message(eventstream.EventMessageType, eventstream.EventTypeHeader, name, headers, kind, payload)
}

// encode writes an event's members: those with the trait eventHeader as headers, one with eventPayload as the payload, the others in
// the payload's object.
func (e *events) encode(s *smithy.Schema, v reflect.Value) (headers eventstream.Headers, kind string, payload []byte) {
	var rest []memberField
	for _, m := range planOf(v.Type(), s) {
		f := v.FieldByIndex(m.index)
		for f.Kind() == reflect.Pointer && !f.IsNil() {
			f = f.Elem()
		}
		if _, ok := smithy.SchemaTrait[*traits.EventHeader](m.schema); ok {
			if !unset(f) {
				headers.Set(m.name, headerValue(f))
			}
			continue
		}
		if _, ok := smithy.SchemaTrait[*traits.EventPayload](m.schema); ok {
			switch {
			case f.Kind() == reflect.Slice && f.Type().Elem() == byteType:
				return headers, "application/octet-stream", f.Bytes()
			case f.Kind() == reflect.String:
				return headers, "text/plain", []byte(f.String())
			}
			return headers, e.kind(), e.object(m.schema, f)
		}
		rest = append(rest, m)
	}
	if e.x.proto == CBOR {
		return headers, e.kind(), appendCBORMembers(nil, v, rest)
	}
	return headers, e.kind(), appendMembers(nil, v, rest)
}

func (e *events) object(s *smithy.Schema, v reflect.Value) []byte {
	if e.x.proto == CBOR {
		return appendCBOR(nil, s, v)
	}
	return appendJSON(nil, s, v)
}

func headerValue(v reflect.Value) eventstream.Value {
	switch v.Kind() {
	case reflect.Bool:
		return eventstream.BoolValue(v.Bool())
	case reflect.Int8:
		return eventstream.Int8Value(int8(v.Int()))
	case reflect.Int16:
		return eventstream.Int16Value(int16(v.Int()))
	case reflect.Int32:
		return eventstream.Int32Value(int32(v.Int()))
	case reflect.Int64, reflect.Int:
		return eventstream.Int64Value(v.Int())
	case reflect.Slice:
		return eventstream.BytesValue(v.Bytes())
	}
	return eventstream.StringValue(v.String())
}

// fail ends the stream with an exception.
func (e *events) fail(err error) error {
	code, message := "", ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code, message = api.ErrorCode(), api.ErrorMessage()
	} else if own, ok := errors.AsType[*model.Error](err); ok {
		code, message = own.Code, own.Message
	} else {
		hidden := e.x.hide(err)
		code, message = hidden.Code, hidden.Message
	}
	members := map[string]any{"message": message}
	payload, _ := json.Marshal(members) // a string always marshals
	if e.x.proto == CBOR {
		payload = appendCBORValue(nil, members)
	}
	name := code
	for member, m := range e.union.Members() { // an exception of the stream goes by its member's name
		if m.TargetID().Name == code {
			name = member
		}
	}
	return e.message(eventstream.ExceptionMessageType, eventstream.ExceptionTypeHeader, name, nil, e.kind(), payload)
}

func (e *events) message(kind, nameHeader, name string, headers eventstream.Headers, contentType string, payload []byte) error {
	m := eventstream.Message{Payload: payload}
	m.Headers.Set(eventstream.MessageTypeHeader, eventstream.StringValue(kind))
	m.Headers.Set(nameHeader, eventstream.StringValue(name))
	m.Headers.Set(eventstream.ContentTypeHeader, eventstream.StringValue(contentType))
	m.Headers = append(m.Headers, headers...)
	var b bytes.Buffer
	if err := eventstream.NewEncoder().Encode(&b, m); err != nil {
		return err
	}
	if _, err := e.w.Write(b.Bytes()); err != nil {
		return err
	}
	return http.NewResponseController(e.x.w).Flush()
}

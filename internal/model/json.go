package model

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/service/ecs/document"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	smithydocument "github.com/aws/smithy-go/document"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/go-json-experiment/json/v1"
)

// EncodeJSON writes v as encoding/json does, and also what of AWS's structures that package cannot read back: unions, as an object
// of the variant's name and its value, and documents.
func EncodeJSON(v any) ([]byte, error) { return json.Marshal(v, stored) }

// EncodeRow writes v as EncodeJSON does, without the members that have their zero values: most of a row's are.
func EncodeRow(v any) ([]byte, error) {
	return json.Marshal(v, stored, json.OmitZeroStructFields(true))
}

// DecodeJSON reads what EncodeJSON or EncodeRow wrote into the value that v points to.
func DecodeJSON(data []byte, v any) error { return json.Unmarshal(data, v, stored) }

// stored are the options of both.
var stored = json.JoinOptions(v1.DefaultOptionsV1(),
	json.WithMarshalers(json.JoinMarshalers(
		json.MarshalToFunc(encodeUnion[types.SharingStrategy]),
		json.MarshalToFunc(encodeUnion[types.ServiceConnectContainerConfiguration]),
		json.MarshalFunc(func(d document.Interface) ([]byte, error) { return d.MarshalSmithyDocument() }),
	)),
	json.WithUnmarshalers(json.JoinUnmarshalers(
		decodeUnion[types.SharingStrategy](&types.SharingStrategyMemberNvidiaMps{}),
		decodeUnion[types.ServiceConnectContainerConfiguration](&types.ServiceConnectContainerConfigurationMemberLogLevel{}),
		json.UnmarshalFromFunc(decodeDocument),
	)))

func decodeDocument(d *jsontext.Decoder, to *document.Interface) error {
	data, err := d.ReadValue()
	if err != nil {
		return err
	}
	numbers := stdjson.NewDecoder(bytes.NewReader(data))
	numbers.UseNumber()
	var v any
	if err := numbers.Decode(&v); err != nil || v == nil {
		return err
	}
	*to = document.NewLazyDocument(DocumentValue(v))
	return nil
}

// DocumentValue is a JSON value, its numbers read as json.Number, as the SDK's documents hold it.
func DocumentValue(in any) any {
	switch in := in.(type) {
	case stdjson.Number:
		return smithydocument.Number(in)
	case []any:
		out := make([]any, len(in))
		for i, v := range in {
			out[i] = DocumentValue(v)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(in))
		for k, v := range in {
			out[k] = DocumentValue(v)
		}
		return out
	}
	return in
}

// variantName is the name of a variant's Go type, such as SharingStrategyMemberNvidiaMps.
func variantName(v any) string { return reflect.TypeOf(v).Elem().Name() }

func encodeUnion[U any](e *jsontext.Encoder, u U) error {
	value := reflect.ValueOf(u).Elem().FieldByName("Value")
	return json.MarshalEncode(e, map[string]any{variantName(u): value.Interface()})
}

// decodeUnion reads the union U, whose variants are these.
func decodeUnion[U any](variants ...U) *json.Unmarshalers {
	return json.UnmarshalFromFunc(func(d *jsontext.Decoder, to *U) error {
		var in map[string]jsontext.Value
		if err := json.UnmarshalDecode(d, &in); err != nil || in == nil {
			return err
		}
		for _, v := range variants {
			if data, ok := in[variantName(v)]; ok && len(in) == 1 {
				made := reflect.New(reflect.TypeOf(v).Elem())
				*to = made.Interface().(U)
				return json.Unmarshal(data, made.Elem().FieldByName("Value").Addr().Interface(), d.Options())
			}
		}
		return fmt.Errorf("no variant of %T is known by the name of %v", *new(U), in)
	})
}

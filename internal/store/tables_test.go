package store

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/document"
	"github.com/aws/aws-sdk-go-v2/service/ecs/schemas"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	smithydocument "github.com/aws/smithy-go/document"

	"github.com/berthdev/berth/internal/model"
)

// variants are the values of every interface that rows may hold, unions and documents.
var variants = map[reflect.Type][]any{
	reflect.TypeFor[types.SharingStrategy](): {&types.SharingStrategyMemberNvidiaMps{
		Value: types.NvidiaMpsAllocation{Memory: new(int32(5))}}},
	reflect.TypeFor[types.ServiceConnectContainerConfiguration](): {
		&types.ServiceConnectContainerConfigurationMemberLogLevel{Value: types.ServiceConnectContainerLogLevelDebug}},
	reflect.TypeFor[document.Interface](): {
		document.NewLazyDocument(map[string]any{"a": []any{"b", smithydocument.Number("9007199254740993"), true, nil}})},
}

// TestRowsAreReadBackAsTheyWereWritten fills every member of every row, whatever it is.
func TestRowsAreReadBackAsTheyWereWritten(t *testing.T) {
	met := map[reflect.Type]bool{}
	for _, kind := range Schema() {
		row, err := kind.Decode([]byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		fill(t, reflect.ValueOf(row).Elem(), kind.Name, met)
		data, err := model.EncodeRow(row)
		if err != nil {
			t.Errorf("%s: %v", kind.Name, err)
			continue
		}
		got, err := kind.Decode(data)
		if err != nil {
			t.Errorf("%s: %v", kind.Name, err)
			continue
		}
		again, err := model.EncodeRow(got)
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("%s: %v\nread  %s\nafter %s", kind.Name, err, again, data)
		}
		if !reflect.DeepEqual(got, row) {
			t.Errorf("%s:\nread %+v\nof   %+v", kind.Name, got, row)
		}
		if kind.Part != nil {
			joined, err := apart(kind, row)
			if err != nil || !reflect.DeepEqual(joined, row) {
				t.Errorf("%s in parts: %v\nread %+v\nof   %+v", kind.Name, err, joined, row)
			}
		}
	}
	for i := range variants {
		if !met[i] {
			t.Errorf("no row holds a %s any more", i)
		}
	}
}

// apart splits a row, writes and reads its pieces and joins them.
func apart(kind Kind, row any) (any, error) {
	rest, part := kind.Part.Split(row)
	a, errA := model.EncodeRow(rest)
	b, errB := model.EncodeRow(part)
	got, errC := kind.Decode(a)
	own, errD := kind.Part.Decode(b)
	err := errors.Join(errA, errB, errC, errD)
	if err == nil {
		kind.Part.Join(got, own)
	}
	return got, err
}

// fill sets v to something that is not its zero value.
func fill(t *testing.T, v reflect.Value, path string, met map[reflect.Type]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), path, met)
	case reflect.Interface:
		all := variants[v.Type()]
		if len(all) == 0 {
			t.Errorf("%s is a %s, of which nobody knows the variants", path, v.Type())
			return
		}
		met[v.Type()] = true
		v.Set(reflect.ValueOf(all[0]))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)))
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(t, v.Field(i), path+"."+f.Name, met)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0), path+"[]", met)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, path, met)
		fill(t, value, path, met)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("<a&b>\u2028é")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1.5)
	default:
		t.Errorf("%s is a %s: the test does not know how to fill it", path, v.Type())
	}
}

// TestVariantsAreAllThatIsModelled fails when the SDK gets to know another variant.
func TestVariantsAreAllThatIsModelled(t *testing.T) {
	for union, want := range map[reflect.Type]int{
		reflect.TypeFor[types.SharingStrategy]():                      len(schemas.SharingStrategy.Members()),
		reflect.TypeFor[types.ServiceConnectContainerConfiguration](): len(schemas.ServiceConnectContainerConfiguration.Members()),
	} {
		if len(variants[union]) != want {
			t.Errorf("%s has %d variants", union, want)
		}
	}
}

// TestUnknownVariants: a row of a later Berth is refused, not read in part.
func TestUnknownVariants(t *testing.T) {
	var got types.ResourceRequirement
	for _, text := range []string{`{"SharingStrategy":{"SharingStrategyMemberFuture":{}}}`, `{"SharingStrategy":{}}`, `{"SharingStrategy":[]}`} {
		if err := model.DecodeJSON([]byte(text), &got); err == nil {
			t.Errorf("%s was read as %+v", text, got)
		}
	}
	if err := model.DecodeJSON([]byte(`{"SharingStrategy":null}`), &got); err != nil || got.SharingStrategy != nil {
		t.Errorf("%v %+v", err, got)
	}
}

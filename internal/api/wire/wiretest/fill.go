// Package wiretest makes requests for the tests of APIs.
package wiretest

import (
	"reflect"
	"time"

	"pgregory.net/rapid"
)

// numbers are the bounds that APIs have, and what lies beyond them.
var numbers = []int64{-1, 0, 1, 2, 10, 80, 100, 128, 200, 512, 1000, 65536, 1 << 31, 1<<63 - 1}

// Fill gives v, a part of one of the SDK's input structs, random contents: strings are words or, where the model lists values, one of
// those. Interfaces stay nil.
func Fill(t *rapid.T, v reflect.Value, words []string, depth int) {
	FillNamed(t, v, func(string) []string { return words }, "", depth)
}

// FillNamed is Fill with words for the member, by its Go name, that a string belongs to.
func FillNamed(t *rapid.T, v reflect.Value, words func(member string) []string, member string, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		if rapid.IntRange(0, 2).Draw(t, "set") > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			FillNamed(t, v.Elem(), words, member, depth)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && depth < 6 && f.Name != "ResultMetadata" {
				FillNamed(t, v.Field(i), words, f.Name, depth+1)
			}
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 2).Draw(t, "len")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			FillNamed(t, v.Index(i), words, member, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 2).Draw(t, "len") {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			FillNamed(t, key, words, member, depth+1)
			FillNamed(t, value, words, member, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		choices := words(member)
		if values := v.MethodByName("Values"); values.IsValid() {
			choices = []string{"", "X"}
			list := values.Call(nil)[0]
			for i := range list.Len() {
				choices = append(choices, list.Index(i).String())
			}
		}
		v.SetString(rapid.SampledFrom(choices).Draw(t, "word"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		if n := rapid.SampledFrom(numbers).Draw(t, "number"); !v.OverflowInt(n) {
			v.SetInt(n)
		}
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, "byte")))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1)
	}
}

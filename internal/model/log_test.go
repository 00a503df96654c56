package model

import (
	"reflect"
	"testing"
	"time"
)

func FuzzLogBatch(f *testing.F) {
	whole := LogBatch{Group: "/g", Stream: "s/web/1", Source: "abc", Lines: []LogLine{
		{At: time.UnixMilli(1_700_000_000_123), Message: "hello", Output: 1, Start: 7, End: 13},
		{At: time.UnixMilli(0), Message: "", Start: 1 << 40, End: 1 << 40}}}
	data, err := whole.AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, data []byte) {
		var b LogBatch
		if b.UnmarshalBinary(data) != nil {
			return
		}
		again, err := b.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		var c LogBatch
		if err := c.UnmarshalBinary(again); err != nil || !reflect.DeepEqual(b, c) {
			t.Fatalf("%+v became %+v (%v)", b, c, err)
		}
	})
}

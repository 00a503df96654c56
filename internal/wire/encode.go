package wire

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"time"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/document"
	"github.com/aws/smithy-go/traits"
)

// jsonWriter is a smithy.ShapeSerializer that writes awsJson: member names as they are modelled, timestamps as seconds with a
// fraction unless the model says otherwise.
type jsonWriter struct {
	buf   []byte
	stack []frame
}

// frame is an open structure, list or map.
type frame struct {
	kind  byte // { [ or m (a map: its keys come by WriteKey)
	empty bool
}

var _ smithy.ShapeSerializer = (*jsonWriter)(nil)

// Bytes implements smithy.ShapeSerializer.
func (w *jsonWriter) Bytes() []byte { return w.buf }

// member writes what stands before a value: a comma and, in a structure, the member's name.
func (w *jsonWriter) member(s *smithy.Schema) {
	if len(w.stack) == 0 {
		return
	}
	top := &w.stack[len(w.stack)-1]
	if top.kind == 'm' {
		return // WriteKey did it
	}
	if !top.empty {
		w.buf = append(w.buf, ',')
	}
	top.empty = false
	if top.kind == '{' {
		w.text(s.MemberName())
		w.buf = append(w.buf, ':')
	}
}

func (w *jsonWriter) text(s string) {
	b, err := json.Marshal(s)
	if err != nil { // never for a string
		b = []byte(`""`)
	}
	w.buf = append(w.buf, b...)
}

func (w *jsonWriter) open(s *smithy.Schema, kind, brace byte) {
	w.member(s)
	w.buf = append(w.buf, brace)
	w.stack = append(w.stack, frame{kind, true})
}

func (w *jsonWriter) close(brace byte) {
	w.buf = append(w.buf, brace)
	w.stack = w.stack[:len(w.stack)-1]
}

// WriteInt8 implements smithy.ShapeSerializer, as do all that follow.
func (w *jsonWriter) WriteInt8(s *smithy.Schema, v int8)   { w.WriteInt64(s, int64(v)) }
func (w *jsonWriter) WriteInt16(s *smithy.Schema, v int16) { w.WriteInt64(s, int64(v)) }
func (w *jsonWriter) WriteInt32(s *smithy.Schema, v int32) { w.WriteInt64(s, int64(v)) }
func (w *jsonWriter) WriteInt64(s *smithy.Schema, v int64) {
	w.member(s)
	w.buf = strconv.AppendInt(w.buf, v, 10)
}
func (w *jsonWriter) WriteFloat32(s *smithy.Schema, v float32) { w.float(s, float64(v), 32) }
func (w *jsonWriter) WriteFloat64(s *smithy.Schema, v float64) { w.float(s, v, 64) }

func (w *jsonWriter) float(s *smithy.Schema, v float64, bits int) {
	w.member(s)
	switch {
	case math.IsNaN(v):
		w.text("NaN")
	case math.IsInf(v, 1):
		w.text("Infinity")
	case math.IsInf(v, -1):
		w.text("-Infinity")
	default:
		w.buf = strconv.AppendFloat(w.buf, v, 'f', -1, bits)
	}
}

func (w *jsonWriter) WriteBool(s *smithy.Schema, v bool) {
	w.member(s)
	w.buf = strconv.AppendBool(w.buf, v)
}
func (w *jsonWriter) WriteString(s *smithy.Schema, v string) { w.member(s); w.text(v) }
func (w *jsonWriter) WriteBigInt(s *smithy.Schema, v *big.Int) {
	w.member(s)
	w.buf = v.Append(w.buf, 10)
}
func (w *jsonWriter) WriteBigFloat(s *smithy.Schema, v *big.Float) {
	w.member(s)
	w.buf = v.Append(w.buf, 'g', -1)
}
func (w *jsonWriter) WriteBlob(s *smithy.Schema, v []byte) {
	w.member(s)
	w.text(base64.StdEncoding.EncodeToString(v))
}

func (w *jsonWriter) WriteTime(s *smithy.Schema, v time.Time) {
	w.member(s)
	if f, ok := smithy.SchemaTrait[*traits.TimestampFormat](s); ok {
		switch f.Format {
		case "date-time":
			w.text(v.UTC().Format("2006-01-02T15:04:05.999Z"))
			return
		case "http-date":
			w.text(v.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))
			return
		}
	}
	ms := v.UnixMilli()
	w.buf = strconv.AppendFloat(w.buf, float64(ms)/1000, 'f', -1, 64)
}

func (w *jsonWriter) WriteUnion(s, variant *smithy.Schema) { w.open(s, '{', '{') }
func (w *jsonWriter) CloseUnion()                          { w.close('}') }
func (w *jsonWriter) WriteNil(s *smithy.Schema)            { w.member(s); w.buf = append(w.buf, "null"...) }
func (w *jsonWriter) WriteStruct(s *smithy.Schema)         { w.open(s, '{', '{') }
func (w *jsonWriter) CloseStruct()                         { w.close('}') }
func (w *jsonWriter) WriteList(s *smithy.Schema)           { w.open(s, '[', '[') }
func (w *jsonWriter) CloseList()                           { w.close(']') }
func (w *jsonWriter) WriteMap(s *smithy.Schema)            { w.open(s, 'm', '{') }
func (w *jsonWriter) CloseMap()                            { w.close('}') }

func (w *jsonWriter) WriteKey(_ *smithy.Schema, key string) {
	top := &w.stack[len(w.stack)-1]
	if !top.empty {
		w.buf = append(w.buf, ',')
	}
	top.empty = false
	w.text(key)
	w.buf = append(w.buf, ':')
}

// WriteDocument writes a document as the JSON that it is.
func (w *jsonWriter) WriteDocument(s *smithy.Schema, v document.Value) {
	w.member(s)
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte("null")
	}
	w.buf = append(w.buf, b...)
}

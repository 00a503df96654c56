package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
)

// element is an element of a document of restXml. Prefixes of names do not count.
type element struct {
	name  string
	attrs map[string]string
	text  string
	kids  []*element
}

// Limits of a document.
const (
	maxXMLDepth    = 64
	maxXMLElements = 200_000
)

// parseXML reads a body of exactly one element.
func parseXML(body []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	root := &element{}
	stack, count := []*element{root}, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed("the body is not XML: " + err.Error())
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if count++; count > maxXMLElements || len(stack) > maxXMLDepth {
				return nil, malformed("the body's XML has too many elements, or too deep ones")
			}
			e := &element{name: t.Name.Local, attrs: map[string]string{}}
			for _, a := range t.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			top.kids = append(top.kids, e)
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(t)
		}
	}
	if len(root.kids) != 1 {
		return nil, malformed("the body is not one XML element")
	}
	return root.kids[0], nil
}

// elementOf is the name that a member's element has; standard is that of a member without a name of its own.
func elementOf(m *smithy.Schema, standard string) string {
	if t, ok := smithy.SchemaTrait[*traits.XMLName](m); ok {
		return t.Name
	}
	return standard
}

func local(name string) string { return name[strings.IndexByte(name, ':')+1:] }

func has[T smithy.Trait](s *smithy.Schema) bool {
	_, ok := smithy.SchemaTrait[T](s)
	return ok
}

func (e *element) named(name string) (all []*element) {
	for _, k := range e.kids {
		if k.name == local(name) {
			all = append(all, k)
		}
	}
	return all
}

// value makes of an element what assign takes for a value of the schema.
func (e *element) value(s *smithy.Schema) any {
	switch s.Type() {
	case smithy.ShapeTypeStructure, smithy.ShapeTypeUnion:
		object := map[string]any{}
		for name, m := range s.Members() {
			if v := e.member(elementOf(m, name), m); v != nil {
				object[name] = v
			}
		}
		return object
	case smithy.ShapeTypeList:
		return listOf(e.named(elementOf(s.ListMember(), "member")), s)
	case smithy.ShapeTypeMap:
		return mapOf(e.named("entry"), s)
	}
	return e.text
}

// member finds a member within its structure's element, nil when it is not there.
func (e *element) member(name string, m *smithy.Schema) any {
	if has[*traits.XMLAttribute](m) {
		if text, ok := e.attrs[local(name)]; ok {
			return text
		}
		return nil
	}
	all := e.named(name)
	switch {
	case len(all) == 0:
		return nil
	case has[*traits.XMLFlattened](m) && m.Type() == smithy.ShapeTypeList:
		return listOf(all, m)
	case has[*traits.XMLFlattened](m) && m.Type() == smithy.ShapeTypeMap:
		return mapOf(all, m)
	}
	return all[0].value(m)
}

func listOf(items []*element, s *smithy.Schema) any {
	list := make([]any, len(items))
	for i, item := range items {
		list[i] = item.value(s.ListMember())
	}
	return list
}

func mapOf(entries []*element, s *smithy.Schema) any {
	object := map[string]any{}
	for _, e := range entries {
		key, value := e.named(elementOf(s.MapKey(), "key")), e.named(elementOf(s.MapValue(), "value"))
		if len(key) > 0 && len(value) > 0 {
			object[key[0].text] = value[0].value(s.MapValue())
		}
	}
	return object
}

// appendElement writes a value of the schema as an element.
func appendElement(b []byte, name string, s *smithy.Schema, v reflect.Value) []byte {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	b = append(append(b, '<'), name...)
	if t, ok := smithy.SchemaTrait[*traits.XMLNamespace](s); ok {
		b = appendAttribute(b, strings.TrimSuffix("xmlns:"+t.Prefix, ":"), t.URI)
	}
	if v.Kind() == reflect.Struct && v.Type() != timeType {
		for _, m := range planOf(v.Type(), s) {
			if f := v.FieldByIndex(m.index); has[*traits.XMLAttribute](m.schema) && !unset(f) {
				b = appendAttribute(b, elementOf(m.schema, m.name), xmlScalar(m.schema, reflect.Indirect(f)))
			}
		}
	}
	b = appendContent(append(b, '>'), s, v)
	return append(append(append(b, "</"...), name...), '>')
}

func appendAttribute(b []byte, name, value string) []byte {
	b = append(append(append(b, ' '), name...), `="`...)
	return append(appendEscaped(b, value), '"')
}

func appendEscaped(b []byte, text string) []byte {
	var escaped bytes.Buffer
	_ = xml.EscapeText(&escaped, []byte(text)) // writing to a Buffer cannot fail
	return append(b, escaped.Bytes()...)
}

func appendContent(b []byte, s *smithy.Schema, v reflect.Value) []byte {
	switch {
	case v.Kind() == reflect.Struct && v.Type() != timeType:
		return appendElements(b, v, planOf(v.Type(), s))
	case v.Kind() == reflect.Slice && v.Type().Elem() != byteType:
		for i := range v.Len() {
			b = appendElement(b, elementOf(s.ListMember(), "member"), s.ListMember(), v.Index(i))
		}
		return b
	case v.Kind() == reflect.Map:
		return appendEntries(b, "entry", s, v)
	case v.Kind() == reflect.Interface:
		if name, m, value, ok := variant(s, v.Elem()); ok {
			return appendElement(b, elementOf(m, name), m, value)
		}
		return b
	}
	return appendEscaped(b, xmlScalar(s, v))
}

// appendElements writes the elements of the members of plan that v has set.
func appendElements(b []byte, v reflect.Value, plan []memberField) []byte {
	for _, m := range plan {
		f := v.FieldByIndex(m.index)
		if unset(f) || has[*traits.XMLAttribute](m.schema) {
			continue
		}
		name, flat := elementOf(m.schema, m.name), has[*traits.XMLFlattened](m.schema)
		switch {
		case flat && f.Kind() == reflect.Slice:
			for i := range f.Len() {
				b = appendElement(b, name, m.schema.ListMember(), f.Index(i))
			}
		case flat && f.Kind() == reflect.Map:
			b = appendEntries(b, name, m.schema, f)
		default:
			b = appendElement(b, name, m.schema, f)
		}
	}
	return b
}

func appendEntries(b []byte, name string, s *smithy.Schema, v reflect.Value) []byte {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
	for _, k := range keys {
		b = append(append(append(b, '<'), name...), '>')
		b = appendElement(b, elementOf(s.MapKey(), "key"), s.MapKey(), k)
		b = appendElement(b, elementOf(s.MapValue(), "value"), s.MapValue(), v.MapIndex(k))
		b = append(append(append(b, "</"...), name...), '>')
	}
	return b
}

func xmlScalar(s *smithy.Schema, v reflect.Value) string {
	switch {
	case v.Type() == timeType:
		format := "date-time"
		if f, ok := smithy.SchemaTrait[*traits.TimestampFormat](s); ok {
			format = f.Format
		}
		return formatTime(format, v.Interface().(time.Time))
	case v.Kind() == reflect.Slice:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case v.Kind() == reflect.String:
		return v.String()
	}
	return strings.Trim(string(appendScalar(nil, v)), `"`) // NaN is quoted in JSON
}

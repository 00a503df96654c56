package wire

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
)

// binding is where a member of an input, an output or an error of a REST service travels.
type binding int

const (
	inBody binding = iota
	inLabel
	inQuery
	inQueryParams // a map of the whole query
	inHeader
	inPrefixHeaders // a map of the headers with a prefix
	inPayload       // the member is the body
	inStatus
)

// boundField is a member and where it travels: key is the parameter, the header or the prefix.
type boundField struct {
	memberField
	in  binding
	key string
}

// assignBound is how a structure's members travel.
type bound struct {
	fields  []boundField  // all that are not in the body's object
	body    []memberField // those that are
	payload bool
}

// boundPlans caches the bindings of structures.
var boundPlans sync.Map // of planKey to *bound

func boundOf(t reflect.Type, s *smithy.Schema) *bound {
	key := planKey{t, s}
	if p, ok := boundPlans.Load(key); ok {
		return p.(*bound)
	}
	b := &bound{}
	for _, m := range planOf(t, s) {
		in, key := bindingOf(m.schema)
		if in == inBody {
			b.body = append(b.body, m)
			continue
		}
		b.payload = b.payload || in == inPayload
		b.fields = append(b.fields, boundField{m, in, key})
	}
	p, _ := boundPlans.LoadOrStore(key, b)
	return p.(*bound)
}

func bindingOf(m *smithy.Schema) (binding, string) {
	if _, ok := smithy.SchemaTrait[*traits.HTTPLabel](m); ok {
		return inLabel, m.MemberName()
	}
	if t, ok := smithy.SchemaTrait[*traits.HTTPQuery](m); ok {
		return inQuery, t.Name
	}
	if _, ok := smithy.SchemaTrait[*traits.HTTPQueryParams](m); ok {
		return inQueryParams, ""
	}
	if t, ok := smithy.SchemaTrait[*traits.HTTPHeader](m); ok {
		return inHeader, t.Name
	}
	if t, ok := smithy.SchemaTrait[*traits.HTTPPrefixHeaders](m); ok {
		return inPrefixHeaders, t.Prefix
	}
	if _, ok := smithy.SchemaTrait[*traits.HTTPPayload](m); ok {
		return inPayload, ""
	}
	if _, ok := smithy.SchemaTrait[*traits.HTTPResponseCode](m); ok {
		return inStatus, ""
	}
	return inBody, ""
}

// restRequest is what a REST input is read from.
type restRequest struct {
	*http.Request
	labels map[string]string
	body   []byte
	xml    bool // restXml, else restJson1
}

// parse reads the body as what assign takes for a value of the schema.
func (r restRequest) parse(s *smithy.Schema) (any, error) {
	if !r.xml {
		return parseJSON(r.body)
	}
	root, err := parseXML(r.body)
	if err != nil {
		return nil, err
	}
	return root.value(s), nil
}

// decodeREST fills the SDK's input struct from a request of restJson1 or restXml. What decodeJSON takes of a body, it takes too; members
// that travel elsewhere are not looked for in the body. Errors: *model.Error SerializationException.
func decodeREST(r restRequest, s *smithy.Schema, into any) error {
	if s == nil { // an operation without input
		return nil
	}
	v := reflect.ValueOf(into).Elem()
	plan, query := boundOf(v.Type(), s), r.URL.Query()
	for _, f := range plan.fields {
		if err := assignBound(v.FieldByIndex(f.index), f, r, query); err != nil {
			return err
		}
	}
	if plan.payload || len(plan.body) == 0 || len(r.body) == 0 {
		return nil
	}
	doc, err := r.parse(s)
	if err != nil {
		return err
	}
	object, ok := doc.(map[string]any)
	if !ok {
		return wrong("", doc, "an object")
	}
	return assignMembers(v, plan.body, object, "")
}

// assignBound sets the member f, which is not in the body's object, to what the request has for it.
func assignBound(v reflect.Value, f boundField, r restRequest, query url.Values) error {
	switch f.in {
	case inLabel:
		return assignTexts(v, f, []string{r.labels[f.key]})
	case inQuery:
		return assignTexts(v, f, query[f.key])
	case inQueryParams:
		all := map[string][]string{}
		for name, values := range query {
			if !strings.HasPrefix(name, "X-Amz-") { // a presigned request's
				all[name] = values
			}
		}
		return assignTextMap(v, f, all)
	case inHeader:
		values := r.Header.Values(f.key)
		if v.Kind() == reflect.Slice && v.Type().Elem() != byteType {
			values = splitHeader(values, v.Type().Elem() == timeType)
		}
		return assignTexts(v, f, values)
	case inPrefixHeaders:
		all := map[string][]string{}
		for name, values := range r.Header {
			if len(name) > len(f.key) && strings.EqualFold(name[:len(f.key)], f.key) {
				all[name[len(f.key):]] = values
			}
		}
		return assignTextMap(v, f, all)
	case inPayload:
		return assignPayload(v, f, r)
	}
	return nil
}

// assignTexts sets v, or the elements of the list v, to what travels as text; none leaves it as it is.
func assignTexts(v reflect.Value, f boundField, texts []string) error {
	if len(texts) == 0 {
		return nil
	}
	if v.Kind() != reflect.Slice || v.Type().Elem() == byteType {
		return assignText(v, f, texts[0])
	}
	list := reflect.MakeSlice(v.Type(), len(texts), len(texts))
	for i, text := range texts {
		if err := assignText(list.Index(i), f, text); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func assignText(v reflect.Value, f boundField, text string) error {
	if _, ok := smithy.SchemaTrait[*traits.MediaType](f.schema); ok && f.in == inHeader {
		plain, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return wrong("."+f.name, text, "base64")
		}
		text = string(plain)
	}
	return assign(v, f.schema, text, "."+f.name)
}

// assignTextMap sets v, a map of strings or of lists of strings.
func assignTextMap(v reflect.Value, f boundField, all map[string][]string) error {
	if v.Kind() != reflect.Map || len(all) == 0 {
		return nil
	}
	out := reflect.MakeMapWithSize(v.Type(), len(all))
	for name, values := range all {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := assignTexts(e, f, values); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), e)
	}
	v.Set(out)
	return nil
}

func assignPayload(v reflect.Value, f boundField, r restRequest) error {
	body := r.body
	if len(body) == 0 {
		return nil
	}
	switch f.schema.Type() {
	case smithy.ShapeTypeBlob:
		if v.Kind() != reflect.Slice {
			return unsupported("." + f.name) // a stream
		}
		v.SetBytes(body)
		return nil
	case smithy.ShapeTypeString, smithy.ShapeTypeEnum:
		return assign(v, f.schema, string(body), "."+f.name)
	}
	doc, err := r.parse(f.schema)
	if err != nil {
		return err
	}
	return assign(v, f.schema, doc, "."+f.name)
}

// encodeREST writes an output of restJson1 or, with xml, of restXml, its headers into h.
func encodeREST(out any, op *smithy.OperationSchema, h http.Header, xml bool) answer {
	a := answer{body: []byte("{}")}
	if xml {
		a.body = nil
	}
	if op.Output != nil {
		a = encodeMembers(out, op.Output, h, xml)
	}
	if t, ok := smithy.SchemaTrait[*traits.HTTP](op.Schema); ok && a.status == 0 {
		a.status = t.Code
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a
}

// encodeMembers writes an output or an error. The status is 0 unless a member holds it.
func encodeMembers(out any, s *smithy.Schema, h http.Header, xml bool) (a answer) {
	v := reflect.ValueOf(out).Elem()
	plan := boundOf(v.Type(), s)
	for _, f := range plan.fields {
		value := v.FieldByIndex(f.index)
		if unset(value) {
			continue
		}
		for value.Kind() == reflect.Pointer {
			value = value.Elem()
		}
		switch f.in {
		case inHeader:
			if text := headerText(f.schema, value); text != "" {
				h.Set(f.key, text)
			}
		case inPrefixHeaders:
			for k, e := range value.Seq2() {
				h.Set(f.key+k.String(), e.String())
			}
		case inStatus:
			a.status = int(value.Int())
		case inPayload:
			a.kind, a.body = encodePayload(f.schema, value, xml)
		}
	}
	switch {
	case plan.payload || xml && len(plan.body) == 0:
	case xml: // the root's attributes are none: no output has any
		name := elementOf(s, s.ID().Name)
		a.body = append(appendElements([]byte(xmlHead+"<"+name+">"), v, plan.body), "</"+name+">"...)
	default:
		a.body = appendMembers(nil, v, plan.body)
	}
	return a
}

func encodePayload(s *smithy.Schema, v reflect.Value, xml bool) (kind string, body []byte) {
	if t, ok := smithy.SchemaTrait[*traits.MediaType](s); ok {
		kind = t.Type
	}
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		if kind == "" {
			kind = "application/octet-stream"
		}
		return kind, v.Bytes()
	case v.Kind() == reflect.String:
		if kind == "" {
			kind = "text/plain"
		}
		return kind, []byte(v.String())
	}
	if xml {
		return kind, appendElement([]byte(xmlHead), elementOf(s, s.TargetID().Name), s, v)
	}
	return kind, appendJSON(nil, s, v)
}

const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

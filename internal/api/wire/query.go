package wire

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/url"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// node is a query request's parameters as a tree: "Tags.member.1.Key" is the path to a value.
type node struct {
	value string
	set   bool
	kids  map[string]*node
}

// Limits of a query request.
const (
	maxQueryDepth = 32
	maxQueryItems = 10_000
)

func parseQuery(form url.Values) (*node, error) {
	root := &node{}
	count := 0
	for key, values := range form {
		if count++; count > maxQueryItems {
			return nil, model.Errorf("MalformedQueryString", "The request has too many parameters")
		}
		parts := strings.Split(key, ".")
		if len(parts) > maxQueryDepth {
			return nil, model.Errorf("MalformedQueryString", "The parameter %.60q is nested too deep", key)
		}
		n := root
		for _, p := range parts {
			if n.kids == nil {
				n.kids = map[string]*node{}
			}
			if n.kids[p] == nil {
				n.kids[p] = &node{}
			}
			n = n.kids[p]
		}
		n.value, n.set = values[0], true
	}
	return root, nil
}

// decodeQuery fills the SDK's input struct; parameters are named after its fields, in EC2 those of lists without their plural s.
func decodeQuery(form url.Values, into any, ec2 bool) error {
	root, err := parseQuery(form)
	if err != nil {
		return err
	}
	return filler{ec2}.fill(reflect.ValueOf(into).Elem(), root, "")
}

// filler sets values from parameters.
type filler struct{ ec2 bool }

func (q filler) fill(v reflect.Value, n *node, path string) error {
	switch {
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := q.fill(p.Elem(), n, path); err != nil {
			return err
		}
		v.Set(p)
		return nil
	case v.Type() == timeType:
		t, err := time.Parse(time.RFC3339Nano, n.value)
		if err != nil {
			return model.Errorf("MalformedInput", "%s: want a timestamp, got %.60q", path, n.value)
		}
		v.Set(reflect.ValueOf(t))
		return nil
	case v.Kind() == reflect.Struct:
		return q.fillStruct(v, n, path)
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		data, err := base64.StdEncoding.DecodeString(n.value)
		if err != nil {
			return model.Errorf("MalformedInput", "%s: want base64", path)
		}
		v.SetBytes(data)
		return nil
	case v.Kind() == reflect.Slice:
		return q.fillList(v, n, path)
	case v.Kind() == reflect.Map:
		return q.fillMap(v, n, path)
	case v.Kind() == reflect.Interface:
		return model.Errorf("ValidationError", "Berth does not support %s yet", path)
	}
	if err := setScalar(v, n.value); err != nil {
		return model.Errorf("MalformedInput", "%s: want %s, got %.60q", path, err.Error(), n.value)
	}
	return nil
}

// ec2Parameters are EC2's parameters that are named after no field.
var ec2Parameters = map[string]string{"Groups": "UserIdGroupPairs", "Icmp": "IcmpTypeCode", "GroupDescription": "Description", "ResourceId": "Resources",
	"ExecutableBy": "ExecutableUsers", "AvailabilityZoneAddress": "AvailabilityZoneAddresses", "SecondaryPrivateIpAddress": "SecondaryPrivateIpAddresses"}

func (q filler) fillStruct(v reflect.Value, n *node, path string) error {
	for name, kid := range n.kids {
		if name == "" {
			continue
		}
		f, ok := field(v, name)
		if !ok && q.ec2 {
			f, ok = field(v, name+"s") // Filter.1 is of Filters
		}
		if own := ec2Parameters[name]; !ok && q.ec2 && own != "" {
			f, ok = field(v, own)
		}
		if !ok || !f.CanSet() {
			continue
		}
		if err := q.fill(f, kid, strings.TrimPrefix(path+"."+name, ".")); err != nil {
			return err
		}
	}
	return nil
}

// items returns the kids of a list in the order of their numbers: X.member.1 in awsQuery, X.1 in ec2Query.
func (n *node) items(wrapper string) []*node {
	if w := n.kids[wrapper]; w != nil {
		n = w
	}
	var numbers []int
	for k := range n.kids {
		if i, err := strconv.Atoi(k); err == nil && i > 0 && strconv.Itoa(i) == k { // not 01
			numbers = append(numbers, i)
		}
	}
	sort.Ints(numbers)
	list := make([]*node, len(numbers))
	for i, number := range numbers {
		list[i] = n.kids[strconv.Itoa(number)]
	}
	return list
}

func (q filler) fillList(v reflect.Value, n *node, path string) error {
	items := n.items("member")
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := q.fill(out.Index(i), item, fmt.Sprintf("%s.%d", path, i+1)); err != nil {
			return err
		}
	}
	v.Set(out)
	return nil
}

func (q filler) fillMap(v reflect.Value, n *node, path string) error {
	out := reflect.MakeMap(v.Type())
	for _, item := range n.items("entry") {
		key, value := item.kids["key"], item.kids["value"]
		if key == nil && value == nil { // as in SNS's MessageAttributes
			key, value = item.kids["Name"], item.kids["Value"]
		}
		if key == nil || value == nil {
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := q.fill(e, value, path+"."+key.value); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(key.value).Convert(v.Type().Key()), e)
	}
	v.Set(out)
	return nil
}

// xmlWriter writes the SDK's output structs as XML.
type xmlWriter struct {
	buf strings.Builder
	// item is the element of lists: member in awsQuery, item in ec2Query.
	item string
	// name gives the element of a Go field.
	name func(owner reflect.Type, field string) string
}

func (w *xmlWriter) text(s string) {
	_ = xml.EscapeText(&w.buf, []byte(s)) // writing to a Builder cannot fail
}

func (w *xmlWriter) element(name string, body func()) {
	w.buf.WriteString("<" + name + ">")
	body()
	w.buf.WriteString("</" + name + ">")
}

func (w *xmlWriter) leaf(name, text string) {
	w.element(name, func() { w.text(text) })
}

// value writes v as the element name; what is unset is left out, an empty list stays.
func (w *xmlWriter) value(name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			w.value(name, v.Elem())
		}
		return
	case reflect.Slice, reflect.Map:
		if v.IsNil() {
			return
		}
	case reflect.String:
		if v.Len() == 0 && v.Type().Name() != "string" { // an enum that is not set
			return
		}
	}
	w.element(name, func() { w.content(v) })
}

func (w *xmlWriter) content(v reflect.Value) {
	switch {
	case v.Type() == timeType:
		w.buf.WriteString(v.Interface().(time.Time).UTC().Format("2006-01-02T15:04:05.000Z"))
	case v.Kind() == reflect.Struct:
		w.fields(v)
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		w.buf.WriteString(base64.StdEncoding.EncodeToString(v.Bytes()))
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			w.value(w.item, v.Index(i))
		}
	case v.Kind() == reflect.Map:
		w.entries(v)
	default:
		w.text(fmt.Sprint(v.Interface()))
	}
}

func (w *xmlWriter) fields(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.IsExported() && !f.Anonymous && f.Name != "ResultMetadata" {
			w.value(w.name(v.Type(), f.Name), v.Field(i))
		}
	}
}

func (w *xmlWriter) entries(v reflect.Value) {
	keys := v.MapKeys()
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	for _, k := range keys {
		w.element("entry", func() {
			w.value("key", k)
			w.value("value", v.MapIndex(k))
		})
	}
}

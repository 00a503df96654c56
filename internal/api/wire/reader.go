package wire

import (
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/document"

	"github.com/berthdev/berth/internal/model"
)

// reader is a smithy.ShapeDeserializer over a JSON value that was parsed already. It takes what assign takes.
type reader struct {
	base    string // path of the first value
	stack   []level
	current any  // the value to be read next
	fresh   bool // current was not read yet
}

// level is an object or a list that is being read.
type level struct {
	schema *smithy.Schema // of a structure
	object map[string]any
	keys   []string
	list   []any
	next   int
	name   string // of the current child, for errors
}

var _ smithy.ShapeDeserializer = (*reader)(nil)

func (d *reader) path() string {
	var b strings.Builder
	b.WriteString(d.base)
	for _, l := range d.stack {
		b.WriteString(l.name)
	}
	return b.String()
}

func (d *reader) take() any {
	d.fresh = false
	return d.current
}

func (d *reader) top() *level { return &d.stack[len(d.stack)-1] }

func (d *reader) pop() { d.stack = d.stack[:len(d.stack)-1] }

// offer makes a child of the top level the next value.
func (d *reader) offer(name string, v any) {
	d.top().name, d.current, d.fresh = name, v, true
}

func (d *reader) openObject(s *smithy.Schema) error {
	in := d.take()
	object, ok := in.(map[string]any)
	if !ok {
		return wrong(d.path(), in, "an object")
	}
	d.stack = append(d.stack, level{schema: s, object: object, keys: slices.Sorted(maps.Keys(object))})
	return nil
}

// ReadNil implements smithy.ShapeDeserializer, as do all that follow.
func (d *reader) ReadNil(*smithy.Schema) (bool, error) { return d.current == nil, nil }

func (d *reader) ReadStruct(s *smithy.Schema) error { return d.openObject(s) }

func (d *reader) ReadStructMember() (*smithy.Schema, error) {
	for top := d.top(); top.next < len(top.keys); {
		key := top.keys[top.next]
		top.next++
		if m := top.schema.Member(key); m != nil && top.object[key] != nil {
			d.offer("."+key, top.object[key])
			return m, nil
		}
	}
	d.pop()
	d.fresh = false
	return nil, nil
}

// ReadUnion is called first for the variant that is set and then until it returns none.
func (d *reader) ReadUnion(s *smithy.Schema) (*smithy.Schema, error) {
	first := d.fresh
	if first {
		if err := d.openObject(s); err != nil {
			return nil, err
		}
	}
	m, err := d.ReadStructMember()
	if m != nil && !first {
		return nil, malformed(strings.TrimPrefix(d.path(), ".") + ": this union has another member already")
	}
	return m, err
}

func (d *reader) ReadList(*smithy.Schema) error {
	in := d.take()
	list, ok := in.([]any)
	if !ok {
		return wrong(d.path(), in, "a list")
	}
	d.stack = append(d.stack, level{list: list})
	return nil
}

func (d *reader) ReadListItem(*smithy.Schema) (bool, error) {
	for top := d.top(); top.next < len(top.list); {
		i := top.next
		top.next++
		if top.list[i] != nil {
			d.offer(fmt.Sprintf("[%d]", i), top.list[i])
			return true, nil
		}
	}
	d.pop()
	d.fresh = false
	return false, nil
}

func (d *reader) ReadMap(s *smithy.Schema) error { return d.openObject(s) }

func (d *reader) ReadMapKey(*smithy.Schema) (string, bool, error) {
	for top := d.top(); top.next < len(top.keys); {
		key := top.keys[top.next]
		top.next++
		if top.object[key] != nil {
			d.offer("."+key, top.object[key])
			return key, true, nil
		}
	}
	d.pop()
	d.fresh = false
	return "", false, nil
}

func (d *reader) scalar(into any) error {
	return assignScalar(reflect.ValueOf(into).Elem(), d.take(), d.path())
}

func (d *reader) ReadInt8(_ *smithy.Schema, v *int8) error       { return d.scalar(v) }
func (d *reader) ReadInt16(_ *smithy.Schema, v *int16) error     { return d.scalar(v) }
func (d *reader) ReadInt32(_ *smithy.Schema, v *int32) error     { return d.scalar(v) }
func (d *reader) ReadInt64(_ *smithy.Schema, v *int64) error     { return d.scalar(v) }
func (d *reader) ReadFloat32(_ *smithy.Schema, v *float32) error { return d.scalar(v) }
func (d *reader) ReadFloat64(_ *smithy.Schema, v *float64) error { return d.scalar(v) }
func (d *reader) ReadBool(_ *smithy.Schema, v *bool) error       { return d.scalar(v) }
func (d *reader) ReadString(_ *smithy.Schema, v *string) error   { return d.scalar(v) }

func (d *reader) ReadBlob(_ *smithy.Schema, v *[]byte) error {
	return assignBlob(reflect.ValueOf(v).Elem(), d.take(), d.path())
}

func (d *reader) ReadTime(_ *smithy.Schema, v *time.Time) error {
	return assignTime(reflect.ValueOf(v).Elem(), d.take(), d.path())
}

// ReadBigInt refuses: a number of a few bytes, such as 1e999999999, would grow without bounds, and no service here has one.
func (d *reader) ReadBigInt(*smithy.Schema, *big.Int) error { return unsupported(d.path()) }

// ReadBigFloat refuses as ReadBigInt does.
func (d *reader) ReadBigFloat(*smithy.Schema, *big.Float) error { return unsupported(d.path()) }

func (d *reader) ReadDocument(_ *smithy.Schema, v *document.Value) error {
	*v = document.Opaque{Value: model.DocumentValue(d.take())}
	return nil
}

package policy

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// value is a JSON value with its place in the text.
type value struct {
	kind       kind
	text       string // of a string, a number or a boolean
	items      []*value
	members    []member
	start, end int
}

type kind int

const (
	null kind = iota
	text
	number
	boolean
	list
	object
)

type member struct {
	name  string
	value *value
}

// member returns the member of that name, nil without one.
func (v *value) member(name string) *value {
	for _, m := range v.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// maxDepth is far deeper than any policy.
const maxDepth = 16

var errJSON = errors.New("no JSON")

// parseJSON reads one value, in which no object has two members of one name.
func parseJSON(s string) (*value, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	v, err := next(d, s, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errJSON
	}
	return v, nil
}

func next(d *json.Decoder, s string, depth int) (*value, error) {
	if depth > maxDepth {
		return nil, errJSON
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	v := &value{end: int(d.InputOffset())}
	switch t := t.(type) {
	case string:
		v.kind, v.text = text, t
	case json.Number:
		v.kind, v.text = number, t.String()
	case bool:
		v.kind, v.text = boolean, "false"
		if t {
			v.text = "true"
		}
	case json.Delim:
		v.start = int(d.InputOffset()) - 1
		if err := v.inside(d, s, t, depth); err != nil {
			return nil, err
		}
		v.end = int(d.InputOffset())
	}
	return v, nil
}

// inside reads what a list or an object holds, to its closing bracket.
func (v *value) inside(d *json.Decoder, s string, open json.Delim, depth int) error {
	v.kind = list
	if open == '{' {
		v.kind = object
	}
	for d.More() {
		name := ""
		if v.kind == object {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name = t.(string) // names are
			if v.member(name) != nil {
				return errJSON
			}
		}
		item, err := next(d, s, depth+1)
		if err != nil {
			return err
		}
		if v.kind == object {
			v.members = append(v.members, member{name, item})
		} else {
			v.items = append(v.items, item)
		}
	}
	_, err := d.Token()
	return err
}

// strings returns a string or a list of strings; ok is false for anything else.
func (v *value) strings() (all []string, ok bool) {
	if v.kind == text {
		return []string{v.text}, true
	}
	if v.kind != list {
		return nil, false
	}
	all = make([]string, len(v.items))
	for i, item := range v.items {
		if item.kind != text {
			return nil, false
		}
		all[i] = item.text
	}
	return all, true
}

// scalars is strings with numbers and booleans as their texts, as conditions hold them.
func (v *value) scalars() (all []string, ok bool) {
	switch v.kind {
	case text, number, boolean:
		return []string{v.text}, true
	case list:
		for _, item := range v.items {
			if item.kind != text && item.kind != number && item.kind != boolean {
				return nil, false
			}
			all = append(all, item.text)
		}
		return all, true
	}
	return nil, false
}

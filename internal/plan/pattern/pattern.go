// Package pattern matches events with EventBridge's event patterns, pure.
package pattern

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The bounds of a pattern.
const (
	maxLength = 4096
	maxDepth  = 32
)

// Pattern is a pattern that was read.
type Pattern struct{ root node }

// node is what an object of the event must have: fields that are objects or have values, and alternatives of which one must fit.
type node struct {
	objects map[string]node
	values  map[string][]rule
	or      [][]node // each: one of these
}

// rule is one way in which a field's value may fit.
type rule func(v any, present bool) bool

// Parse reads a pattern. Errors say what is wrong with it.
func Parse(text string) (Pattern, error) {
	if len(text) > maxLength {
		return Pattern{}, fmt.Errorf("the pattern is longer than %d characters", maxLength)
	}
	v, err := decode([]byte(text))
	if err != nil {
		return Pattern{}, err
	}
	o, ok := v.(map[string]any)
	if !ok || len(o) == 0 {
		return Pattern{}, errors.New("a pattern is a JSON object with at least one field")
	}
	root, err := parse(o, 0)
	return Pattern{root}, err
}

func decode(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	if d.More() {
		return nil, errors.New("there is something behind the JSON")
	}
	return v, nil
}

func parse(o map[string]any, depth int) (n node, err error) {
	if depth > maxDepth {
		return n, errors.New("the pattern nests too deeply")
	}
	n = node{objects: map[string]node{}, values: map[string][]rule{}}
	if len(o) == 0 {
		return n, errors.New("an object of a pattern has at least one field")
	}
	for key, v := range o {
		switch v := v.(type) {
		case map[string]any:
			if n.objects[key], err = parse(v, depth+1); err != nil {
				return n, err
			}
		case []any:
			if key == "$or" {
				var all []node
				if len(v) < 2 {
					return n, errors.New("$or takes at least two patterns")
				}
				for _, part := range v {
					sub, ok := part.(map[string]any)
					if !ok {
						return n, errors.New("$or takes a list of objects")
					}
					one, err := parse(sub, depth+1)
					if err != nil {
						return n, err
					}
					all = append(all, one)
				}
				n.or = append(n.or, all)
				continue
			}
			if len(v) == 0 {
				return n, fmt.Errorf("the field %.60q has an empty list", key)
			}
			for _, item := range v {
				r, err := parseRule(item)
				if err != nil {
					return n, fmt.Errorf("the field %.60q: %w", key, err)
				}
				n.values[key] = append(n.values[key], r)
			}
		default:
			return n, fmt.Errorf("the field %.60q must be an object or a list", key)
		}
	}
	return n, nil
}

// Match tells whether an event (JSON) fits.
func (p Pattern) Match(event []byte) bool {
	v, err := decode(event)
	if err != nil {
		return false
	}
	o, ok := v.(map[string]any)
	return ok && p.root.fits(o)
}

func (n node) fits(o map[string]any) bool {
	for key, sub := range n.objects {
		switch v := o[key].(type) {
		case map[string]any:
			if !sub.fits(v) {
				return false
			}
		case []any: // of objects: one must fit
			found := false
			for _, item := range v {
				if part, ok := item.(map[string]any); ok && sub.fits(part) {
					found = true
					break
				}
			}
			if !found {
				return false
			}
		default:
			if !sub.fits(map[string]any{}) { // exists: false may be all that it wants
				return false
			}
		}
	}
	for key, rules := range n.values {
		v, present := o[key]
		if !fitsAny(rules, v, present) {
			return false
		}
	}
	for _, all := range n.or {
		found := false
		for _, one := range all {
			found = found || one.fits(o)
		}
		if !found {
			return false
		}
	}
	return true
}

func fitsAny(rules []rule, v any, present bool) bool {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if ok && len(list) == 0 {
		list = []any{nil}
		present = false
	}
	for _, r := range rules {
		for _, item := range list {
			if _, object := item.(map[string]any); object {
				continue
			}
			if r(item, present) {
				return true
			}
		}
		if _, object := v.(map[string]any); object && r(struct{}{}, true) {
			return true
		}
	}
	return false
}

// parseRule reads one value of a list.
func parseRule(item any) (rule, error) {
	o, ok := item.(map[string]any)
	if !ok {
		if _, list := item.([]any); list {
			return nil, errors.New("a list within a list")
		}
		return func(v any, present bool) bool { return present && same(item, v) }, nil
	}
	if len(o) != 1 {
		return nil, errors.New("a comparison is an object with one field")
	}
	for op, arg := range o {
		return comparison(op, arg)
	}
	return nil, nil
}

func same(want, v any) bool {
	a, ok := want.(json.Number)
	b, ok2 := v.(json.Number)
	if ok && ok2 {
		x, err := a.Float64()
		y, err2 := b.Float64()
		return err == nil && err2 == nil && x == y
	}
	return want == v
}

func ofText(f func(string) bool) rule {
	return func(v any, present bool) bool {
		s, ok := v.(string)
		return present && ok && f(s)
	}
}

func comparison(op string, arg any) (rule, error) {
	text, isText := arg.(string)
	switch op {
	case "exists":
		want, ok := arg.(bool)
		if !ok {
			return nil, errors.New("exists takes true or false")
		}
		return func(_ any, present bool) bool { return present == want }, nil
	case "prefix", "suffix":
		if o, ok := arg.(map[string]any); ok && len(o) == 1 {
			folded, ok := o["equals-ignore-case"].(string)
			if !ok {
				return nil, fmt.Errorf("%s takes a text or equals-ignore-case", op)
			}
			folded = strings.ToLower(folded)
			return ofText(func(s string) bool { return affix(op, strings.ToLower(s), folded) }), nil
		}
		if !isText {
			return nil, fmt.Errorf("%s takes a text", op)
		}
		return ofText(func(s string) bool { return affix(op, s, text) }), nil
	case "equals-ignore-case":
		if !isText {
			return nil, errors.New("equals-ignore-case takes a text")
		}
		return ofText(func(s string) bool { return strings.EqualFold(s, text) }), nil
	case "wildcard":
		if !isText || strings.Contains(text, "**") {
			return nil, errors.New("wildcard takes a text without two stars together")
		}
		return ofText(func(s string) bool { return wild(text, s) }), nil
	case "cidr":
		net, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, errors.New("cidr takes a range of addresses")
		}
		return ofText(func(s string) bool {
			a, err := netip.ParseAddr(s)
			return err == nil && net.Contains(a)
		}), nil
	case "numeric":
		return numeric(arg)
	case "anything-but":
		return anythingBut(arg)
	}
	return nil, fmt.Errorf("the comparison %.40q is not known", op)
}

func affix(op, s, with string) bool {
	if op == "prefix" {
		return strings.HasPrefix(s, with)
	}
	return strings.HasSuffix(s, with)
}

// wild matches with stars, which stand for any text.
func wild(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

// numeric reads ["<", 10] and [">", 0, "<=", 5].
func numeric(arg any) (rule, error) {
	list, ok := arg.([]any)
	if !ok || len(list) != 2 && len(list) != 4 {
		return nil, errors.New("numeric takes one or two comparisons, each an operator and a number")
	}
	var checks []func(float64) bool
	for i := 0; i < len(list); i += 2 {
		op, _ := list[i].(string)
		n, ok := list[i+1].(json.Number)
		if !ok {
			return nil, errors.New("numeric compares with numbers")
		}
		with, err := strconv.ParseFloat(n.String(), 64)
		if err != nil {
			return nil, errors.New("numeric compares with numbers")
		}
		check := map[string]func(float64) bool{"<": func(v float64) bool { return v < with }, "<=": func(v float64) bool { return v <= with },
			">": func(v float64) bool { return v > with }, ">=": func(v float64) bool { return v >= with }, "=": func(v float64) bool { return v == with }}[op]
		if check == nil {
			return nil, fmt.Errorf("numeric does not know %.10q", op)
		}
		checks = append(checks, check)
	}
	return func(v any, present bool) bool {
		n, ok := v.(json.Number)
		if !present || !ok {
			return false
		}
		f, err := n.Float64()
		for _, check := range checks {
			if err != nil || !check(f) {
				return false
			}
		}
		return true
	}, nil
}

// anythingBut reads a value, a list of values, or a comparison that must not hold.
func anythingBut(arg any) (rule, error) {
	var not []rule
	switch arg := arg.(type) {
	case []any:
		if len(arg) == 0 {
			return nil, errors.New("anything-but takes at least one value")
		}
		for _, item := range arg {
			if _, object := item.(map[string]any); object {
				return nil, errors.New("anything-but takes a list of values")
			}
			r, err := parseRule(item)
			if err != nil {
				return nil, err
			}
			not = append(not, r)
		}
	case map[string]any:
		for op, inner := range arg {
			if op != "prefix" && op != "suffix" && op != "equals-ignore-case" && op != "wildcard" || len(arg) != 1 {
				return nil, fmt.Errorf("anything-but does not take %.40q", op)
			}
			all, ok := inner.([]any)
			if !ok {
				all = []any{inner}
			}
			for _, one := range all {
				r, err := comparison(op, one)
				if err != nil {
					return nil, err
				}
				not = append(not, r)
			}
		}
		if len(not) == 0 {
			return nil, errors.New("anything-but takes at least one value")
		}
	default:
		r, err := parseRule(arg)
		if err != nil {
			return nil, err
		}
		not = append(not, r)
	}
	return func(v any, present bool) bool {
		for _, r := range not {
			if r(v, present) {
				return false
			}
		}
		return present
	}, nil
}

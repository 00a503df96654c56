package policy

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// condition is one operator with one key.
type condition struct {
	name       string // the key as it is written
	key        string // in small letters
	quantifier quantifier
	ifExists   bool
	negated    bool
	test       test
	compare    func(int) bool // of numbers and dates
	fold       bool           // texts are compared without regard to letters' size

	texts    []pattern
	arns     []arnPattern
	numbers  []float64
	times    []time.Time
	prefixes []netip.Prefix
	binaries [][]byte
	bools    []bool // of Bool and Null
}

type quantifier int

const (
	scalar quantifier = iota
	forAll
	forAny
)

type test int

const (
	testText test = iota // texts, with wildcards or without
	testARN
	testNumber
	testTime
	testIP
	testBinary
	testBool
	testNull
)

var operators = map[string]condition{
	"StringEquals":              {test: testText},
	"StringNotEquals":           {test: testText, negated: true},
	"StringEqualsIgnoreCase":    {test: testText, fold: true},
	"StringNotEqualsIgnoreCase": {test: testText, fold: true, negated: true},
	"StringLike":                {test: testText},
	"StringNotLike":             {test: testText, negated: true},
	"NumericEquals":             {test: testNumber, compare: equal},
	"NumericNotEquals":          {test: testNumber, compare: equal, negated: true},
	"NumericLessThan":           {test: testNumber, compare: func(c int) bool { return c < 0 }},
	"NumericLessThanEquals":     {test: testNumber, compare: func(c int) bool { return c <= 0 }},
	"NumericGreaterThan":        {test: testNumber, compare: func(c int) bool { return c > 0 }},
	"NumericGreaterThanEquals":  {test: testNumber, compare: func(c int) bool { return c >= 0 }},
	"DateEquals":                {test: testTime, compare: equal},
	"DateNotEquals":             {test: testTime, compare: equal, negated: true},
	"DateLessThan":              {test: testTime, compare: func(c int) bool { return c < 0 }},
	"DateLessThanEquals":        {test: testTime, compare: func(c int) bool { return c <= 0 }},
	"DateGreaterThan":           {test: testTime, compare: func(c int) bool { return c > 0 }},
	"DateGreaterThanEquals":     {test: testTime, compare: func(c int) bool { return c >= 0 }},
	"Bool":                      {test: testBool},
	"BinaryEquals":              {test: testBinary},
	"IpAddress":                 {test: testIP},
	"NotIpAddress":              {test: testIP, negated: true},
	"ArnEquals":                 {test: testARN},
	"ArnLike":                   {test: testARN},
	"ArnNotEquals":              {test: testARN, negated: true},
	"ArnNotLike":                {test: testARN, negated: true},
	"Null":                      {test: testNull},
}

func equal(c int) bool { return c == 0 }

// readConditions reads a Condition.
func readConditions(v *value, variables bool) (all []condition, err error) {
	if v.kind != object {
		return nil, ErrSyntax
	}
	for _, op := range v.members {
		if op.value.kind != object {
			return nil, ErrSyntax
		}
		base, ok := readOperator(op.name)
		if !ok && len(op.value.members) > 0 {
			return nil, ErrSyntax
		}
		for _, key := range op.value.members {
			values, ok := key.value.scalars()
			if !ok {
				return nil, ErrSyntax
			}
			c := base
			c.name, c.key = key.name, strings.ToLower(key.name)
			if err := c.compile(values, strings.HasSuffix(strings.TrimSuffix(op.name, "IfExists"), "Like"), variables); err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// readOperator reads "[ForAllValues:|ForAnyValue:]<operator>[IfExists]".
func readOperator(name string) (c condition, ok bool) {
	q := scalar
	if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		name, q = rest, forAll
	} else if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		name, q = rest, forAny
	}
	name, ifExists := strings.CutSuffix(name, "IfExists")
	c, ok = operators[name]
	c.quantifier, c.ifExists = q, ifExists
	return c, ok && (c.test != testNull || !ifExists)
}

// compile reads the values.
func (c *condition) compile(values []string, wild, variables bool) error {
	for _, v := range values {
		switch c.test {
		case testText:
			p := compileText(v, variables)
			if wild {
				p = compilePattern(v, variables, false)
			}
			c.texts = append(c.texts, p)
		case testARN:
			c.arns = append(c.arns, compileARN(v, variables))
		case testNumber:
			n, err := strconv.ParseFloat(v, 64)
			if err != nil {
				return errLegacy
			}
			c.numbers = append(c.numbers, n)
		case testTime:
			t, ok := readTime(v)
			if !ok {
				return errLegacy
			}
			c.times = append(c.times, t)
		case testIP:
			p, ok := readPrefix(v)
			if !ok {
				return errLegacy
			}
			c.prefixes = append(c.prefixes, p)
		case testBinary:
			b, err := base64.StdEncoding.DecodeString(v)
			if err != nil {
				return errLegacy
			}
			c.binaries = append(c.binaries, b)
		default:
			b, ok := readBool(v)
			if !ok {
				return errLegacy
			}
			c.bools = append(c.bools, b)
		}
	}
	return nil
}

// holds tells whether the condition is fulfilled; known is false when a variable of it has no value.
func (c *condition) holds(keys Keys) (holds, known bool) {
	values := keys[c.key]
	if c.test == testNull {
		return slices.Contains(c.bools, len(values) == 0), true
	}
	if len(values) == 0 {
		switch {
		case c.ifExists || c.quantifier == forAll:
			return true, true
		case c.quantifier == forAny:
			return false, true
		}
		return c.negated, true
	}
	if c.quantifier == scalar {
		if len(values) > 1 || multivalued(c.key) {
			return false, true
		}
		fits, known := c.match(values[0], keys)
		return fits != c.negated, known
	}
	for _, v := range values {
		fits, known := c.match(v, keys)
		if !known {
			return false, false
		}
		if fits = fits != c.negated; fits != (c.quantifier == forAll) {
			return fits, true
		}
	}
	return c.quantifier == forAll, true
}

// match tells whether one value of the request fits one of the condition's. A variable without value is unknown only when no other of
// the condition's values fits.
func (c *condition) match(v string, keys Keys) (fits, known bool) {
	switch c.test {
	case testText:
		return c.matchText(v, keys)
	case testARN:
		known = true
		for i := range c.arns {
			fits, ok := c.arns[i].match(v, keys)
			if fits {
				return true, true
			}
			known = known && ok
		}
		return false, known
	case testNumber:
		n, err := strconv.ParseFloat(v, 64)
		return err == nil && slices.ContainsFunc(c.numbers, func(p float64) bool { return c.compare(cmp.Compare(n, p)) }), true
	case testTime:
		t, ok := readTime(v)
		return ok && slices.ContainsFunc(c.times, func(p time.Time) bool { return c.compare(t.Compare(p)) }), true
	case testIP:
		a, err := netip.ParseAddr(v)
		a = a.Unmap()
		return err == nil && slices.ContainsFunc(c.prefixes, func(p netip.Prefix) bool { return p.Contains(a) }), true
	case testBinary:
		b, err := base64.StdEncoding.DecodeString(v)
		return err == nil && slices.ContainsFunc(c.binaries, func(p []byte) bool { return bytes.Equal(p, b) }), true
	}
	b, ok := readBool(v)
	return ok && slices.Contains(c.bools, b), true
}

func (c *condition) matchText(v string, keys Keys) (fits, known bool) {
	known = true
	for i := range c.texts {
		var ok bool
		if c.fold {
			var want string
			want, ok = c.texts[i].value(keys)
			fits = ok && strings.EqualFold(want, v)
		} else {
			fits, ok = c.texts[i].match(v, keys)
		}
		if fits {
			return true, true
		}
		known = known && ok
	}
	return false, known
}

func (c *condition) variables(add func(string)) {
	for i := range c.texts {
		c.texts[i].variables(add)
	}
	for i := range c.arns {
		c.arns[i].variables(add)
	}
}

// timeLayouts are those of ISO 8601 that W3C's note lists.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02", "2006-01", "2006"}

// readTime reads a date, or the seconds since 1970.
func readTime(s string) (time.Time, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && (len(s) > 4 || n < 1900) {
		return time.Unix(n, 0), n >= 0
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// readPrefix reads an address or a range of them.
func readPrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

func readBool(s string) (b, ok bool) {
	return strings.EqualFold(s, "true"), strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
}

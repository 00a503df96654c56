package policy

import (
	"strings"
	"unicode/utf8"
)

// pattern is a text with wildcards and variables.
type pattern struct {
	raw   string
	exact bool // it has neither: raw is the text
	any   bool // it is just *
	head  string
	// must is its longest literal text, which whatever fits holds; "" for patterns with variables.
	must string
	// parts, when the pattern is not exact.
	parts []part
	vars  bool
	fold  bool // letters are compared as small ones; what is matched must be in small letters already
}

type part struct {
	kind     partKind
	text     string // literal text, or the variable's key in small letters
	name     string // the variable's key as it is written
	fallback string // the variable's default
	hasDef   bool
}

type partKind int

const (
	literal  partKind = iota
	one               // ?
	star              // *
	variable          // ${key}
)

// compilePattern reads a pattern; variables tells whether ${…} stands for something.
func compilePattern(raw string, variables, fold bool) pattern {
	p := pattern{raw: raw, fold: fold}
	if fold {
		p.raw = strings.ToLower(raw)
	}
	p.parts = split(p.raw, variables, true)
	p.finish()
	return p
}

// compileText reads a text without wildcards, which may have variables.
func compileText(raw string, variables bool) pattern {
	p := pattern{raw: raw, parts: split(raw, variables, false)}
	p.finish()
	return p
}

func (p *pattern) finish() {
	switch {
	case len(p.parts) == 0:
		p.exact, p.raw = true, ""
	case len(p.parts) == 1 && p.parts[0].kind == literal:
		p.exact, p.raw = true, p.parts[0].text
	case len(p.parts) == 1 && p.parts[0].kind == star:
		p.any = true
	}
	p.head = ""
	if len(p.parts) > 0 && p.parts[0].kind == literal {
		p.head = p.parts[0].text
	}
	p.must = ""
	for _, q := range p.parts {
		p.vars = p.vars || q.kind == variable
		if q.kind == literal && len(q.text) > len(p.must) {
			p.must = q.text
		}
	}
	if p.vars {
		p.must = ""
	}
}

// split takes a pattern apart. ${*}, ${?} and ${$} are the characters themselves.
func split(raw string, variables, wild bool) (parts []part) {
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			parts = append(parts, part{kind: literal, text: lit.String()})
			lit.Reset()
		}
	}
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case wild && c == '*':
			flush()
			if len(parts) == 0 || parts[len(parts)-1].kind != star {
				parts = append(parts, part{kind: star})
			}
			continue
		case wild && c == '?':
			flush()
			parts = append(parts, part{kind: one})
			continue
		case variables && c == '$' && strings.HasPrefix(raw[i:], "${"):
			end := strings.IndexByte(raw[i:], '}')
			if end < 0 {
				break
			}
			inner := raw[i+2 : i+end]
			i += end
			if inner == "*" || inner == "?" || inner == "$" {
				lit.WriteString(inner)
				continue
			}
			flush()
			parts = append(parts, readVariable(inner))
			continue
		}
		lit.WriteByte(c)
	}
	flush()
	return parts
}

// readVariable reads "key" or "key, 'default'".
func readVariable(inner string) part {
	name, def, has := strings.Cut(inner, ",")
	name = strings.TrimSpace(name)
	p := part{kind: variable, name: name, text: strings.ToLower(name)}
	if def = strings.TrimSpace(def); has && len(def) >= 2 && def[0] == '\'' && def[len(def)-1] == '\'' {
		p.fallback, p.hasDef = def[1:len(def)-1], true
	}
	return p
}

func (p *pattern) variables(add func(string)) {
	for _, q := range p.parts {
		if q.kind == variable {
			add(q.name)
		}
	}
}

// resolve returns the parts with variables replaced by what they stand for, whose wildcards are none; ok is false when one has no value.
func (p *pattern) resolve(keys Keys) (parts []part, ok bool) {
	if !p.vars {
		return p.parts, true
	}
	parts = make([]part, len(p.parts))
	for i, q := range p.parts {
		if q.kind == variable {
			switch v := keys[q.text]; {
			case len(v) == 1 && !multivalued(q.text):
				q.text = v[0]
			case q.hasDef:
				q.text = q.fallback
			default:
				return nil, false
			}
			q.kind = literal
		}
		parts[i] = q
	}
	return parts, true
}

// match tells whether a text fits; known is false when a variable has no value.
func (p *pattern) match(s string, keys Keys) (fits, known bool) {
	switch {
	case p.any:
		return true, true
	case p.exact:
		return s == p.raw, true
	case !strings.HasPrefix(s, p.head):
		if !p.vars {
			return false, true
		}
	}
	if p.must != "" && len(p.must) > len(p.head) && !strings.Contains(s, p.must) {
		return false, true
	}
	parts, ok := p.resolve(keys)
	if !ok {
		return false, false
	}
	return matchParts(parts, s), true
}

// value returns what a pattern without wildcards stands for.
func (p *pattern) value(keys Keys) (s string, known bool) {
	if p.exact {
		return p.raw, true
	}
	parts, ok := p.resolve(keys)
	if !ok {
		return "", false
	}
	for _, q := range parts {
		s += q.text
	}
	return s, true
}

// matchParts matches with one way back: to the last star, which is enough, as what follows an earlier one has matched at its first
// place already.
func matchParts(parts []part, s string) bool {
	if last := &parts[len(parts)-1]; last.kind == literal && !strings.HasSuffix(s, last.text) {
		return false
	}
	i, at := 0, 0
	back, from := -1, 0
	for {
		if i < len(parts) {
			switch q := &parts[i]; {
			case q.kind == star:
				if i == len(parts)-1 {
					return true
				}
				back, from = i, at
				i++
				if at = find(&parts[i], s, at); at < 0 {
					return false
				}
				from = at
				continue
			case q.kind == one && at < len(s):
				_, n := utf8.DecodeRuneInString(s[at:])
				i, at = i+1, at+n
				continue
			case q.kind == literal && strings.HasPrefix(s[at:], q.text):
				i, at = i+1, at+len(q.text)
				continue
			}
		} else if at == len(s) {
			return true
		}
		if back < 0 || from >= len(s) {
			return false
		}
		i = back + 1
		if at = find(&parts[i], s, from+1); at < 0 {
			return false
		}
		from = at
	}
}

// find is the first place from at on where a part that follows a star may begin, -1 without one.
func find(q *part, s string, at int) int {
	if q.kind != literal {
		return at
	}
	if i := strings.Index(s[at:], q.text); i >= 0 {
		return at + i
	}
	return -1
}

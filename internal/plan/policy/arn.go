package policy

import "strings"

// resource is a pattern of a Resource: * crosses every separator.
type resource struct{ pattern }

func compileResource(raw string, variables bool) resource {
	return resource{compilePattern(raw, variables, false)}
}

// arnPattern is one of ArnLike: six parts, each of which is compared for itself.
type arnPattern struct {
	parts [6]pattern
	whole pattern // of what has fewer parts
	six   bool
}

func compileARN(raw string, variables bool) arnPattern {
	a := arnPattern{whole: compilePattern(raw, variables, false)}
	fields := [][]part{{}}
	for _, p := range split(raw, variables, true) {
		last := len(fields) - 1
		if p.kind != literal {
			fields[last] = append(fields[last], p)
			continue
		}
		rest := p.text
		for len(fields) < 6 {
			before, after, ok := strings.Cut(rest, ":")
			if !ok {
				break
			}
			if before != "" {
				fields[len(fields)-1] = append(fields[len(fields)-1], part{kind: literal, text: before})
			}
			fields, rest = append(fields, nil), after
		}
		if rest != "" {
			fields[len(fields)-1] = append(fields[len(fields)-1], part{kind: literal, text: rest})
		}
	}
	if a.six = len(fields) == 6; a.six {
		for i, f := range fields {
			a.parts[i] = pattern{parts: f}
			a.parts[i].finish()
		}
	}
	return a
}

func (a *arnPattern) variables(add func(string)) { a.whole.variables(add) }

// match tells whether an ARN fits; what is no ARN fits nothing but "*".
func (a *arnPattern) match(s string, keys Keys) (fits, known bool) {
	if a.whole.any {
		return true, true
	}
	if !a.six {
		_, known := a.whole.resolve(keys)
		return false, known
	}
	for i := range a.parts {
		field := s
		if i < 5 {
			before, after, ok := strings.Cut(s, ":")
			if !ok {
				return false, true
			}
			field, s = before, after
		}
		if fits, known := a.parts[i].match(field, keys); !fits {
			return false, known
		}
	}
	return true, true
}

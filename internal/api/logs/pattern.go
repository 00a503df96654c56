package logs

import (
	"strings"
)

// pattern is a filter pattern for unstructured events: every term of all, none of none, and one of any when there are any.
type pattern struct{ all, none, any []string }

// maxPattern is how many characters a pattern may have (API reference).
const maxPattern = 1024

func (p pattern) matches(message string) bool {
	for _, term := range p.none {
		if strings.Contains(message, term) {
			return false
		}
	}
	for _, term := range p.all {
		if !strings.Contains(message, term) {
			return false
		}
	}
	for _, term := range p.any {
		if strings.Contains(message, term) {
			return true
		}
	}
	return len(p.any) == 0
}

// parsePattern reads terms and quoted phrases, each with an optional "-" (must not occur) or "?" (one of these must occur).
func parsePattern(text string) (p pattern, err error) {
	if len(text) > maxPattern {
		return p, invalid("1 validation error detected: Value at 'filterPattern' failed to satisfy constraint: "+
			"Member must have length less than or equal to %d", maxPattern)
	}
	rest := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(rest, "{"):
		return p, invalid("Invalid filter pattern: JSON filter patterns are not supported by Berth yet; use terms.")
	case strings.HasPrefix(rest, "["):
		return p, invalid("Invalid filter pattern: space-delimited filter patterns are not supported by Berth yet; use terms.")
	}
	for rest != "" {
		list := &p.all
		switch rest[0] {
		case '-':
			list, rest = &p.none, rest[1:]
		case '?':
			list, rest = &p.any, rest[1:]
		}
		var term string
		if term, rest, err = cutTerm(rest); err != nil {
			return p, err
		}
		*list = append(*list, term)
		rest = strings.TrimSpace(rest)
	}
	if len(p.any) > 0 && len(p.all)+len(p.none) > 0 {
		return p, invalid("Invalid filter pattern: terms with \"?\" cannot be combined with other terms.")
	}
	return p, nil
}

// cutTerm takes a phrase in double quotes (\" and \\ stand for themselves in it) or a word off the front of text.
func cutTerm(text string) (term, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, " \t\r\n")
		if end < 0 {
			end = len(text)
		}
		term, rest = text[:end], text[end:]
		switch {
		case term == "":
			return "", "", invalid("Invalid filter pattern: \"-\" or \"?\" without a term.")
		case strings.HasPrefix(term, "%"):
			return "", "", invalid("Invalid filter pattern: regular expressions are not supported by Berth yet; use terms.")
		}
		return term, rest, nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"' && b.Len() == 0:
			return "", "", invalid("Invalid filter pattern: an empty phrase.")
		case text[i] == '"':
			return b.String(), text[i+1:], nil
		case text[i] == '\\' && i+1 < len(text) && strings.IndexByte(`"\`, text[i+1]) >= 0:
			i++
		}
		b.WriteByte(text[i])
	}
	return "", "", invalid("Invalid filter pattern: a quotation mark is not closed.")
}

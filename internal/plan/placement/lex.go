package placement

import "strings"

// lexer reads tokens from in; at is how far it has come.
type lexer struct {
	in string
	at int
}

// delimiters end an unquoted word.
const delimiters = " \t\r\n()[],!=<>&|'\""

func (l *lexer) space() {
	for l.at < len(l.in) && strings.IndexByte(" \t\r\n", l.in[l.at]) >= 0 {
		l.at++
	}
}

// symbol takes s when it comes next.
func (l *lexer) symbol(s string) bool {
	l.space()
	if !strings.HasPrefix(l.in[l.at:], s) {
		return false
	}
	l.at += len(s)
	return true
}

// keyword takes s, in any case, when it comes next as a whole word.
func (l *lexer) keyword(s string) bool {
	l.space()
	rest := l.in[l.at:]
	if len(rest) < len(s) || !strings.EqualFold(rest[:len(s)], s) {
		return false
	}
	if len(rest) > len(s) && strings.IndexByte(delimiters, rest[len(s)]) < 0 {
		return false
	}
	l.at += len(s)
	return true
}

// word takes an unquoted word, "" when none comes next.
func (l *lexer) word() string {
	from := l.at
	for l.at < len(l.in) && strings.IndexByte(delimiters, l.in[l.at]) < 0 {
		l.at++
	}
	return l.in[from:l.at]
}

// value takes a word or a quoted string.
func (l *lexer) value() (string, bool) {
	l.space()
	if s, quoted, ok := l.quoted(); quoted {
		return s, ok
	}
	w := l.word()
	return w, w != ""
}

// quoted takes a quoted string. quoted tells that one begins here; ok that it also ends.
func (l *lexer) quoted() (s string, quoted, ok bool) {
	if l.at >= len(l.in) || (l.in[l.at] != '\'' && l.in[l.at] != '"') {
		return "", false, false
	}
	end := strings.IndexByte(l.in[l.at+1:], l.in[l.at])
	if end < 0 {
		return "", true, false
	}
	s = l.in[l.at+1 : l.at+1+end]
	l.at += end + 2
	return s, true, true
}

// regexp takes a quoted string, or everything up to a space, or up to a ")" that the expression itself did not open.
func (l *lexer) regexp() (string, bool) {
	l.space()
	if s, quoted, ok := l.quoted(); quoted {
		return s, ok
	}
	from, depth := l.at, 0
	for ; l.at < len(l.in); l.at++ {
		switch c := l.in[l.at]; {
		case c == '\\' && l.at+1 < len(l.in):
			l.at++
			continue
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
			continue
		case c == ')' || strings.IndexByte(" \t\r\n", c) >= 0:
			return l.in[from:l.at], l.at > from
		}
	}
	return l.in[from:l.at], l.at > from
}

// Package h1 reads and writes the heads and bodies of HTTP/1.1 messages as RFC 9112 has them, and nothing that could be read in two
// ways: what it accepts, every server behind it reads as the same message. It does no input or output and allocates nothing once
// its values have grown: names and values are views of the buffer that was read, good for as long as that buffer is left alone.
package h1

import (
	"bytes"
	"unsafe"
)

// The largest heads. A client's that is larger is answered with 431.
const (
	MaxHead   = 64 << 10
	MaxFields = 256
)

// Error is why a message is refused; Status is the answer that a client gets for such a request. Its connection is of no more use.
type Error struct {
	Status int
	Reason string
}

// Error implements error.
func (e *Error) Error() string { return e.Reason }

// What is refused.
var (
	ErrTooLarge = &Error{431, "the head is too large"}

	errLine     = &Error{400, "a line does not end in CR LF"}
	errStart    = &Error{400, "the first line is not one of HTTP/1"}
	errControl  = &Error{400, "a control character in a head"}
	errName     = &Error{400, "a header's name is not a token followed by a colon"}
	errFolded   = &Error{400, "a header is folded over lines"}
	errLength   = &Error{400, "Content-Length is not one number"}
	errEncoding = &Error{400, "Transfer-Encoding is not chunked alone"}
	errBoth     = &Error{400, "both Content-Length and Transfer-Encoding"}
	errTarget   = &Error{400, "the request's target is malformed"}
	errHost     = &Error{400, "the request does not have one Host that its target agrees with"}
	errVersion  = &Error{505, "the version is not HTTP/1"}
	errStatus   = &Error{400, "the answer's status is malformed"}
)

// Field is a header.
type Field struct {
	Kind        Kind
	Name, Value string
}

// HeadEnd returns the length of the head that buf begins with, 0 when it is not whole yet. What is before from has been looked at
// by an earlier call. A head that can't become a good one is refused early: a connection that speaks something else is not kept
// waiting.
func HeadEnd(buf []byte, from int) (int, error) {
	from = max(0, from-3)
	if i := bytes.Index(buf[from:], crlf2); i >= 0 {
		if from+i+len(crlf2) > MaxHead {
			return 0, ErrTooLarge
		}
		return from + i + len(crlf2), nil
	}
	for i := from; i < len(buf); i++ {
		switch c := buf[i]; {
		case c == '\n' && (i == 0 || buf[i-1] != '\r'):
			return 0, errLine
		case c == 0:
			return 0, errControl
		}
	}
	if len(buf) > 0 && class[buf[0]]&token == 0 {
		return 0, errStart
	}
	if len(buf) >= MaxHead {
		return 0, ErrTooLarge
	}
	return 0, nil
}

var crlf2 = []byte("\r\n\r\n")

// view makes a string of bytes that do not change while it is used.
func view(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

// line cuts the first line off s.
func line(s string) (first, rest string, err error) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\r':
			if i+1 < len(s) && s[i+1] == '\n' {
				return s[:i], s[i+2:], nil
			}
			return "", "", errLine
		case '\n':
			return "", "", errLine
		}
	}
	return "", "", errLine
}

// frame is what the fields of a message say of its body and connection.
type frame struct {
	length      int64 // of Content-Length; -1: there is none
	lengthText  string
	chunked     bool
	encodings   int
	close, keep bool
	named       bool // Connection names more than close and keep-alive
	upgrade     bool // Connection or a field of that name
}

// fields reads header lines up to the empty one, which ends s.
func fields(s string, to []Field, f *frame) ([]Field, error) {
	*f = frame{length: -1}
	for {
		if s == crlf {
			return to, nil
		}
		if len(to) == MaxFields {
			return to, ErrTooLarge
		}
		one, rest, err := field(s)
		if err != nil {
			return to, err
		}
		s = rest
		to = append(to, one)
		if one.Kind < Host {
			if err := f.note(one); err != nil {
				return to, err
			}
		}
	}
}

const crlf = "\r\n"

// field reads one header line.
func field(s string) (one Field, rest string, err error) {
	i := 0
	for i < len(s) && class[s[i]]&token != 0 {
		i++
	}
	switch {
	case i < len(s) && i == 0 && (s[0] == ' ' || s[0] == '\t'):
		return one, "", errFolded
	case i == len(s) || i == 0 || s[i] != ':':
		return one, "", errName
	}
	one.Name = s[:i]
	one.Kind = kindOf(one.Name)
	for i++; i < len(s) && (s[i] == ' ' || s[i] == '\t'); {
		i++
	}
	begin := i
	for i < len(s) && class[s[i]]&text != 0 {
		i++
	}
	if i+1 >= len(s) || s[i] != '\r' || s[i+1] != '\n' {
		if i < len(s) && s[i] != '\r' && s[i] != '\n' {
			return one, "", errControl
		}
		return one, "", errLine
	}
	end := i
	for end > begin && (s[end-1] == ' ' || s[end-1] == '\t') {
		end--
	}
	one.Value = s[begin:end]
	return one, s[i+2:], nil
}

// note takes what one field says.
func (f *frame) note(one Field) error {
	switch one.Kind {
	case ContentLength:
		if f.length >= 0 && f.lengthText != one.Value {
			return errLength
		}
		n, ok := number(one.Value)
		if !ok {
			return errLength
		}
		f.length, f.lengthText = n, one.Value
	case TransferEncoding:
		if f.encodings++; f.encodings > 1 || !equal(one.Value, "chunked") {
			return errEncoding
		}
		f.chunked = true
	case Connection:
		for rest := one.Value; rest != ""; {
			var option string
			option, rest = cut(rest, ',')
			switch {
			case equal(option, "close"):
				f.close = true
			case equal(option, "keep-alive"):
				f.keep = true
			case equal(option, "upgrade"):
				f.upgrade = true
			case option != "":
				f.named = true
			}
		}
	case Upgrade:
		f.upgrade = true
	}
	return nil
}

// number reads digits, at most as many as an int64 is sure to hold.
func number(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int64(s[i]-'0')
	}
	return n, true
}

// cut returns the first element of a list, trimmed, and what follows its separator.
func cut(s string, by byte) (first, rest string) {
	i := 0
	for i < len(s) && s[i] != by {
		i++
	}
	first = s[:i]
	if i < len(s) {
		rest = s[i+1:]
	}
	for first != "" && (first[0] == ' ' || first[0] == '\t') {
		first = first[1:]
	}
	for first != "" && (first[len(first)-1] == ' ' || first[len(first)-1] == '\t') {
		first = first[:len(first)-1]
	}
	return first, rest
}

// named tells whether a Connection field among all names a field of that name.
func named(all []Field, name string) bool {
	for i := range all {
		if all[i].Kind != Connection {
			continue
		}
		for rest := all[i].Value; rest != ""; {
			var option string
			if option, rest = cut(rest, ','); equal(option, name) {
				return true
			}
		}
	}
	return false
}

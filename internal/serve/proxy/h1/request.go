package h1

// Request is a request's head.
type Request struct {
	Raw            string // all of it
	Method, Target string
	Path           string // of Target: what is before the question mark, as the client encoded it
	Query          string // of Target: what follows it
	Host           string
	Fields         []Field
	Length         int64 // of the body; -1: chunked
	Old            bool  // the version is 1.0
	Close          bool  // the client sends nothing more on the connection
	Trailers       bool  // the client reads trailers
	// Plain holds for a request that a proxy can pass on as it stands. What is not plain is legal, but wants more: another version,
	// Upgrade, Expect, trailers, a target or a name that is to be normalised.
	Plain bool

	frame frame
}

// Preface is the head that a client begins HTTP/2 with.
const Preface = "PRI * HTTP/2.0\r\n\r\n"

// Parse reads head, which HeadEnd has found. A head that could mean two things is refused.
func (r *Request) Parse(head []byte) error {
	s := view(head)
	*r = Request{Raw: s, Fields: r.Fields[:0]}
	if s == Preface {
		return nil
	}
	first, rest, err := line(s)
	if err != nil {
		return err
	}
	one, err := r.start(first)
	if err != nil {
		return err
	}
	if r.Fields, err = fields(rest, r.Fields, &r.frame); err != nil {
		return err
	}
	if err := r.framing(one); err != nil {
		return err
	}
	return r.named(one)
}

// start reads the first line: method, target and version, parted by single spaces. It tells whether the version is 1.1 or later.
func (r *Request) start(s string) (one bool, err error) {
	i := 0
	for i < len(s) && class[s[i]]&token != 0 {
		i++
	}
	if i == 0 || i == len(s) || s[i] != ' ' {
		return false, errStart
	}
	r.Method = s[:i]
	s = s[i+1:]
	for i = 0; i < len(s) && class[s[i]]&seen != 0; {
		i++
	}
	if i == 0 || i == len(s) || s[i] != ' ' {
		return false, errTarget
	}
	r.Target = s[:i]
	version := s[i+1:]
	if len(version) != len("HTTP/1.1") || version[:5] != "HTTP/" || version[5] < '0' || version[5] > '9' || version[6] != '.' ||
		version[7] < '0' || version[7] > '9' {
		return false, errStart
	}
	if version[5] != '1' {
		return false, errVersion
	}
	r.Old = version[7] == '0'
	plain, err := r.target()
	r.Plain = plain && version[7] <= '1'
	return !r.Old, err
}

// target takes the target apart; plain when it is a path that every server reads alike.
func (r *Request) target() (plain bool, err error) {
	t := r.Target
	if t[0] != '/' {
		return false, nil // named() looks at the other forms
	}
	i := 0
	plain = true
	for ; i < len(t) && t[i] != '?'; i++ {
		switch c := t[i]; {
		case class[c]&path != 0:
		case c == '%':
			if i+2 >= len(t) || class[t[i+1]]&hex == 0 || class[t[i+2]]&hex == 0 {
				return false, errTarget
			}
			i += 2
		default:
			plain = false
		}
	}
	r.Path = t[:i]
	if i < len(t) {
		r.Query = t[i+1:]
	}
	for j := 0; j < len(r.Query); j++ {
		if class[r.Query[j]]&query == 0 {
			plain = false
		}
	}
	return plain, nil
}

// framing decides where the body ends.
func (r *Request) framing(one bool) error {
	f := &r.frame
	switch {
	case f.chunked && f.length >= 0:
		return errBoth
	case f.chunked && !one:
		return errEncoding
	case f.chunked:
		r.Length = -1
	case f.length >= 0:
		r.Length = f.length
	}
	r.Close = f.close || !one && !f.keep
	if f.upgrade {
		r.Plain = false
	}
	return nil
}

// named checks Host, and what else of the fields decides who may handle the request.
func (r *Request) named(one bool) error {
	hosts := 0
	for i := range r.Fields {
		switch f := &r.Fields[i]; f.Kind {
		case Host:
			hosts++
			r.Host = f.Value
		case Expect, Trailer:
			r.Plain = false
		case TE:
			for rest := f.Value; rest != ""; {
				var option string
				if option, rest = cut(rest, ','); equal(option, "trailers") {
					r.Trailers = true
				}
			}
		}
	}
	if hosts > 1 || hosts == 0 && one {
		return errHost
	}
	for i := 0; i < len(r.Host); i++ {
		if class[r.Host[i]]&seen == 0 || r.Host[i] == '/' || r.Host[i] == '?' || r.Host[i] == '#' || r.Host[i] == '@' || r.Host[i] == '\\' {
			return errHost
		}
	}
	r.Plain = r.Plain && plainHost(r.Host)
	return r.form()
}

// form checks a target that is not a path: "*" of OPTIONS, the authority of CONNECT, or a URI whose authority is the Host's.
func (r *Request) form() error {
	t := r.Target
	switch {
	case t[0] == '/':
		return nil
	case r.Method == "CONNECT":
		return nil
	case t == "*":
		if r.Method != "OPTIONS" {
			return errTarget
		}
		return nil
	case len(t) > 7 && equal(t[:7], "http://"):
		t = t[7:]
	case len(t) > 8 && equal(t[:8], "https://"):
		t = t[8:]
	default:
		return errTarget
	}
	i := 0
	for i < len(t) && t[i] != '/' && t[i] != '?' {
		i++
	}
	if i == 0 || !equal(t[:i], r.Host) {
		return errHost
	}
	return nil
}

// plainHost holds for names and addresses, with or without a port.
func plainHost(s string) bool {
	i := 0
	if s != "" && s[0] == '[' {
		for i++; i < len(s) && (class[s[i]]&hex != 0 || s[i] == ':' || s[i] == '.'); {
			i++
		}
		if i < 2 || i == len(s) || s[i] != ']' {
			return false
		}
		i++
	} else {
		for i < len(s) && class[s[i]]&name != 0 {
			i++
		}
	}
	if i == 0 || i == len(s) {
		return i > 0
	}
	if s[i] != ':' || len(s) < i+2 || len(s) > i+6 {
		return false
	}
	_, ok := number(s[i+1:])
	return ok
}

// Named tells whether the client called the field its connection's own.
func (r *Request) Named(name string) bool { return r.frame.named && named(r.Fields, name) }

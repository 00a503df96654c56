package h1

// UntilClose is the length of a body that ends with its connection.
const UntilClose = -2

// Response is an answer's head.
type Response struct {
	Status int
	Reason string
	Fields []Field
	// Length is that of the body: -1 when it is chunked, UntilClose when the connection's end is its own. It is 0 where there is none
	// because of the request's method or the status.
	Length int64
	// Said is the Content-Length, -1 when there is none: an answer without a body may have one too (HEAD, 304).
	Said int64
	// Close tells that the connection can't be used for another request.
	Close bool

	frame frame
}

// Parse reads head, which HeadEnd has found, of the answer to a request of that method. An interim answer (1xx) has no body; another
// head follows it.
func (r *Response) Parse(head []byte, method string) error {
	*r = Response{Fields: r.Fields[:0]}
	first, rest, err := line(view(head))
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
	f := &r.frame
	switch {
	case f.chunked && f.length >= 0:
		return errBoth
	case f.chunked && !one:
		return errEncoding
	}
	r.Said = f.length
	r.Close = f.close || !one && !f.keep
	none := r.Status < 200 || r.Status == 204
	switch {
	case none:
		if f.chunked || f.length > 0 { // it may send a body that is none: who could say where the next answer begins?
			r.Close = true
		}
	case r.Status == 304 || method == "HEAD":
	case f.chunked:
		r.Length = -1
	case f.length >= 0:
		r.Length = f.length
	default:
		r.Length, r.Close = UntilClose, true
	}
	return nil
}

// start reads the first line: version, status and, if it likes, the reason. It tells whether the version is 1.1 or later.
func (r *Response) start(s string) (one bool, err error) {
	if len(s) < len("HTTP/1.1 200") || s[:7] != "HTTP/1." || s[7] < '0' || s[7] > '9' || s[8] != ' ' {
		return false, errStart
	}
	for _, c := range []byte(s[9:12]) {
		if c < '0' || c > '9' {
			return false, errStatus
		}
		r.Status = 10*r.Status + int(c-'0')
	}
	if r.Status < 100 || len(s) > 12 && s[12] != ' ' {
		return false, errStatus
	}
	if len(s) > 13 {
		r.Reason = s[13:]
	}
	for i := 0; i < len(r.Reason); i++ {
		if class[r.Reason[i]]&text == 0 {
			return false, errControl
		}
	}
	return s[7] != '0', nil
}

// Named tells whether the target called the field its connection's own.
func (r *Response) Named(name string) bool { return r.frame.named && named(r.Fields, name) }

package h1

// Kind tells the fields apart that mean something to a proxy.
type Kind uint8

// The kinds of fields. Those before Host speak of the connection or the body's frame: they are made anew, never passed on.
const (
	ContentLength Kind = iota
	TransferEncoding
	Connection
	Upgrade
	HopByHop // Keep-Alive, Proxy-Connection, Proxy-Authenticate, Proxy-Authorization
	TE
	Trailer
	Host
	Expect
	Date
	Server
	ForwardedFor // X-Forwarded-For
	Forwarded    // Forwarded, X-Forwarded-Host, X-Forwarded-Proto, X-Forwarded-Port
	TraceID      // X-Amzn-Trace-Id
	Other
)

// kindOf knows a name by its length first: most names are compared once or never.
func kindOf(name string) Kind {
	want, kind := "", Other
	switch len(name) {
	case 2:
		want, kind = "TE", TE
	case 4:
		if want, kind = "Host", Host; name[0]|0x20 == 'd' {
			want, kind = "Date", Date
		}
	case 6:
		if want, kind = "Expect", Expect; name[0]|0x20 == 's' {
			want, kind = "Server", Server
		}
	case 7:
		if want, kind = "Trailer", Trailer; name[0]|0x20 == 'u' {
			want, kind = "Upgrade", Upgrade
		}
	case 9:
		want, kind = "Forwarded", Forwarded
	case 10:
		if want, kind = "Connection", Connection; name[0]|0x20 == 'k' {
			want, kind = "Keep-Alive", HopByHop
		}
	case 14:
		want, kind = "Content-Length", ContentLength
	case 15:
		if want, kind = "X-Forwarded-For", ForwardedFor; name[2]|0x20 == 'a' {
			want, kind = "X-Amzn-Trace-Id", TraceID
		}
	case 16:
		switch name[len(name)-1] | 0x20 {
		case 't':
			if want, kind = "X-Forwarded-Port", Forwarded; name[12]|0x20 == 'h' {
				want = "X-Forwarded-Host"
			}
		case 'n':
			want, kind = "Proxy-Connection", HopByHop
		}
	case 17:
		if want, kind = "Transfer-Encoding", TransferEncoding; name[0]|0x20 == 'x' {
			want, kind = "X-Forwarded-Proto", Forwarded
		}
	case 18:
		want, kind = "Proxy-Authenticate", HopByHop
	case 19:
		want, kind = "Proxy-Authorization", HopByHop
	}
	if kind != Other && equal(name, want) {
		return kind
	}
	return Other
}

// equal compares without regard to the case of ASCII letters, and of nothing else.
func equal(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}

// The classes of bytes.
const (
	token uint8 = 1 << iota // of names and methods (RFC 9110, 5.6.2)
	text                    // of values: everything but control characters, tab excepted
	path                    // of paths that every server reads alike (RFC 3986, pchar, "/", and "[" and "]" as net/url has it)
	query                   // of queries: what can be seen, "#" excepted
	seen                    // of a target at all: neither control character nor space
	name                    // of a host's name
	hex
)

var class = classes()

func classes() (all [256]uint8) {
	for i := range all {
		c := byte(i)
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' && c < 0x80
		digit := c >= '0' && c <= '9'
		if letter || digit {
			all[i] |= token | path | name
		}
		if digit || c|0x20 >= 'a' && c|0x20 <= 'f' && letter {
			all[i] |= hex
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			all[i] |= text
		}
		if c > ' ' && c != 0x7f {
			all[i] |= seen
		}
		if c > ' ' && c < 0x7f && c != '#' {
			all[i] |= query
		}
	}
	for bits, chars := range map[uint8]string{token: "!#$%&'*+-.^_`|~", path: "-._~!$&'()*+,;=:@/[]", name: "-._"} {
		for _, c := range []byte(chars) {
			all[c] |= bits
		}
	}
	return all
}

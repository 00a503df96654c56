package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
)

// head parses what begins with a request's head.
func head(text string) (*Request, error) {
	n, err := HeadEnd([]byte(text), 0)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	r := &Request{}
	return r, r.Parse([]byte(text[:n]))
}

// heads are requests and what becomes of them: "plain", "odd" (the library's), or a status.
var heads = map[string]string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                                 "plain",
	"GET /a%2Fb/../c?x=1;y=%zz&z HTTP/1.1\r\nHost: shop.example:81\r\n\r\n":             "plain",
	"GET //b?? HTTP/1.1\r\nHost: [::1]:80\r\n\r\n":                                      "plain",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n":                           "plain",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length:5\t\r\n\r\n":     "plain",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n":                  "plain",
	"GET / HTTP/1.1\r\nhost:a\r\nEmpty:\r\nHigh: \xff\r\nTab: a\tb\r\n\r\n":             "plain",
	"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n":                                               "plain",
	"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n":                       "plain",
	"GET / HTTP/1.0\r\n\r\n":                                                            "odd",
	"GET / HTTP/1.2\r\nHost: a\r\n\r\n":                                                 "odd",
	Preface:                                                                             "odd",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n":                                             "odd",
	"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n":                                         "odd",
	"GET http://a/b HTTP/1.1\r\nHost: A\r\n\r\n":                                        "odd",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Upgrade\r\nUpgrade: websocket\r\n\r\n": "odd",
	"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n":                                 "odd",
	"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n":    "odd",
	"PUT / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\n\r\n":                                   "odd",
	"GET /a|b HTTP/1.1\r\nHost: a\r\n\r\n":                                              "odd",
	"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n":                                             "odd",
	"GET /?\xff HTTP/1.1\r\nHost: a\r\n\r\n":                                            "odd",
	"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n":                                              "odd",
	"GET / HTTP/1.1\r\nHost:\r\n\r\n":                                                   "odd",
	"GET / HTTP/1.1\r\nHost: a:b:c\r\n\r\n":                                             "odd",

	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n":          "400",
	"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n":          "400",
	"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n":                               "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n":                   "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n":                  "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n":                                     "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n":                                       "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n":                                       "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n":                                      "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n":                                          "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n":                     "400",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n":                              "400",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":                         "400",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n": "400",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n":                              "400",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n":                           "400",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n":                                       "400",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n":                                       "400",
	"GET / HTTP/1.1\r\nHost: a\r\n X: 1\r\n\r\n":                                                     "400",
	"GET / HTTP/1.1\r\n Host: a\r\n\r\n":                                                             "400",
	"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n":                                           "400",
	"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n":                                                        "400",
	"GET / HTTP/1.1\nHost: a\n\n":                                                                    "400",
	"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n":                                                   "400",
	"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n":                                                 "400",
	"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n":                                                 "400",
	"GET / HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n":                                                  "400",
	"GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n":                                                       "400",
	"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n":                                                  "400",
	"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n":                                                   "400",
	"GET / HTTP/1.1\r\nX: a\r\n\r\n":                                                                 "400",
	"GET / HTTP/1.1\r\n\r\n":                                                                         "400",
	"GET / HTTP/1.1\r\nHost: a b\r\n\r\n":                                                            "400",
	"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n":                                                            "400",
	"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n":                                                            "400",
	"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n":                                                      "400",
	"GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n":                                                    "400",
	"GET http:///x HTTP/1.1\r\nHost:\r\n\r\n":                                                        "400",
	"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n":                                                       "400",
	"GET a HTTP/1.1\r\nHost: a\r\n\r\n":                                                              "400",
	"GET * HTTP/1.1\r\nHost: a\r\n\r\n":                                                              "400",
	"GET /%z1 HTTP/1.1\r\nHost: a\r\n\r\n":                                                           "400",
	"GET /%1 HTTP/1.1\r\nHost: a\r\n\r\n":                                                            "400",
	"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n":                                                          "400",
	"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n":                                                           "400",
	"GET  / HTTP/1.1\r\nHost: a\r\n\r\n":                                                             "400",
	"GET /  HTTP/1.1\r\nHost: a\r\n\r\n":                                                             "400",
	"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n":                                                             "400",
	"GET / HTTP/1.1 \r\nHost: a\r\n\r\n":                                                             "400",
	"GET / http/1.1\r\nHost: a\r\n\r\n":                                                              "400",
	"GET / HTTP/1.10\r\nHost: a\r\n\r\n":                                                             "400",
	"GET /\r\n\r\n":                                                                                  "400",
	"G@T / HTTP/1.1\r\nHost: a\r\n\r\n":                                                              "400",
	"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n":                                                          "400",
	"\x16\x03\x01\x02":                                                                               "400",
	"GET / HTTP/2.0\r\nHost: a\r\n\r\n":                                                              "505",
	"GET / HTTP/3.1\r\nHost: a\r\n\r\n":                                                              "505",
	"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", MaxHead) + "\r\n\r\n":                   "431",
	"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", MaxHead):                                "431",
	"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: x\r\n", MaxFields) + "\r\n":                 "431",
}

func TestRequestHeads(t *testing.T) {
	for text, want := range heads {
		r, err := head(text)
		got := "odd"
		var refused *Error
		switch {
		case errors.As(err, &refused):
			got = fmt.Sprint(refused.Status)
		case err != nil:
			got = err.Error()
		case r.Plain:
			got = "plain"
		}
		if got != want {
			t.Errorf("%.120q is %s (%v), want %s", text, got, err, want)
		}
	}
}

func TestWhatAHeadSays(t *testing.T) {
	r, err := head("POST /a%20b?c=d HTTP/1.1\r\nHost: a:8\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nx-forwarded-FOR: b\r\n" +
		"TE: gzip, trailers\r\nContent-Length: 12\r\nKeep-Alive: 5\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if r.Method != "POST" || r.Path != "/a%20b" || r.Query != "c=d" || r.Host != "a:8" || r.Length != 12 || !r.Close || !r.Trailers ||
		!r.Named("x-mine") || r.Named("X-Other") || !r.Plain {
		t.Errorf("%+v", r)
	}
	var kinds []Kind
	for _, f := range r.Fields {
		kinds = append(kinds, f.Kind)
	}
	if want := []Kind{Host, Connection, Other, ForwardedFor, TE, ContentLength, HopByHop}; fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
}

func TestKindsOfNames(t *testing.T) {
	for name, want := range map[string]Kind{"te": TE, "HOST": Host, "date": Date, "expect": Expect, "server": Server, "trailer": Trailer,
		"Upgrade": Upgrade, "forwarded": Forwarded, "connection": Connection, "keep-alive": HopByHop, "content-length": ContentLength,
		"x-forwarded-for": ForwardedFor, "x-amzn-trace-id": TraceID, "x-forwarded-port": Forwarded, "x-forwarded-host": Forwarded,
		"proxy-connection": HopByHop, "transfer-encoding": TransferEncoding, "x-forwarded-proto": Forwarded,
		"proxy-authenticate": HopByHop, "proxy-authorization": HopByHop, "x-forwarded-fo": Other, "Content_Length": Other, "": Other,
		"content-length\x00": Other, "hos\x54": Host, "HO\x13T": Other} {
		if got := kindOf(name); got != want {
			t.Errorf("%q is %d, want %d", name, got, want)
		}
	}
}

func TestAHeadThatComesInPieces(t *testing.T) {
	text := "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"
	want := len(text) - len("rest")
	for step := range len(text) {
		from := 0
		for to := 0; to < want; to += step + 1 {
			n, err := HeadEnd([]byte(text[:to]), from)
			if n != 0 || err != nil {
				t.Fatalf("%q: %d, %v", text[:to], n, err)
			}
			from = to
		}
		if n, err := HeadEnd([]byte(text), from); n != want || err != nil {
			t.Fatalf("from %d: %d, %v", from, n, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	type want struct {
		status int
		length int64
		close  bool
	}
	for text, want := range map[string]want{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n":                               {200, 5, false},
		"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n":                                  {200, 5, false},
		"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n":                        {200, -1, false},
		"HTTP/1.1 200 OK\r\n\r\n":                                                    {200, UntilClose, true},
		"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n":                               {200, 5, true},
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n":     {200, 5, false},
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n":          {200, 5, true},
		"HTTP/1.1 204 No Content\r\n\r\n":                                            {204, 0, false},
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n":                       {204, 0, true},
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n":                     {304, 0, false},
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n":                                {103, 0, false},
		"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n":                              {999, 0, false},
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n": {},
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":                      {},
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n":                         {},
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n":          {},
		"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n":                                 {},
		"HTTP/1.1 200 OK\r\nX : 5\r\n\r\n":                                           {},
		"HTTP/1.1 200 O\x00K\r\n\r\n":                                                {},
		"HTTP/1.1 20 OK\r\n\r\n":                                                     {},
		"HTTP/1.1 099 OK\r\n\r\n":                                                    {},
		"HTTP/1.1 2000 OK\r\n\r\n":                                                   {},
		"HTTP/1.1  200 OK\r\n\r\n":                                                   {},
		"HTTP/2.0 200 OK\r\n\r\n":                                                    {},
		"ICY 200 OK\r\n\r\n":                                                         {},
	} {
		var r Response
		err := r.Parse([]byte(text), "GET")
		if want.status == 0 {
			if err == nil {
				t.Errorf("%q is accepted", text)
			}
			continue
		}
		if err != nil || r.Status != want.status || r.Length != want.length || r.Close != want.close {
			t.Errorf("%q: %v, %+v, want %+v", text, err, r, want)
		}
	}
	var r Response
	if err := r.Parse([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "HEAD"); err != nil || r.Length != 0 || r.Said != 5 {
		t.Errorf("the answer to HEAD: %v %+v", err, r)
	}
}

// readBody reads a body whose bytes come in steps of that size, and returns what follows it.
func readBody(length int64, text string, step int) (body, trailers, rest string, err error) {
	var b Body
	b.Begin(length)
	var got bytes.Buffer
	for from, to := 0, 0; ; {
		data, n, err := b.Next([]byte(text[from:to]))
		got.Write(data)
		from += n
		switch {
		case err != nil:
			return "", "", "", err
		case b.Done():
			return got.String(), string(b.Trailers()), text[from:], nil
		case n == 0 && to == len(text):
			return got.String(), "", "", io.ErrUnexpectedEOF
		case n == 0:
			to = min(len(text), to+step)
		}
	}
}

func TestBodies(t *testing.T) {
	for _, c := range []struct {
		length                     int64
		text, body, trailers, rest string
		bad                        bool
	}{
		{0, "rest", "", "", "rest", false},
		{3, "abcrest", "abc", "", "rest", false},
		{3, "ab", "", "", "", true},
		{-1, "0\r\n\r\nrest", "", "", "rest", false},
		{-1, "3\r\nabc\r\n0002;x=\"y\"\r\nde\r\n00\r\n\r\nrest", "abcde", "", "rest", false},
		{-1, "A\r\n0123456789\r\n0\r\nX: 1\r\nContent-Length: 5\r\nY:2\r\n\r\nrest", "0123456789", "X: 1\r\nY:2\r\n", "rest", false},
		{-1, "3\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "3\r\nabc\n0\r\n\r\n", "", "", "", true},
		{-1, "3\r\nabcd\r\n0\r\n\r\n", "", "", "", true},
		{-1, "3\r\nabc\rX0\r\n\r\n", "", "", "", true},
		{-1, " 3\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "3 \r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "0x3\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "-3\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "3;a\nb\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "3;a\rb\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "3;\x00\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "fffffffffffffffff\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, "3;" + strings.Repeat("x", maxChunkLine) + "\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{-1, strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\na\r\n", 100) + "0\r\n\r\n", "", "", "", true},
		{-1, "0\r\n" + strings.Repeat("X: 1\r\n", maxTrailers/6+1) + "\r\n", "", "", "", true},
		{-1, "0\r\nX : 1\r\n\r\n", "", "", "", true},
		{-1, "0\r\nX: 1\r\n folded\r\n\r\n", "", "", "", true},
		{-1, "0\r\nX: 1\n\r\n", "", "", "", true},
		{-1, "0\r\nX: 1\r\n", "", "", "", true},
		{-1, "3\r\nab", "", "", "", true},
	} {
		for _, step := range []int{1, 2, 7, 1 << 20} {
			body, trailers, rest, err := readBody(c.length, c.text, step)
			if c.bad != (err != nil) || !c.bad && (body != c.body || trailers != c.trailers || rest != c.rest) {
				t.Errorf("%.60q by %d: %q %q %q %v", c.text, step, body, trailers, rest, err)
			}
		}
	}
	var b Body
	b.Begin(UntilClose)
	if data, n, err := b.Next([]byte("abc")); string(data) != "abc" || n != 3 || err != nil || b.Done() || !b.UntilClose() {
		t.Error("a body that lasts until the connection closes")
	}
}

func TestChunksAreReadAsTheyWereWritten(t *testing.T) {
	to := AppendChunk(nil, []byte("hello"))
	to = AppendChunk(to, nil)
	to = AppendLastChunk(AppendChunk(to, bytes.Repeat([]byte("x"), 300)), []byte("X: 1\r\n"))
	body, trailers, rest, err := readBody(-1, string(to)+"rest", 5)
	if err != nil || body != "hello"+strings.Repeat("x", 300) || trailers != "X: 1\r\n" || rest != "rest" {
		t.Errorf("%q %q %q %v", body, trailers, rest, err)
	}
}

// headerOf makes net/http's header of fields.
func headerOf(fields []Field) http.Header {
	h := http.Header{}
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		h[name] = append(h[name], f.Value)
	}
	return h
}

// same compares our reading of the headers with net/http's, which takes out what makes the frame.
func same(ours, theirs http.Header, without ...string) bool {
	for _, name := range without {
		ours.Del(name)
		theirs.Del(name)
	}
	if len(ours) != len(theirs) {
		return false
	}
	for name, values := range ours {
		if strings.Join(values, "\x00") != strings.Join(theirs[name], "\x00") {
			return false
		}
	}
	return true
}

// FuzzRequest: whatever is accepted, net/http reads as the same request, which ends at the same byte.
func FuzzRequest(f *testing.F) {
	for text := range heads {
		if len(text) < 1000 {
			f.Add([]byte(text + "5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := head(string(b))
		if err != nil || !r.Plain {
			return
		}
		in := bufio.NewReader(bytes.NewReader(b))
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b, err)
		}
		if r.Method != want.Method || r.Target != want.RequestURI || r.Target != want.URL.RequestURI() || r.Path != want.URL.EscapedPath() ||
			r.Query != want.URL.RawQuery || r.Host != want.Host || r.Close != want.Close || r.Length != want.ContentLength {
			t.Fatalf("%q: %+v is not %+v", b, r, want)
		}
		if !same(headerOf(r.Fields), want.Header, "Host", "Transfer-Encoding", "Content-Length", "Connection", "Trailer") {
			t.Fatalf("%q: %+v is not %+v", b, r.Fields, want.Header)
		}
		n, _ := HeadEnd(b, 0)
		compareBody(t, r.Length, b[n:], want.Body, in)
	})
}

// FuzzResponse is FuzzRequest for answers.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.0 200\r\nConnection: keep-alive\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n5;x\r\nhello\r\n0\r\nT: 1\r\n\r\nHTTP", "HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx"} {
		f.Add([]byte(s), "GET")
		f.Add([]byte(s), "HEAD")
	}
	f.Fuzz(func(t *testing.T, b []byte, method string) {
		n, err := HeadEnd(b, 0)
		var r Response
		if err != nil || n == 0 || r.Parse(b[:n], method) != nil {
			return
		}
		in := bufio.NewReader(bytes.NewReader(b))
		want, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b, err)
		}
		if r.Status != want.StatusCode || want.Close && !r.Close ||
			!same(headerOf(r.Fields), want.Header, "Transfer-Encoding", "Content-Length", "Connection", "Trailer") {
			t.Fatalf("%q: %+v is not %+v", b, r, want)
		}
		if r.Status >= 200 {
			compareBody(t, r.Length, b[n:], want.Body, in)
		}
	})
}

// compareBody reads the body both ways. net/http may accept more than we do.
func compareBody(t *testing.T, length int64, b []byte, theirs io.Reader, left *bufio.Reader) {
	want, wantErr := io.ReadAll(theirs)
	after, _ := io.ReadAll(left)
	if length == UntilClose {
		if string(want) != string(b) {
			t.Fatalf("%q is not %q", b, want)
		}
		return
	}
	body, _, rest, err := readBody(length, string(b), 1<<20)
	if err != nil {
		return
	}
	if wantErr != nil || body != string(want) || rest != string(after) {
		t.Fatalf("%q and then %q are not net/http's %q and %q (%v)", body, rest, want, after, wantErr)
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	text := []byte("POST /a/b?c=d HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\nAccept: */*\r\nContent-Length: 5\r\nCookie: a=b; c=d\r\n\r\nhello")
	reply := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nDate: now\r\n\r\n")
	chunks := []byte("5\r\nhello\r\n0\r\nX: y\r\n\r\n")
	var r Request
	var a Response
	var b Body
	if n := testing.AllocsPerRun(100, func() {
		n, _ := HeadEnd(text, 0)
		if r.Parse(text[:n]) != nil || a.Parse(reply, "GET") != nil {
			t.Fatal("refused")
		}
		b.Begin(-1)
		for from := 0; !b.Done(); {
			_, n, err := b.Next(chunks[from:])
			if err != nil {
				t.Fatal(err)
			}
			from += n
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

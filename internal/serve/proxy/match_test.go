package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

func TestWildIsWhatARegularExpressionWouldBe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("ab*?/")), 0, 12, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab/")), 0, 16, -1).Draw(t, "s")
		quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		if want := regexp.MustCompile("^(?s:" + quoted + ")$").MatchString(s); wild(pattern, s) != want {
			t.Fatalf("wild(%q, %q) is %v", pattern, s, !want)
		}
	})
}

func TestHostname(t *testing.T) {
	for in, want := range map[string]string{"a.b": "a.b", "a.b:80": "a.b", "[::1]:80": "::1", "[::1]": "::1", "::1": "::1", "": "", ":80": "",
		"1.2.3.4:5": "1.2.3.4"} {
		if got := hostname(in); got != want {
			t.Errorf("hostname(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestConditions(t *testing.T) {
	values := func(field string, v ...string) Condition { return Condition{Field: field, Values: v} }
	headerIs := func(name string, v ...string) Condition {
		return Condition{Field: "http-header", Header: name, Values: v}
	}
	query := func(kv ...KeyValue) Condition { return Condition{Field: "query-string", Query: kv} }
	from := func(s string) Condition {
		return Condition{Field: "source-ip", Sources: []netip.Prefix{netip.MustParsePrefix(s)}}
	}
	for name, c := range map[string]struct {
		conditions []Condition
		change     func(*http.Request)
		target     string
		want       bool
	}{
		"path":                     {[]Condition{values("path-pattern", "/img/*")}, nil, "/img/a/b.png", true},
		"path, no star":            {[]Condition{values("path-pattern", "/img")}, nil, "/img/", false},
		"path: case matters":       {[]Condition{values("path-pattern", "/IMG/*")}, nil, "/img/a", false},
		"path: any of many":        {[]Condition{values("path-pattern", "/a", "/b")}, nil, "/b", true},
		"path: not the query":      {[]Condition{values("path-pattern", "/a")}, nil, "/a?x=1", true},
		"host":                     {[]Condition{values("host-header", "*.Example.com")}, host("API.example.COM:81"), "/", true},
		"host: another":            {[]Condition{values("host-header", "*.example.com")}, host("example.com"), "/", false},
		"host: one letter":         {[]Condition{values("host-header", "a?.x")}, host("ab.x"), "/", true},
		"method":                   {[]Condition{values("http-request-method", "POST", "GET")}, nil, "/", true},
		"method: case matters":     {[]Condition{values("http-request-method", "get")}, nil, "/", false},
		"header":                   {[]Condition{headerIs("x-v", "*chrome*")}, header("X-V", "Mozilla Chrome 9"), "/", true},
		"header: second line":      {[]Condition{headerIs("X-V", "b")}, func(r *http.Request) { r.Header["X-V"] = []string{"a", "B"} }, "/", true},
		"header: absent":           {[]Condition{headerIs("X-V", "*")}, nil, "/", false},
		"query":                    {[]Condition{query(KeyValue{"Version", "V1"})}, nil, "/?a=b&version=v1", true},
		"query: any key":           {[]Condition{query(KeyValue{"", "*x*"})}, nil, "/?a=axb", true},
		"query: another value":     {[]Condition{query(KeyValue{"k", "v"})}, nil, "/?k=w&v=v", false},
		"source":                   {[]Condition{from("192.0.2.0/24")}, nil, "/", true},
		"source: another":          {[]Condition{from("192.0.3.0/24")}, nil, "/", false},
		"source: v4 in v6":         {[]Condition{from("10.0.0.0/8")}, func(r *http.Request) { r.RemoteAddr = "[::ffff:10.1.1.1]:5" }, "/", true},
		"source: nothing readable": {[]Condition{from("0.0.0.0/0")}, func(r *http.Request) { r.RemoteAddr = "@" }, "/", false},
		"all must fit":             {[]Condition{values("path-pattern", "/*"), values("http-request-method", "POST")}, nil, "/a", false},
		"unknown fields fit never": {[]Condition{values("phase-of-the-moon", "*")}, nil, "/", false},
		"no conditions":            {nil, nil, "/", true},
	} {
		req := httptest.NewRequest("GET", c.target, nil)
		if c.change != nil {
			c.change(req)
		}
		r := newRoute(Rule{Conditions: c.conditions})
		if got := r.matches(viaHTTP{req}); got != c.want {
			t.Errorf("%s: matches is %v", name, got)
		}
	}
}

func TestTheFirstRuleThatFitsIsFollowed(t *testing.T) {
	r := newRig(t, model.PaceFast)
	path := func(p string) []Condition { return []Condition{{Field: "path-pattern", Values: []string{p}}} }
	r.proxy.Apply(r.table([]Group{unchecked("g", named(t, "from g"))},
		Rule{Conditions: path("/a/*"), Action: fixed("first")},
		Rule{Conditions: path("/a/b"), Action: fixed("never")},
		Rule{Conditions: path("/g"), Action: forwardTo("g")},
		Rule{Action: fixed("default")}))
	for path, want := range map[string]string{"/a/b": "first", "/a/": "first", "/g": "from g", "/": "default", "/a": "default"} {
		r.expect(path, 200, want)
	}
}

func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		r    Redirect
		url  string
		want string
	}{
		{Redirect{Protocol: "HTTPS", Port: "443"}, "http://a.b/p/q?x=1", "https://a.b:443/p/q?x=1"},
		{Redirect{Host: "www.#{host}", Path: "/new/#{path}"}, "http://a.b:81/p", "http://www.a.b:8080/new/p"},
		{Redirect{Path: "/x", Query: "was=#{path}&#{query}"}, "http://a.b/p?k=v", "http://a.b:8080/x?was=p&k=v"},
		{Redirect{Port: "81"}, "http://a.b/", "http://a.b:81/"},
		{Redirect{Port: "81"}, "http://a.b/a%2Fb%20c", "http://a.b:81/a%2Fb%20c"},
		{Redirect{Host: "x"}, "http://[::1]:5/", "http://x:8080/"},
		{Redirect{Path: "/y"}, "http://[::1]:5/", "http://[::1]:8080/y"},
	} {
		if got := c.r.location(viaHTTP{httptest.NewRequest("GET", c.url, nil)}, 8080); got != c.want {
			t.Errorf("%+v of %s leads to %s, want %s", c.r, c.url, got, c.want)
		}
	}
}

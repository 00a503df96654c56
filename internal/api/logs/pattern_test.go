package logs

import (
	"testing"

	"github.com/berthdev/berth/internal/model"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern       string
		match, differ []string
	}{
		{"", []string{"", "anything"}, nil},
		{"  \t", []string{"anything"}, nil},
		{"ERROR", []string{"[ERROR 401] NO", "ERRORS"}, []string{"error", ""}},
		{"ERROR 401", []string{"401 ERROR"}, []string{"ERROR 404"}},
		{`"ERROR 401"`, []string{"[ERROR 401]"}, []string{"401 ERROR", "ERROR  401"}},
		{`say "\"hi\" \\ \n"`, []string{`say "hi" \ \n`}, []string{`say hi`}},
		{"ERROR -401", []string{"ERROR 404"}, []string{"ERROR 401", "fine"}},
		{`-"GET /health" GET`, []string{"GET /"}, []string{"GET /health"}},
		{"?ERROR ?WARN", []string{"an ERROR", "a WARN"}, []string{"INFO"}},
		{"-a -b", []string{"c"}, []string{"a", "b"}},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
		}
		for _, m := range c.match {
			if !p.matches(m) {
				t.Errorf("%q does not match %q", c.pattern, m)
			}
		}
		for _, m := range c.differ {
			if p.matches(m) {
				t.Errorf("%q matches %q", c.pattern, m)
			}
		}
	}
	for _, bad := range []string{"{ $.a = 1 }", " [ip, user]", "%re%",
		`"open`, `""`, "-", "a ?", "?a b", "?a -b", string(make([]byte, 1025))} {
		if _, err := parsePattern(bad); model.ErrorCode(err) != "InvalidParameterException" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add(`ERROR "a \"b\"" -c`)
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePattern(text); err == nil {
			p.matches(text)
		}
	})
}

package policy

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	someActions   = []string{"ecs:RunTask", "ecs:StopTask", "iam:PassRole", "s3:GetObject", "ecs:*", "*", "iam:*", "ec?:R*"}
	someResources = []string{"*", "arn:aws:s3:::b", "arn:aws:s3:::b/*", "arn:aws:ecs:us-east-1:000000000000:cluster/c", "arn:aws:ecs:*:*:*",
		"arn:aws:s3:::${aws:username}", "arn:aws:iam::000000000000:role/app"}
	someConditions = []any{nil, map[string]any{"StringEquals": map[string]any{"aws:username": "ann"}}, map[string]any{"Bool": map[string]any{"secure": "true"}},
		map[string]any{"StringNotLike": map[string]any{"k": []string{"a*", "b"}}}, map[string]any{"Null": map[string]any{"k": "true"}},
		map[string]any{"ForAllValues:StringEquals": map[string]any{"aws:TagKeys": []string{"a", "b"}}}}
	somePrincipals = []any{"*", map[string]any{"AWS": account}, map[string]any{"AWS": ann}, map[string]any{"AWS": []string{role, session}}}
)

func genDocument(t *rapid.T, effects []string, principals bool) *Document {
	statement := map[string]any{
		"Effect": rapid.SampledFrom(effects).Draw(t, "effect"),
		rapid.SampledFrom([]string{"Action", "NotAction"}).Draw(t, "not"):     rapid.SliceOfN(rapid.SampledFrom(someActions), 1, 3).Draw(t, "actions"),
		rapid.SampledFrom([]string{"Resource", "NotResource"}).Draw(t, "not"): rapid.SliceOfN(rapid.SampledFrom(someResources), 1, 3).Draw(t, "resources"),
	}
	if c := rapid.SampledFrom(someConditions).Draw(t, "condition"); c != nil {
		statement["Condition"] = c
	}
	if principals {
		statement["Principal"] = rapid.SampledFrom(somePrincipals).Draw(t, "principal")
	}
	text, _ := json.Marshal(map[string]any{"Version": version2012, "Statement": []any{statement}})
	d, err := Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

func genAttached(t *rapid.T, effects ...string) (all []Attached) {
	for range rapid.IntRange(0, 3).Draw(t, "policies") {
		all = append(all, Attached{Document: genDocument(t, effects, false)})
	}
	return all
}

func genQuestion(t *rapid.T) (*Subject, *Request) {
	s := &Subject{Principal: people[rapid.SampledFrom([]string{"ann", "session"}).Draw(t, "who")], Identity: genAttached(t, "Allow", "Deny")}
	if rapid.Bool().Draw(t, "bounded") {
		s.Boundary = &Attached{Document: genDocument(t, []string{"Allow", "Deny"}, false)}
	}
	if rapid.Bool().Draw(t, "session") {
		s.Sessions = append([]Attached{}, genAttached(t, "Allow", "Deny")...)
	}
	r := &Request{Action: rapid.SampledFrom(someActions[:4]).Draw(t, "action"), Resource: rapid.SampledFrom(someResources[:4]).Draw(t, "resource"),
		Keys: Keys{"aws:username": {"ann"}}, Must: rapid.Bool().Draw(t, "must")}
	r.Keys.Set("secure", rapid.SliceOfN(rapid.SampledFrom([]string{"true", "false"}), 0, 1).Draw(t, "secure")...)
	r.Keys.Set("k", rapid.SliceOfN(rapid.SampledFrom([]string{"ax", "b", "c"}), 0, 2).Draw(t, "k")...)
	r.Keys.Set("aws:TagKeys", rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2).Draw(t, "tags")...)
	for range rapid.IntRange(0, 2).Draw(t, "resources") {
		r.Policies = append(r.Policies, genDocument(t, []string{"Allow", "Deny"}, true))
	}
	return s, r
}

// TestMoreDenialsAllowNoMore: whatever denies something more, or bounds, never allows what was not allowed.
func TestMoreDenialsAllowNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := genQuestion(t)
		before := Decide(s, r)
		more, bounded, asked := *s, *s, *r
		more.Identity = slices.Insert(slices.Clone(s.Identity), rapid.IntRange(0, len(s.Identity)).Draw(t, "at"),
			Attached{Document: genDocument(t, []string{"Deny"}, false)})
		if d := Decide(&more, r); d.Allowed && !before.Allowed || before.Explicit && !d.Explicit {
			t.Errorf("a denial more: %+v, was %+v", d, before)
		}
		if s.Boundary == nil {
			bounded.Boundary = &Attached{Document: genDocument(t, []string{"Allow"}, false)}
		}
		if s.Sessions == nil {
			bounded.Sessions = genAttached(t, "Allow")
		}
		if d := Decide(&bounded, r); d.Allowed && !before.Allowed {
			t.Errorf("a bound more: %+v, was %+v", d, before)
		}
		asked.Must = true
		if d := Decide(s, &asked); d.Allowed && !before.Allowed {
			t.Errorf("must: %+v, was %+v", d, before)
		}
	})
}

// TestMorePermissionsDenyNoMore: an Allow more never takes anything.
func TestMorePermissionsDenyNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := genQuestion(t)
		before := Decide(s, r)
		more := *s
		more.Identity = append(slices.Clone(s.Identity), Attached{Document: genDocument(t, []string{"Allow"}, false)})
		if d := Decide(&more, r); !d.Allowed && before.Allowed {
			t.Errorf("an Allow more: %+v, was %+v", d, before)
		}
		if s.Sessions != nil {
			more.Sessions = append(slices.Clone(s.Sessions), Attached{Document: genDocument(t, []string{"Allow"}, false)})
			if d := Decide(&more, r); !d.Allowed && before.Allowed {
				t.Errorf("an Allow more in the session: %+v, was %+v", d, before)
			}
		}
	})
}

// TestOrderDoesNotMatter, and neither does what is explained.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := genQuestion(t)
		before := Decide(s, r)
		turned, explained := *s, *r
		turned.Identity = slices.Clone(s.Identity)
		slices.Reverse(turned.Identity)
		explained.Explain = true
		for _, d := range []Decision{Decide(&turned, r), Decide(s, &explained)} {
			if d.Allowed != before.Allowed || d.Explicit != before.Explicit || d.By != before.By {
				t.Errorf("%+v, was %+v", d, before)
			}
		}
		if got := before; !got.Allowed && got.By == "" {
			t.Errorf("denied by nobody: %+v", got)
		}
	})
}

// TestPatternsAreRight compares the matcher with the plainest one.
func TestPatternsAreRight(t *testing.T) {
	var plain func(p, s string) bool
	plain = func(p, s string) bool {
		switch {
		case p == "":
			return s == ""
		case p[0] == '*':
			return plain(p[1:], s) || s != "" && plain(p, s[1:])
		}
		return s != "" && (p[0] == '?' || p[0] == s[0]) && plain(p[1:], s[1:])
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringOfN(rapid.RuneFrom([]rune("ab*?")), 0, 8, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 0, 10, -1).Draw(t, "text")
		c := compilePattern(p, true, false)
		if got, _ := c.match(s, nil); got != plain(p, s) {
			t.Errorf("%s of %s: %v", p, s, got)
		}
	})
}

// TestManyActionsAreTheSame: whether actions are sorted by service or not changes no answer.
func TestManyActionsAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.SampledFrom([]string{"*", "*:*", "ecs:*", "ecs:RunTask", "e*:Run*", "iam:Pass?ole", "ec?:Get*", "s3:GetObject", "?:x", "ecs"}), 1, 4).Draw(t, "actions")
		element := rapid.SampledFrom([]string{"Action", "NotAction"}).Draw(t, "element")
		asked := rapid.SampledFrom([]string{"ecs:RunTask", "ecs:StopTask", "iam:PassRole", "s3:GetObject", "x", "ecs", "a:x"}).Draw(t, "action")
		answer := func(names []string) bool {
			text, _ := json.Marshal(map[string]any{"Statement": map[string]any{"Effect": "Allow", element: names, "Resource": "*"}})
			d, err := Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if (d.Statements[0].of != nil) != (len(names) >= manyActions) {
				t.Fatal("not sorted")
			}
			return allowed(d, asked, "*", nil)
		}
		many := slices.Clone(names)
		for len(many) < manyActions {
			many = append(many, "none:null")
		}
		if asked != "ecs" && answer(names) != answer(many) { // what has no colon is no action
			t.Errorf("%s of %v", asked, names)
		}
	})
}

func FuzzDocument(f *testing.F) {
	for _, d := range documents {
		f.Add(`{"Version":"2012-10-17","Statement":[`+d+`]}`, "ecs:RunTask", "*")
	}
	f.Add(`{"Statement":{"Effect":"Allow","NotAction":"${","Resource":"arn:aws:s3:::${a,'b'}*?"}}`, "s3:GetObject", "arn:aws:s3:::x")
	f.Fuzz(func(t *testing.T, text, action, resource string) {
		for _, kind := range []Kind{ForIdentity, ForResource, ForTrust} {
			d, err := Validate(text, kind)
			if err != nil && err.Error() == "" {
				t.Error("refused without a word")
			}
			if _, parsed := Parse(text); err == nil && parsed != nil {
				t.Errorf("valid, and no policy: %v", parsed)
			}
			if d == nil {
				continue
			}
			for i := range d.Statements {
				if s := d.Statements[i]; s.Start < 0 || s.End > len(text) || s.Start >= s.End || text[s.Start] != '{' {
					t.Errorf("a statement at %d to %d of %q", s.Start, s.End, text)
				}
			}
			s := &Subject{Principal: people["session"], Identity: []Attached{{Document: d}}}
			Decide(s, &Request{Action: action, Resource: resource, Keys: Keys{"a": {resource}}, Policies: []*Document{d}, Explain: true})
		}
	})
}

// fifty is a role with as many policies as AWS's own are long.
func fifty(t testing.TB) (*Subject, *Request) {
	s := &Subject{Principal: people["session"]}
	for i := range 50 {
		d, err := Parse(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":["s3:Get*","s3:List*","s3:PutObject"],"Resource":["arn:aws:s3:::bucket-%[1]d","arn:aws:s3:::bucket-%[1]d/*"]},
			{"Effect":"Allow","Action":["ecs:Describe*","ecs:List*","ecs:RunTask"],"Resource":"arn:aws:ecs:*:*:task-definition/app-%[1]d:*",
				"Condition":{"ArnEquals":{"ecs:cluster":"arn:aws:ecs:us-east-1:000000000000:cluster/prod"}}},
			{"Effect":"Deny","Action":["ecs:Delete*","iam:*"],"Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalTag/team":"team-%[1]d"}}}]}`, i))
		if err != nil {
			t.Fatal(err)
		}
		s.Identity = append(s.Identity, Attached{Document: d})
	}
	r := &Request{Action: "ecs:RunTask", Resource: "arn:aws:ecs:us-east-1:000000000000:task-definition/app-49:7", Keys: Keys{}}
	r.Keys.Set("ecs:cluster", "arn:aws:ecs:us-east-1:000000000000:cluster/prod")
	r.Keys.Set("aws:PrincipalTag/team", "team-1")
	r.Keys.Set("aws:SourceIp", "127.0.0.1")
	return s, r
}

// BenchmarkDecide is a decision over 50 policies; with BERTH_BENCH set it tells the 99th percentile of one.
func BenchmarkDecide(b *testing.B) {
	s, r := fifty(b)
	if !Decide(s, r).Allowed {
		b.Fatal("not allowed")
	}
	b.ReportAllocs()
	var times []time.Duration
	measured := os.Getenv("BERTH_BENCH") != ""
	for b.Loop() {
		if !measured {
			Decide(s, r)
			continue
		}
		began := time.Now()
		Decide(s, r)
		times = append(times, time.Since(began))
	}
	if len(times) > 0 {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
		b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
	}
}

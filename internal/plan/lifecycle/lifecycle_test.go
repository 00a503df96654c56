package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func days(n int) time.Time { return now.Add(-time.Duration(n)*24*time.Hour - time.Minute) }

// img is an image pushed n days ago, with its tags.
func img(name string, n int, tags ...string) Image {
	return Image{Digest: name, PushedAt: days(n), Tags: tags}
}

func rule(priority int, selection, action string) string {
	return fmt.Sprintf(`{"rulePriority":%d,"selection":{%s},"action":{%s}}`, priority, selection, action)
}

func policy(t *testing.T, rules ...string) Policy {
	t.Helper()
	p, err := Parse(`{"rules":[` + strings.Join(rules, ",") + `]}`)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	expire  = `"type":"expire"`
	archive = `"type":"transition","targetStorageClass":"archive"`
	older   = `"countType":"sinceImagePushed","countUnit":"days","countNumber":`
	more    = `"countType":"imageCountMoreThan","countNumber":`
)

func TestEvaluate(t *testing.T) {
	used := img("used", 40)
	used.InUse = true
	child := img("child", 40)
	index := img("index", 40, "v1")
	index.Children = []string{"child"}
	sig := img("sig", 40)
	sig.Subject = "index"
	pulled := img("pulled", 40)
	pulled.PulledAt = days(3)
	cold := img("cold", 90)
	cold.Archived, cold.ArchivedAt = true, days(20)
	usedChild := child
	usedChild.InUse = true
	tagged := func(list string) string { return `"tagStatus":"tagged",` + list + "," }
	for name, c := range map[string]struct {
		rules  []string
		images []Image
		want   string
	}{
		"untagged by age":      {[]string{rule(1, `"tagStatus":"untagged",`+older+"14", expire)}, []Image{img("a", 20), img("b", 10), img("c", 20, "x")}, "a:1:expire"},
		"not on the last day":  {[]string{rule(1, `"tagStatus":"untagged",`+older+"14", expire)}, []Image{{Digest: "a", PushedAt: now.Add(-14 * 24 * time.Hour)}}, ""},
		"the newest stay":      {[]string{rule(1, `"tagStatus":"any",`+more+"2", expire)}, []Image{img("a", 4), img("b", 3, "t"), img("c", 2), img("d", 1)}, "a:1:expire b:1:expire"},
		"one push, one order":  {[]string{rule(1, `"tagStatus":"any",`+more+"1", expire)}, []Image{img("b", 1), img("a", 1)}, "b:1:expire"},
		"all prefixes":         {[]string{rule(1, tagged(`"tagPrefixList":["a","b"]`)+more+"1", expire)}, []Image{img("x", 3, "a1", "b1"), img("y", 2, "a2"), img("z", 1, "ab", "b")}, "x:1:expire"},
		"patterns":             {[]string{rule(1, tagged(`"tagPatternList":["*-rc*"]`)+more+"1", expire)}, []Image{img("x", 3, "1-rc1"), img("y", 2, "1"), img("z", 1, "2-rc")}, "x:1:expire"},
		"a first rule shields": {[]string{rule(1, tagged(`"tagPrefixList":["prod"]`)+more+"2", expire), rule(2, `"tagStatus":"any",`+more+"1", expire)}, []Image{img("a", 4, "prod1"), img("b", 3, "dev"), img("c", 2, "prod2"), img("d", 1, "dev2")}, "b:2:expire"},
		"and is counted":       {[]string{rule(1, tagged(`"tagPrefixList":["prod"]`)+more+"9", expire), rule(2, `"tagStatus":"any",`+more+"2", expire)}, []Image{img("a", 4, "dev"), img("b", 3, "prod1"), img("c", 2, "prod2")}, "a:2:expire"},
		"rules by number":      {[]string{rule(9, `"tagStatus":"any",`+more+"1", expire), rule(2, `"tagStatus":"untagged",`+older+"1", archive)}, []Image{img("a", 4), img("b", 3, "t"), img("c", 2, "u")}, "a:2:transition b:9:expire"},
		"pulls count":          {[]string{rule(1, `"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":10`, archive)}, []Image{pulled, img("never", 40)}, "never:1:transition"},
		"archived ones":        {[]string{rule(1, `"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":10`, expire)}, []Image{cold, img("warm", 99)}, "cold:1:expire"},
		"archived are apart":   {[]string{rule(1, `"tagStatus":"any",`+more+"1", expire)}, []Image{cold, img("warm", 1)}, ""},
		"in use":               {[]string{rule(1, `"tagStatus":"untagged",`+older+"14", expire)}, []Image{used, img("a", 20)}, "used:1: a:1:expire"},
		"an index's parts":     {[]string{rule(1, `"tagStatus":"untagged",`+older+"14", expire)}, []Image{child, index, sig}, ""},
		"go with it":           {[]string{rule(1, tagged(`"tagPrefixList":["v"]`)+older+"14", expire)}, []Image{child, index, sig}, "sig:1:expire index:1:expire child:1:expire"},
		"unless one is used":   {[]string{rule(1, tagged(`"tagPrefixList":["v"]`)+older+"14", expire)}, []Image{usedChild, index, sig}, "index:1:"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, v := range Evaluate(policy(t, c.rules...), c.images, now) {
				got = append(got, fmt.Sprintf("%s:%d:%s", v.Digest, v.Priority, v.Action))
				if v.Reason == "" {
					t.Errorf("%s has no reason", v.Digest)
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	good := rule(1, `"tagStatus":"any",`+more+"1", expire)
	for text, want := range map[string]string{
		"":                                      "Could not map",
		"[]":                                    "Could not map",
		`{"rules":[]}`:                          "missing required",
		`{"rule":[]}`:                           "not allowed by the schema",
		`{"rules":[` + good + `]} x`:            "Could not map",
		`{"rules":[` + good + `,` + good + `]}`: "Duplicate rule priority",
		`{"rules":[` + good + `,` + rule(2, `"tagStatus":"untagged",`+more+"1", expire) + `]}`:                                                "lowest priority",
		`{"rules":[` + rule(1, `"tagStatus":"untagged",`+more+"1", expire) + `,` + rule(2, `"tagStatus":"untagged",`+more+"1", expire) + `]}`: "only one",
		`{"rules":[` + rule(0, `"tagStatus":"any",`+more+"1", expire) + `]}`:                                                                  "minimum",
		`{"rules":[` + rule(1, `"tagStatus":"any",`+more+"0", expire) + `]}`:                                                                  "minimum",
		`{"rules":[` + rule(1, `"tagStatus":"tagged",`+more+"1", expire) + `]}`:                                                               "must be given",
		`{"rules":[` + rule(1, `"tagStatus":"any","tagPrefixList":["a"],`+more+"1", expire) + `]}`:                                            "tagged only",
		`{"rules":[` + rule(1, `"tagStatus":"tagged","tagPatternList":["*****"],`+more+"1", expire) + `]}`:                                    "wildcards",
		`{"rules":[` + rule(1, `"tagStatus":"any","countType":"sinceImagePushed","countNumber":1`, expire) + `]}`:                             "countUnit",
		`{"rules":[` + rule(1, `"tagStatus":"any","countType":"sinceImageTransitioned","countUnit":"days","countNumber":1`, expire) + `]}`:    "storageClass",
		`{"rules":[` + rule(1, `"tagStatus":"any",`+more+"1", `"type":"keep"`) + `]}`:                                                         "not found in enum",
		`{"rules":[` + rule(1, `"tagStatus":"some",`+more+"1", expire) + `]}`:                                                                 "not found in enum",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// draw makes a policy and images of few tags, ages and relations.
func draw(t *rapid.T) (Policy, []Image) {
	tags := []string{"prod-1", "prod-2", "dev", "rc-1"}
	var images []Image
	for i := range rapid.IntRange(0, 12).Draw(t, "images") {
		m := Image{Digest: fmt.Sprint(i), PushedAt: days(rapid.IntRange(0, 30).Draw(t, "age")), InUse: rapid.IntRange(0, 9).Draw(t, "used") == 0}
		m.Tags = rapid.SliceOfN(rapid.SampledFrom(tags), 0, 2).Draw(t, "tags")
		if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			m.Children = []string{fmt.Sprint(rapid.IntRange(0, 12).Draw(t, "child"))}
		}
		if rapid.IntRange(0, 3).Draw(t, "refers") == 0 {
			m.Subject = fmt.Sprint(rapid.IntRange(0, 12).Draw(t, "subject"))
		}
		m.Archived = rapid.IntRange(0, 5).Draw(t, "archived") == 0
		images = append(images, m)
	}
	var p Policy
	for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
		s := Selection{TagStatus: rapid.SampledFrom([]string{Tagged, Untagged, Any}).Draw(t, "status"), CountNumber: rapid.IntRange(1, 20).Draw(t, "n"),
			CountType: rapid.SampledFrom([]string{MoreThan, SincePushed, SincePulled}).Draw(t, "type")}
		if s.TagStatus == Tagged {
			s.TagPrefixes = []string{rapid.SampledFrom([]string{"prod", "dev", "r"}).Draw(t, "prefix")}
		}
		p.Rules = append(p.Rules, Rule{Priority: i + 1, Selection: s, Action: Action{Type: Expire}})
	}
	return p, images
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, images := draw(t)
		verdicts := Evaluate(p, images, now)
		gone, byDigest := map[string]bool{}, map[string]Image{}
		for _, m := range images {
			byDigest[m.Digest] = m
		}
		for _, v := range verdicts {
			if gone[v.Digest] {
				t.Fatalf("two verdicts on %s", v.Digest)
			}
			gone[v.Digest] = v.Action == Expire
			if m := byDigest[v.Digest]; v.Action == Expire && (m.InUse || m.Archived && v.Reason[:4] != "goes") {
				t.Fatalf("%+v goes: %+v", m, v)
			}
		}
		for _, m := range images { // what stays has its parts and its subject
			if gone[m.Digest] {
				continue
			}
			for _, c := range m.Children {
				if c != m.Digest && gone[c] {
					t.Fatalf("the index %s stays, its child %s goes", m.Digest, c)
				}
			}
		}
		var left []Image
		for _, m := range images {
			if !gone[m.Digest] {
				left = append(left, m)
			}
		}
		reversed := slices.Clone(images)
		slices.Reverse(reversed)
		if !slices.Equal(Evaluate(p, reversed, now), verdicts) {
			t.Fatal("the order of the images matters")
		}
		if len(left)+count(verdicts) != len(images) {
			t.Fatal("verdicts on what is not there")
		}
	})
}

func count(all []Verdict) (n int) {
	for _, v := range all {
		if v.Action == Expire {
			n++
		}
	}
	return n
}

func FuzzParse(f *testing.F) {
	f.Add(`{"rules":[` + rule(1, `"tagStatus":"tagged","tagPatternList":["a*b"],`+more+"1", expire) + `]}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		Evaluate(p, []Image{img("a", 1, "ab"), img("b", 400), img("c", 3, "a", "b")}, now)
	})
}

package metricmath

import (
	"fmt"
	"strings"
	"testing"
)

func env() Env {
	return Env{From: 0, To: 300, Metrics: []string{"m1", "m2", "errors"}, Known: map[string]Series{
		"m1":     {ID: "m1", Period: 60, At: []int64{0, 60, 180}, Values: []float64{1, 2, 4}},
		"m2":     {ID: "m2", Period: 60, At: []int64{0, 60, 120, 240}, Values: []float64{10, 20, 0, 40}},
		"errors": {ID: "errors", Period: 60, At: []int64{60}, Values: []float64{5}},
	}}
}

func show(all []Series) string {
	var b strings.Builder
	for _, s := range all {
		for i := range s.At {
			fmt.Fprintf(&b, "%d=%g ", s.At[i], s.Values[i])
		}
		b.WriteString("| ")
	}
	return strings.TrimSuffix(strings.TrimSpace(b.String()), " |")
}

func TestEval(t *testing.T) {
	for text, want := range map[string]string{
		"m1":                          "0=1 60=2 180=4",
		"m1 + m2":                     "0=11 60=22",
		"m1*2 - 1":                    "0=1 60=3 180=7",
		"-m1 + 2^3":                   "0=7 60=6 180=4",
		"2 + 3 * m1":                  "0=5 60=8 180=14",
		"(2 + 3) * m1":                "0=5 60=10 180=20",
		"m1 / m2":                     "0=0.1 60=0.1",
		"m2 / (m2 - 20)":              "0=-1 120=-0 240=2",
		"m1 > 1":                      "0=0 60=1 180=1",
		"m1 > 1 AND m1 < 3":           "0=0 60=1 180=0",
		"NOT (m1 > 1)":                "0=1 60=0 180=0",
		"SUM([m1, m2])":               "0=11 60=22 120=0 180=4 240=40",
		"SUM(METRICS())":              "0=11 60=27 120=0 180=4 240=40",
		`AVG(METRICS("m"))`:           "0=5.5 60=11 120=0 180=4 240=40",
		"MAX([m1,m2,errors])":         "0=10 60=20 120=0 180=4 240=40",
		"m1 - MIN(m1)":                "0=0 60=1 180=3",
		"m1 / SUM(m1)":                "0=0.14285714285714285 60=0.2857142857142857 180=0.5714285714285714",
		"DIFF(m1)":                    "60=1 180=2",
		"RATE(m2)":                    "60=0.16666666666666666 120=-0.3333333333333333 240=0.3333333333333333",
		"FILL(m1, 0)":                 "0=1 60=2 120=0 180=4 240=0",
		"FILL(m1, REPEAT)":            "0=1 60=2 120=2 180=4 240=4",
		"FILL(m1, LINEAR)":            "0=1 60=2 120=3 180=4",
		"FILL(m1, m2)":                "0=1 60=2 120=0 180=4 240=40",
		"100 * FILL(errors, 0) / m2":  "0=0 60=25 240=0",
		"IF(m2 > 15, m2, 0)":          "0=0 60=20 120=0 240=40",
		"IF(m2 > 15, m2)":             "60=20 240=40",
		"m1 / PERIOD(m1)":             "0=0.016666666666666666 60=0.03333333333333333 180=0.06666666666666667",
		"ABS(0 - m1) + CEIL(0.2)":     "0=2 60=3 180=5",
		"RUNNING_SUM(m1)":             "0=1 60=3 180=7",
		"1e1 * m1":                    "0=10 60=20 180=40",
		"METRICS(\"m\") * 2":          "0=2 60=4 180=8 | 0=20 60=40 120=0 240=80",
		"sum([m1,m2])":                "0=11 60=22 120=0 180=4 240=40",
		"m1 == 2 || m1 == 4":          "0=0 60=1 180=1",
		"IF(1 > 2, m1, m2)":           "0=10 60=20 120=0 240=40",
		"IF(m1 != 2 && m1 <= 4, 1,0)": "0=1 60=0 180=1",
	} {
		e, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := e.Eval(env())
		if err != nil || show(got) != want {
			t.Errorf("%s:\n got %s, %v\nwant %s", text, show(got), err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "ends too early",
		"m1 +":                        "ends too early",
		"m1 m2":                       `unexpected "m"`,
		"(m1":                         "a ) is missing",
		"[m1, m2":                     "a ] is missing",
		"m9":                          "no metric with the id m9",
		"NOISE(m1)":                   "NOISE is not known",
		"SUM(m1)":                     "single number",
		"1 + 2":                       "single number",
		"SUM(m1, m2)":                 "takes 1 to 1 arguments",
		"METRICS(m1)":                 "takes a text",
		`"m1"`:                        "a text is an argument",
		`'m1`:                         "does not end",
		"[1, m1]":                     "holds metrics",
		"METRICS() + [m1, m2]":        "different numbers",
		"1.2.3 * m1":                  "is no number",
		strings.Repeat("(", 200):      "nests too deeply",
		strings.Repeat("-", 200):      "nests too deeply",
		strings.Repeat("m1+", 1000):   "longer than",
		"RATE(3)":                     "takes a time series",
		"PERIOD(METRICS())":           "takes one metric",
		"SEARCH('{x} y', 'Sum', 300)": "SEARCH is not known",
	} {
		e, err := Parse(text)
		if err == nil {
			_, err = e.Eval(env())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("IF(FILL(m1,0) > 1e3, m2^2, SUM([m1,m2]))")
	f.Add("-(-m1) || NOT m2 != 'x'")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		e.IDs()
		all, err := e.Eval(env())
		if err != nil {
			return
		}
		for _, s := range all {
			if len(s.At) != len(s.Values) {
				t.Fatalf("%q: %d times and %d values", text, len(s.At), len(s.Values))
			}
			for i := 1; i < len(s.At); i++ {
				if s.At[i-1] >= s.At[i] {
					t.Fatalf("%q: times are not in order", text)
				}
			}
		}
	})
}

package alarm

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var now = time.Date(2026, 9, 14, 5, 52, 10, 0, time.UTC)

// points reads "0 - X": within the threshold, missing, breaching; oldest first, the last one in the newest whole period.
func points(r Rule, text string) (all []Point) {
	from, _ := r.Range(now)
	fields := strings.Fields(text)
	skip := r.Periods + more - len(fields)
	for i, f := range fields {
		at := from.Add(r.Period * time.Duration(skip+i))
		switch f {
		case "0":
			all = append(all, Point{At: at, Value: 10, Count: 1})
		case "X":
			all = append(all, Point{At: at, Value: 100, Count: 1})
		}
	}
	return all
}

// TestMissingData is the table of AWS's user guide ("How alarm state is evaluated when data is missing"), for missing, ignore, breaching and
// notBreaching in this order. "=" is the state that the alarm had.
func TestMissingData(t *testing.T) {
	for _, c := range []struct {
		need  int
		data  string
		wants string
	}{
		{3, "0 - X - X", "OK OK OK OK"},
		{3, "- - - - 0", "OK OK OK OK"},
		{3, "- - - - -", "INSUFFICIENT_DATA = ALARM OK"},
		{3, "0 X X - X", "ALARM ALARM ALARM ALARM"},
		{3, "- - X - -", "ALARM = ALARM OK"},
		{2, "0 - X - X", "ALARM ALARM ALARM ALARM"},
		{2, "0 0 X 0 X", "ALARM ALARM ALARM ALARM"},
		{2, "0 - X - -", "OK OK ALARM OK"},
		{2, "- - - - 0", "OK OK ALARM OK"},
		{2, "- - - X -", "ALARM = ALARM OK"},
		{3, "- - - - X", "= = ALARM OK"}, // too early to tell
		{3, "- X X 0 -", "OK OK OK OK"},
	} {
		for i, treat := range []string{Missing, Ignore, Breaching, NotBreaching} {
			for _, is := range []State{OK, Alarm, Insufficient} {
				r := Rule{Comparison: "GreaterThanThreshold", Threshold: 50, Periods: 3, Datapoints: c.need, Treat: treat, Period: time.Minute}
				want := State(strings.Fields(c.wants)[i])
				if want == "=" {
					want = is
				}
				v, changed := r.Judge(now, points(r, c.data), is)
				if v.State != want || changed != (want != is) || changed != (v.Reason != "") {
					t.Errorf("%d of 3, %s, %s, was %s: %+v, want %s", c.need, c.data, treat, is, v, want)
				}
			}
		}
	}
}

func TestReasons(t *testing.T) {
	r := Rule{Comparison: "GreaterThanThreshold", Threshold: 50, Periods: 3, Datapoints: 2, Treat: Missing, Period: time.Minute, Statistic: "Average", Unit: "Percent"}
	for _, c := range []struct {
		change func(*Rule)
		data   string
		is     State
		want   string
	}{
		{func(*Rule) {}, "0 0 0 X X", OK,
			"Threshold Crossed: 2 out of the last 3 datapoints [100.0 (14/09/26 05:51:00), 100.0 (14/09/26 05:50:00)] were greater than the threshold (50.0) (minimum 2 datapoints for OK -> ALARM transition)."},
		{func(r *Rule) { r.Datapoints = 3 }, "0 0 X X 0", Alarm,
			"Threshold Crossed: 1 out of the last 3 datapoints [10.0 (14/09/26 05:51:00)] was not greater than the threshold (50.0) (minimum 1 datapoint for ALARM -> OK transition)."},
		{func(*Rule) {}, "- - - - -", OK, "Insufficient Data: 3 datapoints were unknown."},
		{func(r *Rule) { r.Periods, r.Datapoints = 1, 1 }, "- - -", OK, "Insufficient Data: 1 datapoint was unknown."},
		{func(r *Rule) { r.Treat = Breaching }, "- - - - -", OK,
			"Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as [Breaching]."},
		{func(r *Rule) { r.Treat = NotBreaching }, "- - - - -", Alarm,
			"Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as [NonBreaching]."},
		{func(r *Rule) { r.Comparison, r.Threshold = "LessThanOrEqualToThreshold", 10.5 }, "X 0 X 0 0", OK,
			"Threshold Crossed: 2 out of the last 3 datapoints [10.0 (14/09/26 05:51:00), 10.0 (14/09/26 05:50:00)] were less than or equal to the threshold (10.5) (minimum 2 datapoints for OK -> ALARM transition)."},
	} {
		r := r
		c.change(&r)
		v, _ := r.Judge(now, points(r, c.data), c.is)
		if v.Reason != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.data, v.Reason, c.want)
		}
	}
	v, _ := r.Judge(now, points(r, "0 0 0 X X"), OK)
	want := `{"version":"1.0","queryDate":"2026-09-14T05:52:10.000+0000","startDate":"2026-09-14T05:49:00.000+0000","unit":"Percent","statistic":"Average","period":60,` +
		`"recentDatapoints":[10.0,100.0,100.0],"threshold":50.0,"evaluatedDatapoints":[{"timestamp":"2026-09-14T05:51:00.000+0000","sampleCount":1.0,"value":100.0},` +
		`{"timestamp":"2026-09-14T05:50:00.000+0000","sampleCount":1.0,"value":100.0},{"timestamp":"2026-09-14T05:49:00.000+0000","sampleCount":1.0,"value":10.0}]}`
	if v.Data != want {
		t.Errorf("\n got %s\nwant %s", v.Data, want)
	}
}

// TestProperties: a judgement repeated on its own result changes nothing; with all data there, missing data's treatment does not matter; ALARM
// needs enough that breaches or may.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "n")
		r := Rule{Comparison: rapid.SampledFrom([]string{"GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold"}).Draw(t, "op"),
			Threshold: 50, Periods: n, Datapoints: rapid.IntRange(1, n).Draw(t, "m"), Period: rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute, time.Hour}).Draw(t, "period"),
			Treat: rapid.SampledFrom([]string{Missing, Ignore, Breaching, NotBreaching}).Draw(t, "treat")}
		data := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"0", "X", "-"}), n+more, n+more).Draw(t, "data"), " ")
		is := rapid.SampledFrom([]State{OK, Alarm, Insufficient}).Draw(t, "is")
		all := points(r, data)
		v, changed := r.Judge(now, all, is)
		if again, changed := r.Judge(now, all, v.State); changed {
			t.Fatalf("%s: %s became %s", data, v.State, again.State)
		}
		if changed && !json.Valid([]byte(v.Data)) {
			t.Fatalf("data %q", v.Data)
		}
		if strings.Count(data, "-") == 0 {
			for _, treat := range []string{Missing, Ignore, Breaching, NotBreaching} {
				other := r
				other.Treat = treat
				if o, _ := other.Judge(now, all, is); o.State != v.State {
					t.Fatalf("%s: %s with %s, %s with %s", data, v.State, r.Treat, o.State, treat)
				}
			}
		}
	})
}

package schedule

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

func at(t testing.TB, text string, loc *time.Location) time.Time {
	v, err := time.ParseInLocation("2006-01-02 15:04", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNext(t *testing.T) {
	for _, c := range []struct{ expression, after, wants string }{
		{"cron(0 10 * * ? *)", "2026-11-21 09:59", "2026-11-21 10:00, 2026-11-22 10:00"},
		{"cron(15 12 * * ? *)", "2026-11-21 12:15", "2026-11-22 12:15"},
		{"cron(0 18 ? * MON-FRI *)", "2026-11-20 18:00", "2026-11-23 18:00, 2026-11-24 18:00"},
		{"cron(0 8 1 * ? *)", "2026-11-21 00:00", "2026-12-01 08:00, 2027-01-01 08:00"},
		{"cron(0/15 * * * ? *)", "2026-11-21 23:40", "2026-11-21 23:45, 2026-11-22 00:00"},
		{"cron(0/5 8-17 ? * MON-FRI *)", "2026-11-20 17:54", "2026-11-20 17:55, 2026-11-23 08:00"},
		{"cron(0 9 ? * 2#1 *)", "2026-11-21 00:00", "2026-12-07 09:00, 2027-01-04 09:00"},
		{"cron(0 9 L * ? *)", "2028-02-01 00:00", "2028-02-29 09:00, 2028-03-31 09:00"},
		{"cron(0 9 L-2 * ? *)", "2026-11-21 00:00", "2026-11-28 09:00"},
		{"cron(0 9 15W * ? *)", "2026-11-01 00:00", "2026-11-16 09:00, 2026-12-15 09:00"},
		{"cron(0 9 1W * ? *)", "2026-08-01 00:00", "2026-08-03 09:00"},
		{"cron(0 9 LW * ? *)", "2027-01-02 00:00", "2027-01-29 09:00"},
		{"cron(0 9 31W * ? *)", "2026-05-01 00:00", "2026-05-29 09:00, 2026-07-31 09:00"},
		{"cron(0 9 ? * 6L *)", "2026-11-01 00:00", "2026-11-27 09:00"},
		{"cron(0 9 ? * L *)", "2026-11-21 09:00", "2026-11-28 09:00"},
		{"cron(0 9 ? * FRI-MON *)", "2026-11-23 09:00", "2026-11-27 09:00, 2026-11-28 09:00, 2026-11-29 09:00, 2026-11-30 09:00, 2026-12-04 09:00"},
		{"cron(0 0 29 2 ? *)", "2026-11-21 00:00", "2028-02-29 00:00, 2032-02-29 00:00"},
		{"cron(0 0 30 FEB ? *)", "2026-11-21 00:00", ""},
		{"cron(30 4 1 1 ? 2027-2028)", "2026-11-21 00:00", "2027-01-01 04:30, 2028-01-01 04:30, "},
		{"cron(0,30 8,20 ? JAN,DEC SUN 2026/2)", "2026-11-21 00:00", "2026-12-06 08:00, 2026-12-06 08:30, 2026-12-06 20:00"},
		{"rate(5 minutes)", "2026-11-21 00:02", "2026-11-21 00:05, 2026-11-21 00:10"},
		{"rate(1 day)", "2026-11-21 00:00", "2026-11-22 00:00"},
		{"at(2026-11-21T15:04:00)", "2026-11-21 15:03", "2026-11-21 15:04, "},
		{"at(2026-11-21T15:04:00)", "2026-11-21 15:04", ""},
	} {
		e, err := Parse(c.expression)
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
			continue
		}
		after := at(t, c.after, time.UTC)
		for _, want := range strings.Split(c.wants, ", ") {
			next, ok := e.Next(after, at(t, "2026-11-21 00:00", time.UTC), time.UTC)
			got := ""
			if ok {
				got = next.Format("2006-01-02 15:04")
			}
			if got != want {
				t.Errorf("%s after %s: %q, want %q", c.expression, after, got, want)
			}
			after = next
		}
	}
}

// TestDaylightSaving: what clocks skip is skipped, and what they show twice is due once.
func TestDaylightSaving(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	e, err := Parse("cron(30 2 * * ? *)")
	if err != nil {
		t.Fatal(err)
	}
	next := func(after time.Time) time.Time {
		v, _ := e.Next(after, time.Time{}, berlin)
		return v
	}
	if got := next(at(t, "2026-03-28 03:00", berlin)); !got.Equal(at(t, "2026-03-30 02:30", berlin)) { // clocks went from 2 to 3 on the 29th
		t.Errorf("in spring %s", got)
	}
	first := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC) // 2:30 in summer time; an hour later it is 2:30 again
	if got := next(at(t, "2026-10-24 03:00", berlin)); !got.Equal(first) {
		t.Errorf("in autumn %s", got)
	}
	for _, after := range []time.Time{first, first.Add(30 * time.Minute), first.Add(time.Hour)} {
		if got := next(after); !got.Equal(at(t, "2026-10-26 02:30", berlin)) {
			t.Errorf("after %s: %s", after, got)
		}
	}
	once, err := Parse("at(2026-10-25T02:30:00)")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := once.Next(time.Time{}, time.Time{}, berlin); !got.Equal(first) {
		t.Errorf("once %s", got)
	}
}

func TestRefused(t *testing.T) {
	for _, bad := range []string{"", "cron", "cron()", "cron(* * * * * *)", "cron(0 10 ? * ? *)", "cron(60 10 * * ? *)", "cron(0 24 * * ? *)", "cron(0 10 0 * ? *)", "cron(0 10 * 13 ? *)",
		"cron(0 10 ? * 8 *)", "cron(0 10 * * ? 1969)", "cron(0 10 * * ?)", "cron(a 10 * * ? *)", "cron(0/0 10 * * ? *)", "cron(0 10 ? * MON#6 *)", "cron(0 10 32W * ? *)", "cron(-1 10 * * ? *)",
		"rate(0 minutes)", "rate(1 minutes)", "rate(5 minute)", "rate(5)", "rate(5 weeks)", "rate(-5 minutes)", "rate(99999999 days)", "at(2026-13-01T00:00:00)", "at(2026-01-01)", "every(5 minutes)",
		"cron(0 10 * * ? *", "rate(5 minutes) "} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestProperties: Next rises, and Last is the newest of what Next gives.
func TestProperties(t *testing.T) {
	zones := []*time.Location{time.UTC}
	for _, name := range []string{"Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		if z, err := time.LoadLocation(name); err == nil {
			zones = append(zones, z)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"cron(0/7 * * * ? *)", "cron(30 1-3 * * ? *)", "cron(0 9 ? * 2#1 *)", "cron(0 9 LW * ? *)", "rate(5 minutes)", "rate(1 day)", "cron(59 23 ? * SAT,SUN *)",
			"at(2026-10-25T02:30:00)"}).Draw(t, "expression")
		e, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		loc := rapid.SampledFrom(zones).Draw(t, "zone")
		base := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(t, "base"), 0)
		after := base.Add(time.Duration(rapid.Int64Range(0, 48*3600).Draw(t, "after")) * time.Second)
		now := after.Add(time.Duration(rapid.Int64Range(0, 20*3600).Draw(t, "now")) * time.Second)
		var last time.Time
		for at := after; ; {
			next, ok := e.Next(at, base, loc)
			if !ok || next.After(now) {
				break
			}
			if !next.After(at) {
				t.Fatalf("%s after %s is %s", text, at, next)
			}
			last, at = next, next
		}
		got, ok := e.Last(after, now, base, loc)
		if ok != !last.IsZero() || ok && !got.Equal(last) {
			t.Fatalf("%s between %s and %s: %s %v, want %s", text, after, now, got, ok, last)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"cron(0/5 8-17 ? * MON-FRI 2026)", "cron(0 9 LW * ? *)", "cron(0 9 ? * 6L *)", "rate(5 minutes)", "at(2026-11-21T15:04:00)"} {
		f.Add(s)
	}
	now := time.Unix(1_800_000_000, 0).UTC()
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		if next, ok := e.Next(now, now, time.UTC); ok && !next.After(now) {
			t.Errorf("%q after %s: %s", text, now, next)
		}
	})
}

// Package schedule reads AWS's schedule expressions, cron, rate and at, and tells when they are due, pure: the time zone is an argument.
package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Expression is a schedule expression.
type Expression struct {
	every time.Duration // of rate; 0 else
	at    time.Time     // of at, as wall-clock time (UTC); zero else
	cron  *cron
}

// Parse reads cron(…), rate(…) or at(…).
func Parse(text string) (Expression, error) {
	kind, rest, ok := strings.Cut(text, "(")
	body, end := strings.CutSuffix(rest, ")")
	if !ok || !end || len(text) > 256 {
		return Expression{}, errors.New("a schedule is cron(…), rate(…) or at(…)")
	}
	switch kind {
	case "rate":
		return parseRate(body)
	case "at":
		at, err := time.Parse("2006-01-02T15:04:05", body)
		if err != nil || at.Year() < 1970 {
			return Expression{}, errors.New("at takes a time such as 2026-01-02T15:04:05")
		}
		return Expression{at: at}, nil
	case "cron":
		c, err := parseCron(body)
		return Expression{cron: c}, err
	}
	return Expression{}, errors.New("a schedule is cron(…), rate(…) or at(…)")
}

// Once tells whether it is due once only.
func (e Expression) Once() bool { return !e.at.IsZero() }

// Recurs tells how often a rate is due, 0 for others.
func (e Expression) Recurs() time.Duration { return e.every }

func parseRate(body string) (Expression, error) {
	number, unit, ok := strings.Cut(body, " ")
	n, err := strconv.ParseInt(number, 10, 32)
	if !ok || err != nil || n < 1 {
		return Expression{}, errors.New("rate takes a number above 0 and minutes, hours or days")
	}
	single := strings.TrimSuffix(unit, "s")
	each := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[single]
	if each == 0 || (n == 1) != (unit == single) || n > int64(10*366*24*time.Hour/each) {
		return Expression{}, errors.New("rate takes minute, hour or day after 1, and minutes, hours or days after more")
	}
	return Expression{every: time.Duration(n) * each}, nil
}

// Next is the first time after after at which it is due; ok is false when there is none. base is when a rate began; loc the zone of cron
// and at. A time that daylight saving leaves out is skipped, and one that comes twice counts once, at its first.
func (e Expression) Next(after, base time.Time, loc *time.Location) (next time.Time, ok bool) {
	switch {
	case e.every > 0:
		if after.Before(base) {
			return base.Add(e.every), true
		}
		return base.Add((after.Sub(base)/e.every + 1) * e.every), true
	case !e.at.IsZero():
		t := in(loc, e.at)
		return t, t.After(after)
	case e.cron != nil:
		return e.cron.next(after, loc)
	}
	return time.Time{}, false
}

// Last is the newest time at which it is due that is after after and not after now.
func (e Expression) Last(after, now, base time.Time, loc *time.Location) (last time.Time, ok bool) {
	if e.every > 0 {
		if now.Before(base.Add(e.every)) {
			return time.Time{}, false
		}
		last = base.Add(now.Sub(base) / e.every * e.every)
		return last, last.After(after)
	}
	// What is older than a day is nobody's business any more; a day has 1440 minutes.
	if old := now.Add(-24 * time.Hour); after.Before(old) && e.at.IsZero() {
		after = old
	}
	for {
		t, more := e.Next(after, base, loc)
		if !more || t.After(now) {
			return last, ok
		}
		last, ok, after = t, true, t
		if !e.at.IsZero() {
			return last, ok
		}
	}
}

// in makes of a wall-clock time one in loc: the first of two.
func in(loc *time.Location, wall time.Time) time.Time {
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, loc)
	for _, step := range []time.Duration{2 * time.Hour, time.Hour, 30 * time.Minute} {
		if earlier := t.Add(-step); clock(earlier).Equal(wall) {
			return earlier
		}
	}
	return t
}

// clock is what clocks show at t.
func clock(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// cron is a cron expression; days of the month and of the week are rules, one of which is nil (?).
type cron struct {
	minutes, hours, months, years []int
	monthdays                     []dayOfMonth
	weekdays                      []dayOfWeek
}

// dayOfMonth is a day of a month: exactly one of its kinds.
type dayOfMonth struct {
	day     int  // 1 to 31, or
	last    bool // the last one, less before
	before  int
	working bool // the working day that is nearest, within the month
}

// dayOfWeek is a day of the week, 0 being Sunday: each, the nth of the month, or the last.
type dayOfWeek struct {
	day  int
	nth  int
	last bool
}

const (
	firstYear = 1970
	lastYear  = 2199
)

var (
	monthNames = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	dayNames   = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
)

func parseCron(body string) (*cron, error) {
	f := strings.Fields(body)
	if len(f) != 6 {
		return nil, errors.New("cron takes six fields: minutes, hours, day of month, month, day of week and year")
	}
	if (f[2] == "?") == (f[4] == "?") {
		return nil, errors.New("of day of month and day of week exactly one is ?")
	}
	c := &cron{}
	var err error
	parts := []struct {
		into     *[]int
		text     string
		low, top int
		names    []string
	}{{&c.minutes, f[0], 0, 59, nil}, {&c.hours, f[1], 0, 23, nil}, {&c.months, f[3], 1, 12, monthNames}, {&c.years, f[5], firstYear, lastYear, nil}}
	for _, p := range parts {
		if *p.into, err = values(p.text, p.low, p.top, p.names); err != nil {
			return nil, err
		}
	}
	if f[2] != "?" {
		err = c.parseMonthdays(f[2])
	} else {
		err = c.parseWeekdays(f[4])
	}
	return c, err
}

// values reads a list of numbers, ranges and steps: *, 5, 1-5, 0/15, MON-FRI, 1,3.
func values(text string, low, top int, names []string) (all []int, err error) {
	for _, part := range strings.Split(text, ",") {
		span, step, stepped := strings.Cut(part, "/")
		by := 1
		if stepped {
			if by, err = strconv.Atoi(step); err != nil || by < 1 || by > top {
				return nil, fmt.Errorf("%q is no step", part)
			}
		}
		from, to := low, top
		if span != "*" {
			a, b, ranged := strings.Cut(span, "-")
			if from, err = value(a, low, top, names); err != nil {
				return nil, err
			}
			switch {
			case ranged:
				if to, err = value(b, low, top, names); err != nil {
					return nil, err
				}
			case !stepped:
				to = from
			}
		}
		if to < from { // FRI-MON
			for v := from; v <= top; v += by {
				all = append(all, v)
			}
			from = low
		}
		for v := from; v <= to; v += by {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func value(text string, low, top int, names []string) (int, error) {
	if i := slices.Index(names, strings.ToUpper(text)); i >= 0 {
		return low + i, nil
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < low || v > top || strings.ContainsAny(text, "+-") {
		return 0, fmt.Errorf("%q is not between %d and %d", text, low, top)
	}
	return v, nil
}

func (c *cron) parseMonthdays(text string) error {
	for _, part := range strings.Split(text, ",") {
		switch {
		case part == "L":
			c.monthdays = append(c.monthdays, dayOfMonth{last: true})
		case part == "LW":
			c.monthdays = append(c.monthdays, dayOfMonth{last: true, working: true})
		case strings.HasPrefix(part, "L-"):
			n, err := value(part[2:], 1, 30, nil)
			if err != nil {
				return err
			}
			c.monthdays = append(c.monthdays, dayOfMonth{last: true, before: n})
		case strings.HasSuffix(part, "W"):
			n, err := value(strings.TrimSuffix(part, "W"), 1, 31, nil)
			if err != nil {
				return err
			}
			c.monthdays = append(c.monthdays, dayOfMonth{day: n, working: true})
		default:
			days, err := values(part, 1, 31, nil)
			if err != nil {
				return err
			}
			for _, d := range days {
				c.monthdays = append(c.monthdays, dayOfMonth{day: d})
			}
		}
	}
	return nil
}

func (c *cron) parseWeekdays(text string) error {
	for _, part := range strings.Split(text, ",") {
		day, nth, numbered := strings.Cut(part, "#")
		name, last := strings.CutSuffix(part, "L")
		switch {
		case part == "L":
			c.weekdays = append(c.weekdays, dayOfWeek{day: 6})
		case numbered:
			d, err := value(day, 1, 7, dayNames)
			n, err2 := value(nth, 1, 5, nil)
			if err = errors.Join(err, err2); err != nil {
				return err
			}
			c.weekdays = append(c.weekdays, dayOfWeek{day: d - 1, nth: n})
		case last:
			d, err := value(name, 1, 7, dayNames)
			if err != nil {
				return err
			}
			c.weekdays = append(c.weekdays, dayOfWeek{day: d - 1, last: true})
		default:
			days, err := values(part, 1, 7, dayNames)
			if err != nil {
				return err
			}
			for _, d := range days {
				c.weekdays = append(c.weekdays, dayOfWeek{day: d - 1})
			}
		}
	}
	return nil
}

// next looks for the first minute after after whose clock fits.
func (c *cron) next(after time.Time, loc *time.Location) (time.Time, bool) {
	from := clock(after.In(loc)).Truncate(time.Minute)
	for _, y := range c.years {
		if y < from.Year() {
			continue
		}
		for _, m := range c.months {
			month := time.Date(y, time.Month(m), 1, 0, 0, 0, 0, time.UTC)
			length := month.AddDate(0, 1, -1).Day()
			if month.AddDate(0, 1, 0).Before(from) {
				continue
			}
			for d := 1; d <= length; d++ {
				day := month.AddDate(0, 0, d-1)
				if day.AddDate(0, 0, 1).Before(from) || !c.onDay(day, length) {
					continue
				}
				if t, ok := c.within(day, after, loc); ok {
					return t, true
				}
			}
		}
	}
	return time.Time{}, false
}

// within looks at the minutes of a day.
func (c *cron) within(day, after time.Time, loc *time.Location) (best time.Time, ok bool) {
	for _, h := range c.hours {
		for _, m := range c.minutes {
			wall := day.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute)
			t := in(loc, wall)
			if !clock(t).Equal(wall) || !t.After(after) { // the clock skips it
				continue
			}
			if !ok || t.Before(best) {
				best, ok = t, true
			}
		}
		if ok {
			return best, true
		}
	}
	return best, ok
}

// onDay tells whether it is due on a day of a month that is length days long.
func (c *cron) onDay(day time.Time, length int) bool {
	for _, r := range c.monthdays {
		at := r.day
		if r.last {
			at = length - r.before
		}
		if at < 1 || at > length {
			continue
		}
		if r.working {
			at = nearestWorking(day, at, length)
		}
		if day.Day() == at {
			return true
		}
	}
	for _, r := range c.weekdays {
		if int(day.Weekday()) != r.day {
			continue
		}
		switch {
		case r.nth > 0:
			if (day.Day()-1)/7+1 == r.nth {
				return true
			}
		case r.last:
			if day.Day()+7 > length {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// nearestWorking is the working day nearest to a day, within its month.
func nearestWorking(in time.Time, day, length int) int {
	switch time.Date(in.Year(), in.Month(), day, 0, 0, 0, 0, time.UTC).Weekday() {
	case time.Saturday:
		if day == 1 {
			return 3
		}
		return day - 1
	case time.Sunday:
		if day == length {
			return day - 2
		}
		return day + 1
	}
	return day
}

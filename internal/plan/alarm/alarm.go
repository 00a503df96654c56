// Package alarm decides the state of CloudWatch alarms, pure: a metric's values and the time in, the state and its reason out.
package alarm

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// State is an alarm's state.
type State string

// The states.
const (
	OK           State = "OK"
	Alarm        State = "ALARM"
	Insufficient State = "INSUFFICIENT_DATA"
)

// What to make of periods without data.
const (
	Missing      = "missing"
	Ignore       = "ignore"
	Breaching    = "breaching"
	NotBreaching = "notBreaching"
)

// Rule is what an alarm watches for.
type Rule struct {
	Comparison string // as ComparisonOperator names it
	Threshold  float64
	Periods    int // N: how many periods are looked at
	Datapoints int // M: how many of them must breach; 0 is N
	Treat      string
	Period     time.Duration
	Statistic  string // for the reason's data
	Unit       string
}

// Point is the metric's value in a period.
type Point struct {
	At    time.Time // the period's beginning
	Value float64
	Count float64 // samples
}

// Verdict is the state that an alarm has, and why. Data is the reason for programs (JSON), "" when the state stays as it is.
type Verdict struct {
	State        State
	Reason, Data string
}

// more is how many periods further back are looked at, so that a late one does not look like missing data.
const more = 2

// Range is the time whose values Judge wants: from the beginning of the oldest period to the end of the newest whole one.
func (r Rule) Range(now time.Time) (from, to time.Time) {
	late := 5 * time.Second // what is measured in a minute is there a moment after it
	if r.Period < time.Minute {
		late = time.Second
	}
	to = now.Add(-late).Truncate(r.Period)
	return to.Add(-r.Period * time.Duration(r.Periods+more)), to
}

// Judge decides. points are those within Range, oldest first; others are not looked at. changed tells whether the state is another.
func (r Rule) Judge(now time.Time, points []Point, is State) (v Verdict, changed bool) {
	from, to := r.Range(now)
	need := r.Datapoints
	if need == 0 {
		need = r.Periods
	}
	slots := make([]*Point, r.Periods+more)
	for i := range points {
		p := &points[i]
		if p.At.Before(from) || !p.At.Before(to) {
			continue
		}
		slots[p.At.Sub(from)/r.Period] = p
	}
	var real []*Point // newest first
	for i := len(slots) - 1; i >= 0; i-- {
		if slots[i] != nil {
			real = append(real, slots[i])
		}
	}
	real = real[:min(len(real), r.Periods)]
	var bad, good []*Point
	for _, p := range real {
		if r.breaches(p.Value) {
			bad = append(bad, p)
		} else {
			good = append(good, p)
		}
	}
	gaps := r.Periods - len(real)
	state := is
	switch {
	case gaps == 0:
		state = OK
		if len(bad) >= need {
			state = Alarm
		}
	case r.Treat == Breaching || r.Treat == NotBreaching:
		state = OK
		if n := len(bad); n >= need || r.Treat == Breaching && n+gaps >= need {
			state = Alarm
		}
	case len(real) == 0 && r.Treat != Ignore:
		state = Insufficient
	case len(bad) >= need:
		state = Alarm
	case len(good) > 0:
		state = OK
	case len(bad) > 0 && r.Treat != Ignore && r.old(slots) >= need:
		state = Alarm
	}
	if state == is {
		return Verdict{State: is}, false
	}
	return Verdict{State: state, Reason: r.reason(state, bad, good, gaps, need), Data: r.data(now, real)}, true
}

// old is how many periods ago the oldest breaching value of those that count was, of an alarm that has no others.
func (r Rule) old(slots []*Point) (age int) {
	for i, p := range slots[more:] {
		if p != nil {
			return r.Periods - i
		}
	}
	return 0
}

func (r Rule) breaches(v float64) bool {
	switch r.Comparison {
	case "GreaterThanThreshold":
		return v > r.Threshold
	case "GreaterThanOrEqualToThreshold":
		return v >= r.Threshold
	case "LessThanThreshold":
		return v < r.Threshold
	case "LessThanOrEqualToThreshold":
		return v <= r.Threshold
	}
	return false
}

var words = map[string]string{"GreaterThanThreshold": "greater than", "GreaterThanOrEqualToThreshold": "greater than or equal to",
	"LessThanThreshold": "less than", "LessThanOrEqualToThreshold": "less than or equal to"}

// reason is AWS's sentence.
func (r Rule) reason(state State, bad, good []*Point, gaps, need int) string {
	if state == Insufficient {
		return fmt.Sprintf("Insufficient Data: %s unknown.", plural(r.Periods, "datapoint was", "datapoints were"))
	}
	of, not, least, way := bad, "", need, "OK -> ALARM"
	if state == OK {
		of, not, least, way = good, "not ", r.Periods-need+1, "ALARM -> OK"
	}
	treated := ""
	if gaps > 0 && (r.Treat == Breaching || r.Treat == NotBreaching) {
		as := "Breaching"
		if r.Treat == NotBreaching {
			as = "NonBreaching"
		}
		treated = fmt.Sprintf("%s treated as [%s]", plural(gaps, "missing datapoint was", "missing datapoints were"), as)
		if len(bad)+len(good) == 0 {
			return fmt.Sprintf("Threshold Crossed: no datapoints were received for %s and %s.", plural(r.Periods, "period", "periods"), treated)
		}
		treated = " and " + treated
	}
	var list []string
	for _, p := range of {
		list = append(list, fmt.Sprintf("%s (%s)", Number(p.Value), p.At.UTC().Format("02/01/06 15:04:05")))
	}
	were := "were"
	if len(of) == 1 {
		were = "was"
	}
	return fmt.Sprintf("Threshold Crossed: %d out of the last %d datapoints [%s] %s %s%s the threshold (%s)%s (minimum %s for %s transition).", len(of), r.Periods,
		strings.Join(list, ", "), were, not, words[r.Comparison], Number(r.Threshold), treated, plural(least, "datapoint", "datapoints"), way)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Number writes a number as AWS's sentences do: 50.0.
func Number(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) { return []byte(Number(float64(n))), nil }

// dateForm is that of dates within StateReasonData.
const dateForm = "2006-01-02T15:04:05.000-0700"

type datapoint struct {
	Timestamp   string `json:"timestamp"`
	SampleCount number `json:"sampleCount"`
	Value       number `json:"value"`
}

// data is StateReasonData.
func (r Rule) data(now time.Time, real []*Point) string {
	out := struct {
		Version   string      `json:"version"`
		QueryDate string      `json:"queryDate"`
		StartDate string      `json:"startDate,omitempty"`
		Unit      string      `json:"unit,omitempty"`
		Statistic string      `json:"statistic,omitempty"`
		Period    int         `json:"period"`
		Recent    []number    `json:"recentDatapoints"`
		Threshold number      `json:"threshold"`
		Evaluated []datapoint `json:"evaluatedDatapoints"`
	}{Version: "1.0", QueryDate: now.UTC().Format(dateForm), Unit: r.Unit, Statistic: r.Statistic, Period: int(r.Period / time.Second), Recent: []number{},
		Threshold: number(r.Threshold), Evaluated: []datapoint{}}
	for i := len(real) - 1; i >= 0; i-- {
		out.Recent = append(out.Recent, number(real[i].Value))
	}
	for _, p := range real {
		out.Evaluated = append(out.Evaluated, datapoint{p.At.UTC().Format(dateForm), number(p.Count), number(p.Value)})
	}
	if len(real) > 0 {
		out.StartDate = real[len(real)-1].At.UTC().Format(dateForm)
	}
	b, err := json.Marshal(out)
	if err != nil { // a value that is no number: the series holds none
		return ""
	}
	return string(b)
}

package metricmath

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Series is a metric's values by the beginnings of periods (unix seconds), oldest first.
type Series struct {
	ID     string
	Period int64 // seconds
	At     []int64
	Values []float64
}

// Env is what an expression is evaluated in.
type Env struct {
	From, To int64 // the request's; FILL fills between them
	// Known are the metrics, and the expressions that were evaluated before, by their ids.
	Known map[string]Series
	// Metrics are the ids of the metrics (not of expressions), in the request's order.
	Metrics []string
}

// value is a number, one series, or several.
type value struct {
	scalar bool
	number float64
	many   bool
	series []Series
}

// maxSeries bounds how many series a value holds.
const maxSeries = 500

// Eval evaluates e. The result is one series or several; an expression that gives a single number is refused, as AWS does.
func (e Expr) Eval(env Env) ([]Series, error) {
	v, err := env.eval(e.root)
	if err != nil {
		return nil, err
	}
	if v.scalar {
		return nil, errors.New("the expression returns a single number, and must return a time series")
	}
	return v.series, nil
}

func (env Env) eval(n node) (value, error) {
	switch n.kind {
	case isNumber:
		return value{scalar: true, number: n.number}, nil
	case isID:
		s, ok := env.Known[n.name]
		if !ok {
			return value{}, fmt.Errorf("there is no metric with the id %s", n.name)
		}
		return value{series: []Series{s}}, nil
	case isText:
		return value{}, errors.New("a text is an argument of METRICS only")
	case isCall:
		return env.call(n)
	}
	args := make([]value, len(n.args))
	for i, a := range n.args {
		var err error
		if args[i], err = env.eval(a); err != nil {
			return value{}, err
		}
	}
	switch n.kind {
	case isList:
		out := value{many: true}
		for _, a := range args {
			if a.scalar {
				return value{}, errors.New("a list holds metrics, not numbers")
			}
			out.series = append(out.series, a.series...)
		}
		if len(out.series) > maxSeries {
			return value{}, errors.New("there are too many time series")
		}
		return out, nil
	case isUnary:
		if n.name == "-" {
			return binary("-", value{scalar: true}, args[0])
		}
		return binary("==", args[0], value{scalar: true})
	}
	return binary(n.name, args[0], args[1])
}

func binary(op string, a, b value) (value, error) {
	switch {
	case a.scalar && b.scalar:
		v, _ := operate(op, a.number, b.number)
		return value{scalar: true, number: v}, nil
	case a.many && b.many && len(a.series) != len(b.series):
		return value{}, fmt.Errorf("the operands of %s have different numbers of time series", op)
	}
	out := value{many: a.many || b.many}
	for i := range max(len(a.series), len(b.series)) {
		out.series = append(out.series, combine(op, a, b, i))
	}
	return out, nil
}

// pick is the i-th series of a value, the only one of a value that has one.
func (v value) pick(i int) Series {
	if len(v.series) == 1 {
		return v.series[0]
	}
	if i < len(v.series) {
		return v.series[i]
	}
	return Series{}
}

func combine(op string, a, b value, i int) Series {
	switch {
	case b.scalar:
		return each(a.pick(i), func(v float64) (float64, bool) { return operate(op, v, b.number) })
	case a.scalar:
		return each(b.pick(i), func(v float64) (float64, bool) { return operate(op, a.number, v) })
	}
	x, y := a.pick(i), b.pick(i)
	out := Series{ID: x.ID, Period: max(x.Period, y.Period)}
	for j, k := 0, 0; j < len(x.At) && k < len(y.At); {
		switch {
		case x.At[j] < y.At[k]:
			j++
		case x.At[j] > y.At[k]:
			k++
		default:
			if v, ok := operate(op, x.Values[j], y.Values[k]); ok {
				out.At, out.Values = append(out.At, x.At[j]), append(out.Values, v)
			}
			j, k = j+1, k+1
		}
	}
	return out
}

// each maps the values of a series; those for which f is false are left out.
func each(s Series, f func(float64) (float64, bool)) Series {
	out := Series{ID: s.ID, Period: s.Period}
	for i, v := range s.Values {
		if v, ok := f(v); ok {
			out.At, out.Values = append(out.At, s.At[i]), append(out.Values, v)
		}
	}
	return out
}

// operate computes; ok is false for what is no number, such as a division by zero.
func operate(op string, a, b float64) (v float64, ok bool) {
	truth := func(t bool) float64 {
		if t {
			return 1
		}
		return 0
	}
	switch op {
	case "+":
		v = a + b
	case "-":
		v = a - b
	case "*":
		v = a * b
	case "/":
		v = a / b
	case "^":
		v = math.Pow(a, b)
	case "==":
		v = truth(a == b)
	case "!=":
		v = truth(a != b)
	case "<":
		v = truth(a < b)
	case ">":
		v = truth(a > b)
	case "<=":
		v = truth(a <= b)
	case ">=":
		v = truth(a >= b)
	case "AND", "&&":
		v = truth(a != 0 && b != 0)
	case "OR", "||":
		v = truth(a != 0 || b != 0)
	}
	return v, !math.IsNaN(v) && !math.IsInf(v, 0)
}

// functions are the names and how many arguments they have: at least and at most.
var functions = map[string][2]int{"AVG": {1, 1}, "SUM": {1, 1}, "MIN": {1, 1}, "MAX": {1, 1}, "METRICS": {0, 1}, "RATE": {1, 1}, "DIFF": {1, 1}, "FILL": {2, 2},
	"IF": {2, 3}, "PERIOD": {1, 1}, "ABS": {1, 1}, "CEIL": {1, 1}, "FLOOR": {1, 1}, "RUNNING_SUM": {1, 1}}

func (env Env) call(n node) (value, error) {
	if want := functions[n.name]; len(n.args) < want[0] || len(n.args) > want[1] {
		return value{}, fmt.Errorf("%s takes %d to %d arguments and has %d", n.name, want[0], want[1], len(n.args))
	}
	if n.name == "METRICS" {
		return env.metrics(n)
	}
	if n.name == "FILL" {
		return env.fill(n)
	}
	args := make([]value, len(n.args))
	for i, a := range n.args {
		var err error
		if args[i], err = env.eval(a); err != nil {
			return value{}, err
		}
	}
	if n.name == "IF" {
		return choose(args)
	}
	return apply(n.name, args[0])
}

func apply(name string, v value) (value, error) {
	mapped := func(f func(float64) float64) (value, error) {
		if v.scalar {
			return value{scalar: true, number: f(v.number)}, nil
		}
		out := value{many: v.many}
		for _, s := range v.series {
			out.series = append(out.series, each(s, func(x float64) (float64, bool) { return f(x), true }))
		}
		return out, nil
	}
	switch name {
	case "ABS":
		return mapped(math.Abs)
	case "CEIL":
		return mapped(math.Ceil)
	case "FLOOR":
		return mapped(math.Floor)
	}
	if v.scalar {
		return value{}, fmt.Errorf("%s takes a time series, not a number", name)
	}
	switch name {
	case "PERIOD":
		if v.many || len(v.series) != 1 {
			return value{}, errors.New("PERIOD takes one metric")
		}
		return value{scalar: true, number: float64(v.series[0].Period)}, nil
	case "RATE", "DIFF", "RUNNING_SUM":
		out := value{many: v.many}
		for _, s := range v.series {
			out.series = append(out.series, along(name, s))
		}
		return out, nil
	}
	return aggregate(name, v)
}

// along computes of each value and the one before it.
func along(name string, s Series) Series {
	out := Series{ID: s.ID, Period: s.Period}
	total := 0.0
	for i, v := range s.Values {
		total += v
		switch {
		case name == "RUNNING_SUM":
			v = total
		case i == 0:
			continue
		case name == "DIFF":
			v -= s.Values[i-1]
		default:
			v = (v - s.Values[i-1]) / float64(s.At[i]-s.At[i-1])
		}
		out.At, out.Values = append(out.At, s.At[i]), append(out.Values, v)
	}
	return out
}

// aggregate makes one series of several, and a number of one.
func aggregate(name string, v value) (value, error) {
	if !v.many {
		all := v.series[0].Values
		if len(all) == 0 {
			return value{scalar: true}, nil
		}
		return value{scalar: true, number: reduce(name, all)}, nil
	}
	at := map[int64][]float64{}
	out := Series{}
	for _, s := range v.series {
		out.Period = max(out.Period, s.Period)
		for i, t := range s.At {
			at[t] = append(at[t], s.Values[i])
		}
	}
	for t := range at {
		out.At = append(out.At, t)
	}
	slices.Sort(out.At)
	for _, t := range out.At {
		out.Values = append(out.Values, reduce(name, at[t]))
	}
	return value{series: []Series{out}}, nil
}

func reduce(name string, all []float64) float64 {
	switch name {
	case "MIN":
		return slices.Min(all)
	case "MAX":
		return slices.Max(all)
	}
	sum := 0.0
	for _, v := range all {
		sum += v
	}
	if name == "AVG" {
		sum /= float64(len(all))
	}
	return sum
}

func (env Env) metrics(n node) (value, error) {
	part := ""
	if len(n.args) == 1 {
		if n.args[0].kind != isText {
			return value{}, errors.New("METRICS takes a text")
		}
		part = n.args[0].name
	}
	out := value{many: true}
	for _, id := range env.Metrics {
		if s, ok := env.Known[id]; ok && strings.Contains(id, part) {
			out.series = append(out.series, s)
		}
	}
	return out, nil
}

// fill gives periods without data a value: a number, that of another series, the last one (REPEAT), or one between its neighbours (LINEAR).
func (env Env) fill(n node) (value, error) {
	v, err := env.eval(n.args[0])
	if err != nil || v.scalar {
		return value{}, errors.Join(err, errors.New("FILL takes a time series first"))
	}
	how, with := n.args[1].name, value{}
	if n.args[1].kind != isID || how != "REPEAT" && how != "LINEAR" {
		how = ""
		if with, err = env.eval(n.args[1]); err != nil {
			return value{}, err
		}
	}
	out := value{many: v.many}
	for i, s := range v.series {
		out.series = append(out.series, env.filled(s, how, with, i))
	}
	return out, nil
}

func (env Env) filled(s Series, how string, with value, which int) Series {
	out := Series{ID: s.ID, Period: s.Period}
	if s.Period <= 0 {
		return s
	}
	known := map[int64]float64{}
	for i, t := range s.At {
		known[t] = s.Values[i]
	}
	instead := map[int64]float64{}
	if other := with.pick(which); !with.scalar {
		for i, t := range other.At {
			instead[t] = other.Values[i]
		}
	}
	begin := env.From
	if len(s.At) > 0 { // the grid is that of the values
		begin = s.At[0] - (s.At[0]-env.From)/s.Period*s.Period
	}
	for t := begin; t < env.To; t += s.Period {
		v, ok := known[t]
		if !ok {
			switch i, _ := slices.BinarySearch(s.At, t); {
			case how == "REPEAT" && i > 0:
				v, ok = s.Values[i-1], true
			case how == "LINEAR" && i > 0 && i < len(s.At):
				part := float64(t-s.At[i-1]) / float64(s.At[i]-s.At[i-1])
				v, ok = s.Values[i-1]+part*(s.Values[i]-s.Values[i-1]), true
			case how == "" && with.scalar:
				v, ok = with.number, true
			case how == "":
				v, ok = instead[t]
			}
		}
		if ok {
			out.At, out.Values = append(out.At, t), append(out.Values, v)
		}
	}
	return out
}

// choose is IF(condition, then, else).
func choose(args []value) (value, error) {
	cond := args[0]
	if cond.scalar {
		if cond.number != 0 {
			return args[1], nil
		}
		if len(args) == 3 {
			return args[2], nil
		}
		return value{series: []Series{{}}}, nil
	}
	out := value{many: cond.many}
	for i, c := range cond.series {
		r := Series{ID: c.ID, Period: c.Period}
		for j, t := range c.At {
			from := 1
			if c.Values[j] == 0 {
				from = 2
			}
			if from >= len(args) {
				continue
			}
			if v, ok := args[from].valueAt(i, t); ok {
				r.At, r.Values = append(r.At, t), append(r.Values, v)
			}
		}
		out.series = append(out.series, r)
	}
	return out, nil
}

// valueAt is a value's number at a time.
func (v value) valueAt(which int, t int64) (float64, bool) {
	if v.scalar {
		return v.number, true
	}
	s := v.pick(which)
	i, ok := slices.BinarySearch(s.At, t)
	if !ok {
		return 0, false
	}
	return s.Values[i], true
}

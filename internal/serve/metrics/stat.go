package metrics

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/berthdev/berth/internal/model"
)

// stat is a statistic set with, where all its values were known, their distribution.
type stat struct {
	count, sum, min, max float64
	// spread counts values by their place on a scale of 2 % steps, in order; nil when the set has one value or when not all were known.
	spread []bin
}

type bin struct {
	at     int32 // see place
	weight float64
}

// maxBins bounds a distribution; what lies lowest is counted together then.
const maxBins = 512

var logStep = math.Log(1.02)

// maxPlace bounds the scale: magnitudes from 1e-17 to 1e17.
const maxPlace = 2000

// place is where a value lies on the scale, whose order is that of values.
func place(v float64) int32 {
	if v == 0 {
		return 0
	}
	at := int32(max(-maxPlace, min(maxPlace, math.Ceil(math.Log(math.Abs(v))/logStep)))) + maxPlace + 1
	if v < 0 {
		return -at
	}
	return at
}

// middle is the value that a place stands for.
func middle(at int32) float64 {
	switch {
	case at == 0:
		return 0
	case at < 0:
		return -middle(-at)
	}
	return 2 * math.Exp(logStep*float64(at-maxPlace-1)) / 2.02
}

func single(v float64) stat { return stat{count: 1, sum: v, min: v, max: v} }

// statOf is the statistic set of a sample; ok is false when it holds nothing that is a number.
func statOf(s *model.Sample) (st stat, ok bool) {
	switch {
	case len(s.Values) > 0:
		for i, v := range s.Values {
			n := 1.0
			if len(s.Counts) == len(s.Values) {
				n = s.Counts[i]
			}
			if n <= 0 || !finite(v) || !finite(n) {
				continue
			}
			one := stat{count: n, sum: n * v, min: v, max: v}
			st = st.plus(one, true)
		}
	case s.Count != 0:
		st = stat{count: s.Count, sum: s.Sum, min: s.Min, max: s.Max}
	default:
		st = single(s.Value)
	}
	return st, st.count > 0 && finite(st.count) && finite(st.sum) && finite(st.min) && finite(st.max)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// bins are the distribution, of a set with one value too; nil when it is not known.
func (s stat) bins() []bin {
	if s.spread == nil && s.count > 0 && s.min == s.max {
		return []bin{{place(s.min), s.count}}
	}
	return s.spread
}

// plus adds two sets; spread tells whether distributions are wanted.
func (s stat) plus(o stat, spread bool) stat {
	if s.count == 0 {
		return o
	}
	if o.count == 0 {
		return s
	}
	sum := stat{count: s.count + o.count, sum: s.sum + o.sum, min: min(s.min, o.min), max: max(s.max, o.max)}
	if spread && sum.min != sum.max {
		if a, b := s.bins(), o.bins(); a != nil && b != nil {
			sum.spread = merge(a, b)
		}
	}
	return sum
}

func merge(a, b []bin) []bin {
	out := make([]bin, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].at < b[0].at:
			out, a = append(out, a[0]), a[1:]
		case len(a) == 0 || b[0].at < a[0].at:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, bin{a[0].at, a[0].weight + b[0].weight}), a[1:], b[1:]
		}
	}
	for len(out) > maxBins {
		out[1].weight += out[0].weight
		out = out[1:]
	}
	return out
}

// percentile is the value below which p percent lie, within 1 %.
func (s stat) percentile(p float64) (float64, bool) {
	all := s.bins()
	if all == nil {
		return 0, false
	}
	if p == 0 {
		return s.min, true
	}
	rank := p / 100 * s.count
	seen := 0.0
	for _, b := range all {
		if seen += b.weight; seen >= rank && seen > 0 {
			return max(s.min, min(s.max, middle(b.at))), true
		}
	}
	return s.max, true
}

// The forms of an encoded stat, by its first byte.
const (
	formOne    = 1 // one value, once
	formSet    = 2
	formSpread = 3 // a set and its distribution
)

func (s stat) encode() []byte {
	float := func(b []byte, v float64) []byte { return binary.BigEndian.AppendUint64(b, math.Float64bits(v)) }
	if s.count == 1 && s.min == s.max && s.sum == s.min {
		return float([]byte{formOne}, s.min)
	}
	b := make([]byte, 0, 34+8*len(s.spread))
	b = append(b, formSet)
	for _, v := range []float64{s.count, s.sum, s.min, s.max} {
		b = float(b, v)
	}
	if s.spread != nil {
		b[0] = formSpread
		last := int32(0)
		for _, x := range s.spread {
			b = binary.AppendVarint(b, int64(x.at-last))
			b = binary.AppendUvarint(b, uint64(math.Round(x.weight*8)))
			last = x.at
		}
	}
	return b
}

var errStat = errors.New("a statistic set on disk cannot be read")

func decode(b []byte) (s stat, err error) {
	float := func(at int) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b[at:])) }
	switch {
	case len(b) == 9 && b[0] == formOne:
		return single(float(1)), nil
	case len(b) < 33 || b[0] != formSet && b[0] != formSpread:
		return s, errStat
	}
	s = stat{count: float(1), sum: float(9), min: float(17), max: float(25)}
	rest, at := b[33:], int32(0)
	for len(rest) > 0 {
		step, n := binary.Varint(rest)
		if n <= 0 {
			return s, errStat
		}
		weight, m := binary.Uvarint(rest[n:])
		if m <= 0 || len(s.spread) == maxBins {
			return s, errStat
		}
		rest, at = rest[n+m:], at+int32(step)
		s.spread = append(s.spread, bin{at, float64(weight) / 8})
	}
	if !slices.IsSortedFunc(s.spread, func(a, b bin) int { return int(a.at) - int(b.at) }) {
		return s, errStat
	}
	return s, nil
}

// value is a statistic of the set; ok is false when it is not known.
func (s stat) value(name string) (v float64, ok bool) {
	if s.count == 0 {
		return 0, false
	}
	switch name {
	case "Average":
		return s.sum / s.count, true
	case "Sum":
		return s.sum, true
	case "Minimum":
		return s.min, true
	case "Maximum":
		return s.max, true
	case "SampleCount":
		return s.count, true
	}
	if p, ok := Percentile(name); ok {
		return s.percentile(p)
	}
	return 0, false
}

package metrics

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble"
)

// Query asks for a statistic of one metric, or of all that have its name and at least its dimensions.
type Query struct {
	Namespace, Name string
	Dimensions      map[string]string
	From, To        time.Time     // From is included, To is not; From is rounded down to 10 s, for periods of minutes to the minute
	Period          time.Duration // whole seconds
	// Stat is Average, Sum, Minimum, Maximum, SampleCount or a percentile (p50, p99.9).
	Stat string
	// All asks for every metric with that name and at least these dimensions, each a Result; else there is one at most.
	All bool
}

// Result is what a metric has, oldest first. Periods without samples, or without the statistic, are left out.
type Result struct {
	Dimensions map[string]string
	Unit       string
	Times      []time.Time // beginnings of periods, counted from Query.From
	Values     []float64
	Counts     []float64 // samples in each
}

var errQuery = errors.New("a query of metrics needs a period of whole seconds and a time that begins before it ends")

// maxPoints bounds the periods of a query.
const maxPoints = 100_800

// Query reads. Errors: those of the disk, or a query that is none.
func (s *Series) Query(ctx context.Context, q Query) ([]Result, error) {
	period := int64(q.Period / time.Second)
	if period < 1 || q.Period%time.Second != 0 || !q.From.Before(q.To) || q.From.Unix() < 0 || (q.To.Unix()-q.From.Unix())/period > maxPoints {
		return nil, errQuery
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil, errors.New("the store of metrics is closed")
	}
	var of []*series
	if !q.All {
		if m := s.all[key(s.region, q.Namespace, q.Name, q.Dimensions)]; m != nil {
			of = append(of, m)
		}
	} else {
		for _, m := range s.groups[s.region+"\x00"+q.Namespace] {
			if m.metric.Name == q.Name && has(m.metric.Dimensions, q.Dimensions) {
				of = append(of, m)
			}
		}
	}
	var out []Result
	for _, m := range of {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, err := s.read(m, q, period)
		if err != nil {
			return nil, err
		}
		if len(r.Times) > 0 || !q.All {
			out = append(out, r)
		}
	}
	return out, nil
}

func has(all, want map[string]string) bool {
	for k, v := range want {
		if got, ok := all[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// read reads one series. It needs the lock.
func (s *Series) read(m *series, q Query, period int64) (Result, error) {
	out := Result{Dimensions: m.metric.Dimensions, Unit: m.unit}
	from, to := q.From.Unix(), q.To.Unix()
	switch { // cells are not cut
	case period%60 == 0:
		from -= from % 60
	case period%10 == 0:
		from -= from % 10
	}
	var sums []spot // by period, in order
	take := func(at int64, st stat) {
		if at < from || at >= to {
			return
		}
		at -= (at - from) % period
		if n := len(sums); n > 0 && sums[n-1].at == at {
			sums[n-1].stat = sums[n-1].plus(st, !m.short())
			return
		}
		sums = append(sums, spot{at, st})
	}
	if t := tierFor(m, from, period); t != nil {
		if err := s.cells(m, t, from, to, take); err != nil {
			return out, err
		}
	} else {
		for _, x := range m.ring {
			take(x.at, x.stat)
		}
	}
	for _, x := range sums {
		if v, ok := x.value(q.Stat); ok {
			out.Times = append(out.Times, time.Unix(x.at, 0).UTC())
			out.Values = append(out.Values, v)
			out.Counts = append(out.Counts, x.count)
		}
	}
	return out, nil
}

// tierFor chooses the coarsest tier whose cells lie within periods: coarser ones are kept for longer. nil: the ring.
func tierFor(m *series, from, period int64) (best *tier) {
	for i := range tiers {
		t := &tiers[i]
		if t.short == m.short() && period%t.res == 0 && from%t.res == 0 && (t.res >= 60) == (period%60 == 0) {
			best = t
		}
	}
	return best
}

// cells yields what is on disk.
func (s *Series) cells(m *series, t *tier, from, to int64, take func(int64, stat)) error {
	if err := s.flush(); err != nil {
		return err
	}
	from = max(from-mod(from, t.res), s.Now().Unix()-t.keep-t.slot, 0)
	to = min(to, s.Now().Unix()+3*hour) // nothing is taken that lies further ahead
	if from >= to {
		return nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: cell{t.id, 0, from}.key(t.slot), UpperBound: []byte{t.id + 1}})
	if err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	for slot := from / t.slot; slot <= (to-1)/t.slot; slot++ {
		begin := max(from, slot*t.slot)
		end := cell{t.id, m.id, min(to, (slot+1)*t.slot) - 1}.key(t.slot)
		for it.SeekGE(cell{t.id, m.id, begin}.key(t.slot)); it.Valid() && string(it.Key()) <= string(end); it.Next() {
			k := it.Key()
			if st, err := decode(it.Value()); err == nil {
				take(int64(binary.BigEndian.Uint32(k[len(k)-4:])), st)
			}
		}
	}
	return errors.Join(it.Error(), it.Close())
}

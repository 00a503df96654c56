package metrics

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// rig is a store with a clock that stands still.
type rig struct {
	*Series
	t   *testing.T
	dir string
	now time.Time
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "metrics"), now: noon}
	r.reopen()
	t.Cleanup(func() { r.Close() })
	return r
}

func (r *rig) reopen() {
	r.t.Helper()
	var err error
	if r.Series != nil {
		if err := r.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
	if r.Series, err = Open(r.dir, "us-east-1", Config{Now: func() time.Time { return r.now }, MinFree: -1}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) put(at time.Time, v float64, change ...func(*model.Sample)) {
	s := model.Sample{Namespace: "shop", Name: "Orders", Dimensions: map[string]string{"Site": "a"}, Unit: "Count", Time: at, Value: v}
	for _, f := range change {
		f(&s)
	}
	r.Append([]model.Sample{s})
}

func (r *rig) values(stat string, from, to time.Time, period time.Duration) []float64 {
	r.t.Helper()
	all, err := r.Query(r.t.Context(), Query{Namespace: "shop", Name: "Orders", Dimensions: map[string]string{"Site": "a"}, From: from, To: to, Period: period, Stat: stat})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(all) == 0 {
		return nil
	}
	return all[0].Values
}

func (r *rig) want(what string, got []float64, want ...float64) {
	r.t.Helper()
	if !slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) <= 0.011*math.Abs(b) }) {
		r.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestStatistics(t *testing.T) {
	r := newRig(t)
	r.put(noon.Add(-90*time.Second), 4)
	r.put(noon.Add(-80*time.Second), 10)
	r.put(noon.Add(-30*time.Second), 1)
	r.put(noon.Add(-29*time.Second), 0, func(s *model.Sample) { s.Count, s.Sum, s.Min, s.Max = 3, 12, 2, 8 })
	from := noon.Add(-2 * time.Minute)
	for _, again := range []string{"in memory", "after a restart"} {
		r.want("Sum "+again, r.values("Sum", from, noon, time.Minute), 14, 13)
		r.want("Average", r.values("Average", from, noon, time.Minute), 7, 13.0/4)
		r.want("Minimum", r.values("Minimum", from, noon, time.Minute), 4, 1)
		r.want("Maximum", r.values("Maximum", from, noon, time.Minute), 10, 8)
		r.want("SampleCount", r.values("SampleCount", from, noon, time.Minute), 2, 4)
		r.want("two minutes", r.values("Sum", from, noon, 2*time.Minute), 27)
		r.want("ten seconds", r.values("Sum", from, noon, 10*time.Second), 4, 10, 13)
		r.want("p50 where all values are known", r.values("p50", from, noon, time.Minute), 4)
		r.reopen()
	}
	r.put(noon.Add(-80*time.Second), 100) // late, into a cell on disk
	r.want("late", r.values("Sum", from, noon, time.Minute), 114, 13)
	r.want("5 s are of the ring", r.values("Sum", noon.Add(-100*time.Second), noon, 5*time.Second), 100)
	r.want("what is not there", r.values("Sum", from.Add(-time.Hour), from, time.Minute))
}

func TestGrains(t *testing.T) {
	r := newRig(t)
	r.put(noon.Add(-30*time.Second), 5, func(s *model.Sample) { s.Grain = model.GrainFine })
	r.put(noon.Add(-30*time.Second), 7, func(s *model.Sample) { s.Grain = model.GrainCoarse })
	r.want("fine", r.values("Sum", noon.Add(-time.Minute), noon, 10*time.Second), 5)
	r.want("finest", r.values("Sum", noon.Add(-time.Minute), noon, time.Second), 5)
	r.want("coarse", r.values("Sum", noon.Add(-time.Minute), noon, time.Minute), 7)
}

// TestKept: a minute's cells last 15 days, coarser ones longer, and what is old is deleted.
func TestKept(t *testing.T) {
	r := newRig(t)
	r.now = noon.Add(-20 * 24 * time.Hour)
	old := r.now.Add(-time.Minute)
	r.put(old, 3)
	r.now = noon
	r.put(noon.Add(-time.Minute), 4)
	if err := r.Sweep(); err != nil {
		t.Fatal(err)
	}
	begin := old.Truncate(time.Hour)
	r.want("minutes are gone", r.values("Sum", old.Truncate(time.Minute), old.Add(time.Minute), time.Minute))
	r.want("hours are there", r.values("Sum", begin, begin.Add(time.Hour), time.Hour), 3)
	r.reopen()
	if n, _ := r.Count(); n != 1 {
		t.Errorf("%d metrics after a restart", n)
	}
	r.now = noon.Add(16 * 24 * time.Hour)
	if err := r.Sweep(); err != nil {
		t.Fatal(err)
	}
	if got := r.List(""); len(got) != 0 {
		t.Errorf("after two weeks of silence there is %v", got)
	}
}

func TestDimensions(t *testing.T) {
	r := newRig(t)
	site := func(v string) func(*model.Sample) {
		return func(s *model.Sample) { s.Dimensions = map[string]string{"Site": v, "Zone": "z"} }
	}
	r.put(noon.Add(-time.Minute), 1)
	r.put(noon.Add(-time.Minute), 2, site("a"))
	r.put(noon.Add(-time.Minute), 3, site("b"))
	q := Query{Namespace: "shop", Name: "Orders", Dimensions: map[string]string{"Zone": "z"}, From: noon.Add(-time.Minute), To: noon, Period: time.Minute, Stat: "Sum", All: true}
	all, err := r.Query(t.Context(), q)
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	if got := r.In("eu-west-1").List(""); got != nil && len(got) > 0 {
		t.Errorf("another region has %v", got)
	}
	if got := r.List("shop"); len(got) != 3 || got[0].Unit != "Count" {
		t.Errorf("list %v", got)
	}
}

// TestPercentiles: within 1 % of the truth, whatever the order in which values come.
func TestPercentiles(t *testing.T) {
	r := newRig(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var truth []float64
	for range 3000 {
		v := math.Exp(rng.NormFloat64())
		truth = append(truth, v)
		r.put(noon.Add(-time.Duration(rng.IntN(59)+1)*time.Second), v)
		if rng.IntN(500) == 0 {
			r.reopen()
		}
	}
	slices.Sort(truth)
	for _, p := range []float64{1, 50, 90, 99, 99.9} {
		want := truth[max(0, int(math.Ceil(p/100*3000))-1)]
		got := r.values(fmt.Sprintf("p%g", p), noon.Add(-time.Minute), noon, time.Minute)
		if len(got) != 1 || math.Abs(got[0]-want) > 0.02*want {
			t.Errorf("p%g: %v, want %v", p, got, want)
		}
	}
	r.put(noon.Add(-2*time.Second), 0, func(s *model.Sample) { s.Values, s.Counts = []float64{-5, 1000}, []float64{2, 3} })
	r.want("lowest", r.values("p0", noon.Add(-time.Minute), noon, time.Minute), -5)
	r.want("highest", r.values("p100", noon.Add(-time.Minute), noon, time.Minute), 1000)
}

// TestBounds: strangers' dimensions fill neither memory nor Berth's own part; what is no number is left out.
func TestBounds(t *testing.T) {
	r := newRig(t)
	var batch []model.Sample
	for i := range maxCustom + 500 {
		batch = append(batch, model.Sample{Namespace: "hostile", Name: "x", Dimensions: map[string]string{"id": fmt.Sprint(i)}, Time: noon, Value: 1})
	}
	r.Append(batch)
	if n, dropped := r.Count(); n != maxCustom || dropped != 500 {
		t.Errorf("%d metrics, %d samples left out", n, dropped)
	}
	if err := r.Room(batch[maxCustom:]); !errors.Is(err, ErrFull) {
		t.Errorf("room for more: %v", err)
	}
	if err := r.Room(batch[:10]); err != nil {
		t.Errorf("no room for what is known: %v", err)
	}
	r.Append([]model.Sample{{Namespace: "AWS/ECS", Name: "CPUUtilization", Time: noon, Value: 1}, {Namespace: "AWS/ECS", Name: "Bad", Time: noon, Value: math.NaN()}})
	if got := r.List("AWS/ECS"); len(got) != 1 {
		t.Errorf("Berth's own: %v", got)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("heap with %d metrics: %d MiB", maxCustom, m.HeapAlloc>>20)
}

// TestDamaged: a store that cannot be read is set aside.
func TestDamaged(t *testing.T) {
	r := newRig(t)
	r.put(noon, 1)
	r.reopen()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(r.dir, "MANIFEST*"))
	for _, f := range files {
		if err := os.WriteFile(f, []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.reopen()
	if got := r.List(""); len(got) != 0 {
		t.Errorf("there is %v", got)
	}
}

// FuzzDecode: whatever is on disk ends in an error or in a set that survives being written.
func FuzzDecode(f *testing.F) {
	f.Add(single(3).encode())
	f.Add(single(3).plus(single(-4), true).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b)
		if err != nil {
			return
		}
		if _, err := decode(s.encode()); err != nil {
			t.Errorf("%v is written and not read: %v", s, err)
		}
	})
}

// TestAddingIsAssociative: sets may be added in any grouping.
func TestAddingIsAssociative(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var left stat
		var parts []stat
		for range 20 {
			one := single(math.Round(rng.NormFloat64()*100) / 4)
			left = left.plus(one, true)
			parts = append(parts, one)
		}
		for len(parts) > 1 {
			i := rng.IntN(len(parts) - 1)
			back, err := decode(parts[i].plus(parts[i+1], true).encode())
			if err != nil {
				t.Fatal(err)
			}
			parts = slices.Replace(parts, i, i+2, back)
		}
		if parts[0].count != left.count || parts[0].sum != left.sum || parts[0].min != left.min || !slices.Equal(parts[0].spread, left.spread) {
			t.Fatalf("%v and %v", left, parts[0])
		}
	}
}

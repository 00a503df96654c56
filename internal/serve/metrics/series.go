// Package metrics is the one store of series: what tasks use, what load balancers count, what clients put. The console, CloudWatch's API
// and autoscaling read the same. It is kept beside the state, on every server, and nobody waits for it: samples are added up in memory
// and written every few seconds, so that a server that is killed loses some seconds of them.
//
// A metric's samples are statistic sets in cells of 1 s (the last two minutes, in memory), 10 s (three hours), 1 min (15 days), 5 min
// (63 days) and 1 h (455 days), as long as CloudWatch keeps them. A cell is added to by a merge of the database beneath, so that samples
// may come late, twice or in any order, and nothing is read to write.
package metrics

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble"

	"github.com/berthdev/berth/internal/model"
)

// NamespaceTasks is the namespace of what single tasks use, by TaskId: for the console. It is not CloudWatch's, and kept for a day.
const NamespaceTasks = "Berth/Tasks"

// The bounds. What comes for a metric that is not known yet is left out once there are as many.
const (
	maxSeries = 50_000
	// maxCustom bounds the metrics of clients (PutMetricData) within that.
	maxCustom = 20_000
	// maxPending bounds the cells that are not written yet.
	maxPending = 200_000
)

// ErrFull says that there are as many metrics as the store takes.
var ErrFull = errors.New("there are as many metrics as Berth keeps")

// Series is the store as a region sees it.
type Series struct {
	*core
	region string
}

// Config is what Open needs besides a folder.
type Config struct {
	Now func() time.Time // nil: time.Now
	Log *slog.Logger
	// MinFree is how many bytes of disk are left free: below it nothing is written. 0 means 64 MiB, negative none.
	MinFree int64
}

type core struct {
	Config
	dir string

	mu       sync.Mutex
	db       *pebble.DB // nil once closed
	all      map[string]*series
	groups   map[string]map[string]*series // by region and namespace, and then by key
	pending  map[cell]stat
	next     uint64
	custom   int
	dropped  int64 // samples that were left out
	complain time.Time
}

// series is one metric.
type series struct {
	id     uint64
	metric Metric
	region string
	unit   string
	last   int64 // unix seconds of the newest sample
	saved  int64 // last, as written
	ring   []spot
}

// spot is a second of the ring.
type spot struct {
	at int64
	stat
}

// maxRing is how many seconds with samples are kept in memory.
const maxRing = 120

// Metric names a metric.
type Metric struct {
	Namespace, Name string
	Dimensions      map[string]string
	Unit            string // of its newest sample
	Last            time.Time
}

// short tells whether the series is a task's: kept for less long, without percentiles.
func (s *series) short() bool { return s.metric.Namespace == NamespaceTasks }

func (s *series) key() string {
	return key(s.region, s.metric.Namespace, s.metric.Name, s.metric.Dimensions)
}

func key(region, namespace, name string, dimensions map[string]string) string {
	var b strings.Builder
	for _, part := range []string{region, namespace, name} {
		b.WriteString(part)
		b.WriteByte(0)
	}
	for _, d := range slices.Sorted(maps.Keys(dimensions)) {
		b.WriteString(d)
		b.WriteByte(0)
		b.WriteString(dimensions[d])
		b.WriteByte(0)
	}
	return b.String()
}

// Berths tells whether a namespace is filled by Berth itself, which clients may not put into.
func Berths(namespace string) bool {
	return strings.HasPrefix(namespace, "AWS/") || strings.HasPrefix(namespace, "Berth/") || strings.HasPrefix(namespace, "ECS/")
}

// In is the store as another region sees it.
func (s *Series) In(region string) *Series { return &Series{s.core, region} }

// Append adds samples. What is not a number, too old to be kept, or too much, is left out.
func (s *Series) Append(batch []model.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		if !s.add(s.region, &batch[i]) {
			s.dropped++
		}
	}
}

// Room tells whether n metrics more would be taken of a client. Errors: ErrFull.
func (s *Series) Room(batch []model.Sample) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := map[string]bool{}
	for i := range batch {
		b := &batch[i]
		if k := key(s.region, b.Namespace, b.Name, b.Dimensions); s.all[k] == nil {
			fresh[k] = true
		}
	}
	if len(fresh) > 0 && (len(s.all)+len(fresh) > maxSeries || s.custom+len(fresh) > maxCustom) {
		return ErrFull
	}
	return nil
}

// add needs the lock.
func (c *core) add(region string, sample *model.Sample) bool {
	st, ok := statOf(sample)
	if !ok || c.db == nil {
		return false
	}
	s, ok := c.find(region, sample)
	if !ok {
		return false
	}
	at := sample.Time.Unix()
	s.last, s.unit = max(s.last, at), cmp.Or(sample.Unit, s.unit, "None")
	if sample.Grain != model.GrainCoarse {
		s.note(at, st)
	}
	now := c.Now().Unix()
	for i := range tiers {
		t := &tiers[i]
		if t.short != s.short() || t.res < 60 && sample.Grain == model.GrainCoarse || t.res >= 60 && sample.Grain == model.GrainFine || at < now-t.keep {
			continue
		}
		k := cell{t.id, s.id, at - mod(at, t.res)}
		old, known := c.pending[k]
		if !known && len(c.pending) >= maxPending {
			return false
		}
		c.pending[k] = old.plus(st, !t.short)
	}
	return true
}

// find returns the series of a sample, which is made if there is room.
func (c *core) find(region string, b *model.Sample) (*series, bool) {
	k := key(region, b.Namespace, b.Name, b.Dimensions)
	if s := c.all[k]; s != nil {
		return s, true
	}
	own := Berths(b.Namespace)
	if len(c.all) >= maxSeries || !own && c.custom >= maxCustom {
		return nil, false
	}
	c.next++
	s := &series{id: c.next, region: region, metric: Metric{Namespace: b.Namespace, Name: b.Name, Dimensions: maps.Clone(b.Dimensions)}}
	c.keep(k, s)
	return s, true
}

// keep puts a series into the indexes.
func (c *core) keep(k string, s *series) {
	c.all[k] = s
	group := s.region + "\x00" + s.metric.Namespace
	if c.groups[group] == nil {
		c.groups[group] = map[string]*series{}
	}
	c.groups[group][k] = s
	if !Berths(s.metric.Namespace) {
		c.custom++
	}
}

func (c *core) forget(k string, s *series) {
	delete(c.all, k)
	group := s.region + "\x00" + s.metric.Namespace
	if delete(c.groups[group], k); len(c.groups[group]) == 0 {
		delete(c.groups, group)
	}
	if !Berths(s.metric.Namespace) {
		c.custom--
	}
}

// note puts a sample into the ring.
func (s *series) note(at int64, st stat) {
	i, found := slices.BinarySearchFunc(s.ring, at, func(x spot, at int64) int { return cmp.Compare(x.at, at) })
	if found {
		s.ring[i].stat = s.ring[i].plus(st, !s.short())
		return
	}
	if len(s.ring) == maxRing {
		if i == 0 {
			return
		}
		copy(s.ring, s.ring[1:i])
		s.ring[i-1] = spot{at, st}
		return
	}
	s.ring = slices.Insert(s.ring, i, spot{at, st})
}

func mod(a, b int64) int64 { return ((a % b) + b) % b }

// List returns the metrics of a namespace ("" for all) in the order of their names and dimensions.
func (s *Series) List(namespace string) []Metric {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	found := map[string]*series{}
	for group, members := range s.groups {
		region, ns, _ := strings.Cut(group, "\x00")
		if region != s.region || namespace != "" && ns != namespace {
			continue
		}
		for k, m := range members {
			keys = append(keys, k)
			found[k] = m
		}
	}
	slices.Sort(keys)
	out := make([]Metric, 0, len(keys))
	for _, k := range keys {
		m := found[k].metric
		m.Unit, m.Last = found[k].unit, time.Unix(found[k].last, 0).UTC()
		out = append(out, m)
	}
	return out
}

// Count tells how many metrics there are, and how many samples were left out since the start.
func (s *Series) Count() (metrics int, dropped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all), s.dropped
}

// Percentile reads the name of a percentile: p50, p99.9.
func Percentile(stat string) (float64, bool) {
	rest, ok := strings.CutPrefix(stat, "p")
	if !ok || rest == "" || strings.Trim(rest, "0123456789.") != "" || len(rest) > 14 {
		return 0, false
	}
	p, err := strconv.ParseFloat(rest, 64)
	return p, err == nil && p >= 0 && p <= 100
}

// Open opens the store in dir. One that is damaged is set aside under dir.broken-<time>, and an empty one takes its place.
func Open(dir string, region string, c Config) (*Series, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MinFree == 0 {
		c.MinFree = 64 << 20
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the metrics' folder: %w", err)
	}
	s := &core{Config: c, dir: dir}
	err := s.open()
	if damaged(err) {
		aside := dir + ".broken-" + c.Now().UTC().Format("20060102T150405.000")
		if moved := errors.Join(os.Rename(dir, aside), os.MkdirAll(dir, 0o700)); moved != nil {
			return nil, errors.Join(err, moved)
		}
		c.Log.Error("the store of metrics is damaged: metrics begin anew, and what was there is kept at "+aside+" (delete it when nobody needs it)", "error", err)
		err = s.open()
	}
	if err != nil {
		return nil, fmt.Errorf("open metrics: %w", err)
	}
	return &Series{s, region}, nil
}

package store

import (
	"context"
	"iter"
	"strings"

	"github.com/berthdev/berth/internal/model"
)

// A region's tables are named <region>@<table>. Implementations know them by the kind of their table and make them with their first row;
// until then they are empty.
const regionMark = "@"

// BaseTable is the table that a region's table is one of: its own name for those of the home region.
func BaseTable(name string) string {
	if _, base, ok := strings.Cut(name, regionMark); ok {
		return base
	}
	return name
}

// Partition is the state of a region of its own, in s: nothing in it meets what is in s itself, the home region, or in another partition.
// Its Updates are Updates of s. With its first row the region is listed in s's table Regions. Closing it closes s.
func Partition(s Store, region string) Store { return &partition{s, region} }

type partition struct {
	Store
	region string
}

func (p *partition) in(table string) string { return p.region + regionMark + table }

// View implements Store.
func (p *partition) View(f func(Reader)) {
	p.Store.View(func(r Reader) { f(partitionReader{r, p}) })
}

// Update implements Store.
func (p *partition) Update(ctx context.Context, f func(Tx) error) error {
	return p.Store.Update(ctx, func(tx Tx) error { return f(&partitionTx{partitionReader{tx, p}, tx}) })
}

// Watch implements Store.
func (p *partition) Watch(ctx context.Context, interests ...Interest) *Watcher {
	var mine []Interest
	for _, i := range interests {
		i.Table = p.in(i.Table)
		mine = append(mine, i)
	}
	if len(interests) == 0 {
		for _, kind := range Schema() {
			mine = append(mine, Interest{Table: p.in(kind.Name)})
		}
	}
	return p.Store.Watch(ctx, mine...)
}

// Follow implements Store.
func (p *partition) Follow(f Follower) { p.Store.Follow(&partitionFollower{f, p}) }

type partitionFollower struct {
	f Follower
	p *partition
}

// Reset implements Follower.
func (f *partitionFollower) Reset(r Reader) { f.f.Reset(partitionReader{r, f.p}) }

// Apply implements Follower.
func (f *partitionFollower) Apply(changes []Change) {
	var mine []Change
	for _, c := range changes {
		if base := BaseTable(c.Table); c.Table == f.p.in(base) {
			c.Table = base
			mine = append(mine, c)
		}
	}
	if len(mine) > 0 {
		f.f.Apply(mine)
	}
}

type partitionReader struct {
	Reader
	p *partition
}

// GetRow implements Reader.
func (r partitionReader) GetRow(table, key string) any { return r.Reader.GetRow(r.p.in(table), key) }

// ScanRows implements Reader.
func (r partitionReader) ScanRows(table, prefix string) iter.Seq[any] {
	return r.Reader.ScanRows(r.p.in(table), prefix)
}

// IndexRows implements Reader.
func (r partitionReader) IndexRows(table, index, value string) iter.Seq[any] {
	return r.Reader.IndexRows(r.p.in(table), index, value)
}

type partitionTx struct {
	partitionReader
	tx Tx
}

// PutRow implements Tx.
func (t *partitionTx) PutRow(table, key string, value any) {
	if _, known := Regions.Get(t.tx, t.p.region); !known {
		Regions.Put(t.tx, &model.Region{Name: t.p.region})
	}
	t.tx.PutRow(t.p.in(table), key, value)
}

// DeleteRow implements Tx.
func (t *partitionTx) DeleteRow(table, key string) { t.tx.DeleteRow(t.p.in(table), key) }

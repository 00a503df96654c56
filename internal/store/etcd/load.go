package etcd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mirror"
)

// Bounds of what is read at once: a page begins with few rows and then has as many as pageBytes should hold. Each page costs etcd a walk
// over all keys behind it, so few large pages are quicker than many small ones.
const (
	firstPage = 1000
	maxPage   = 50_000
	pageBytes = 16 << 20
	pageTries = 3
)

// load reads all of this member's state at one moment, which the others may be ahead of, and makes it visible. It ends when ctx is done or
// when it gets no further: no page comes within the store's patience, several times.
func (s *Store) load(ctx context.Context) error {
	state, err := mirror.New(s.kinds, 0)
	if err != nil {
		return err
	}
	l := &loader{s: s, parts: map[place]any{}, whole: map[place]bool{}, tx: state.Begin()}
	// The parts come first, so that rows are whole when they are put.
	if err := errors.Join(l.pass(ctx, partRows, l.part), l.pass(ctx, tables, l.row)); err != nil {
		return err
	}
	fence, err := s.get(ctx, fenceKey, clientv3.WithRev(l.at))
	if err != nil {
		return err
	}
	s.fence, s.at = "", l.at
	if len(fence.Kvs) > 0 {
		s.fence = string(fence.Kvs[0].Value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole = l.whole
	s.ahead = l.tx.Commit().At(revisionOf(s.fence))
	s.published.Store(s.ahead)
	s.followers.Reset(s.ahead.Reader())
	return nil
}

// get reads what this member has, with patience: an answer that does not come in time is asked for again.
func (s *Store) get(ctx context.Context, key string, opts ...clientv3.OpOption) (res *clientv3.GetResponse, err error) {
	opts = append(opts, clientv3.WithSerializable())
	for range pageTries {
		attempt, cancel := context.WithTimeout(ctx, s.patience)
		res, err = s.member.Load().kv.Get(attempt, key, opts...)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return res, err
}

// place is where a row is.
type place struct{ table, key string }

// loader reads rows: pages are fetched while those before are decoded, by as many goroutines as there are processors.
type loader struct {
	s     *Store
	at    int64         // the revision of etcd that all pages are read at
	parts map[place]any // decoded, not joined yet
	whole map[place]bool
	tx    *mirror.Tx
}

// item is a row, or a part of one, on its way.
type item struct {
	place
	kind  store.Kind
	value any
}

// decodeRun is how many rows a decoder takes at once.
const decodeRun = 256

// pass reads everything below prefix and puts it by put, in any order.
func (l *loader) pass(ctx context.Context, prefix string, put func(item)) error {
	g, ctx := errgroup.WithContext(ctx)
	runs := make(chan []*mvccpb.KeyValue, 2*runtime.GOMAXPROCS(0))
	decoded := make(chan []item, 2*runtime.GOMAXPROCS(0))
	g.Go(func() error {
		defer close(runs)
		return l.fetch(ctx, prefix, runs)
	})
	var decoders errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		decoders.Go(func() error { return l.decode(ctx, runs, decoded) })
	}
	g.Go(func() error {
		defer close(decoded)
		return decoders.Wait()
	})
	for items := range decoded {
		for _, i := range items {
			put(i)
		}
	}
	return g.Wait()
}

// fetch reads the pages below prefix.
func (l *loader) fetch(ctx context.Context, prefix string, runs chan<- []*mvccpb.KeyValue) error {
	limit := int64(firstPage)
	for from, end := prefix, clientv3.GetPrefixRangeEnd(prefix); ; {
		page, err := l.s.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(l.at))
		if err != nil {
			return err
		}
		if l.at == 0 {
			l.at = page.Header.Revision
		}
		bytes := 0
		for rest := page.Kvs; len(rest) > 0; {
			run := rest[:min(decodeRun, len(rest))]
			rest = rest[len(run):]
			for _, kv := range run {
				bytes += len(kv.Key) + len(kv.Value)
			}
			select {
			case runs <- run:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if !page.More {
			return nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		limit = int64(min(maxPage, max(firstPage, pageBytes/(bytes/len(page.Kvs)+1))))
	}
}

// decode makes values of what it finds on runs. What a newer version wrote into tables that this one does not know stays where it is.
func (l *loader) decode(ctx context.Context, runs <-chan []*mvccpb.KeyValue, decoded chan<- []item) error {
	for run := range runs {
		items := make([]item, 0, len(run))
		for _, kv := range run {
			i, known, err := read(l.s.byName, string(kv.Key), kv.Value)
			if err != nil {
				return fmt.Errorf("%w: row %s of table %s: %w", errDamaged, i.key, i.table, err)
			}
			if known {
				items = append(items, i)
			}
		}
		select {
		case decoded <- items:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// locate tells which row, or part of one, is at a key of etcd's. known is false for rows that are none of these kinds'.
func locate(kinds map[string]store.Kind, at string) (i item, isPart, known bool) {
	rest, isPart := strings.CutPrefix(at, partRows)
	if !isPart {
		rest, known = strings.CutPrefix(at, tables)
	}
	i.table, i.key, _ = strings.Cut(rest, "/")
	if known || isPart {
		i.kind, known = kinds[store.BaseTable(i.table)]
	}
	return i, isPart, known && (!isPart || i.kind.Part != nil)
}

// read makes a value of what etcd holds at a key. known is as in locate; of the other rows it looks at the checksum only: a row's table can
// change by itself as well.
func read(kinds map[string]store.Kind, at string, value []byte) (i item, known bool, err error) {
	i, isPart, known := locate(kinds, at)
	data, err := unseal(at, value)
	if err != nil {
		return i, true, err
	}
	if !known {
		return i, false, nil
	}
	if decode := i.kind.Decode; !isPart {
		i.value, err = decode(data)
	} else {
		i.value, err = i.kind.Part.Decode(data)
	}
	return i, true, err
}

func (l *loader) part(i item) { l.parts[i.place] = i.value }

// row puts a row whole. One that was written before its table had parts has its part within.
func (l *loader) row(i item) {
	if i.kind.Part != nil {
		if part, ok := l.parts[i.place]; ok {
			i.kind.Part.Join(i.value, part)
			delete(l.parts, i.place)
		} else {
			l.whole[i.place] = true
		}
	}
	l.tx.PutRow(i.table, i.key, i.value)
}

package etcd

import (
	"fmt"
	"reflect"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mirror"
)

// Bounds of one update, of what a batch collects before the next is begun, and of what etcd takes at once: a full batch and one
// update more, with room for the encoding.
const (
	maxUpdateBytes  = 16 << 20
	maxUpdateOps    = 50_000
	maxBatchBytes   = 1 << 20
	maxBatchOps     = 5_000
	maxRequestBytes = 32 << 20
	maxRequestOps   = 100_000
)

// Where the rows are, /berth/<table>/<key>, and the parts of them that are stored apart.
const (
	tables   = "/berth/"
	partRows = "/berth.parts/"
)

// batch is the updates that are committed as one etcd transaction.
type batch struct {
	ops     map[string]clientv3.Op // by key: etcd refuses two operations on one key, and the last one counts
	size    int                    // bytes, of all operations ever added
	after   *mirror.State          // what the batch leads to
	changes []store.Change         // of all updates, oldest first
	updates int

	done chan struct{}
	err  error // readable after done
}

// enqueue adds an update to the last batch of the queue, or begins one. Needs mu, and s.ahead to be what the update led to.
func (s *Store) enqueue(changes []store.Change, ops []clientv3.Op, size int) *batch {
	var b *batch
	if n := len(s.queue); n > 0 {
		b = s.queue[n-1]
	}
	if b == nil || b.size > maxBatchBytes || len(b.ops) > maxBatchOps {
		b = &batch{ops: map[string]clientv3.Op{}, done: make(chan struct{})}
		s.queue = append(s.queue, b)
	}
	for _, op := range ops {
		b.ops[string(op.KeyBytes())] = op
	}
	b.changes = append(b.changes, changes...)
	b.size += size
	b.after = s.ahead
	b.updates++
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return b
}

// operations returns the batch's operations; their order means nothing, as no two are on one key.
func (b *batch) operations() []clientv3.Op {
	ops := make([]clientv3.Op, 0, len(b.ops)+1)
	for _, op := range b.ops {
		ops = append(ops, op)
	}
	return ops
}

// pieces are the tables' parts, by table.
type pieces map[string]*store.Part

func piecesOf(kinds []store.Kind) pieces {
	p := pieces{}
	for _, kind := range kinds {
		if kind.Part != nil {
			p[kind.Name] = kind.Part
		}
	}
	return p
}

// piece is a value at a key of etcd; nil: deleted.
type piece struct {
	key   string
	value any
}

// of returns the pieces of a row that a change touches; all of them when the row is stored in one piece so far.
func (p pieces) of(c store.Change, whole bool) []piece {
	key := c.Table + "/" + c.Key
	part, apart := p[store.BaseTable(c.Table)]
	switch {
	case !apart:
		return []piece{{tables + key, c.New}}
	case c.New == nil:
		return []piece{{tables + key, nil}, {partRows + key, nil}}
	}
	rest, own := part.Split(c.New)
	if c.Old == nil || whole {
		return []piece{{tables + key, rest}, {partRows + key, own}}
	}
	oldRest, oldOwn := part.Split(c.Old)
	var all []piece
	if !reflect.DeepEqual(rest, oldRest) {
		all = append(all, piece{tables + key, rest})
	}
	if !reflect.DeepEqual(own, oldOwn) {
		all = append(all, piece{partRows + key, own})
	}
	return all
}

// encode makes etcd operations of an update's changes and tells how many bytes they have.
func (p pieces) encode(changes []store.Change, whole map[place]bool) (ops []clientv3.Op, size int, err error) {
	for _, c := range changes {
		for _, piece := range p.of(c, whole[place{c.Table, c.Key}]) {
			size += len(piece.key)
			if piece.value == nil {
				ops = append(ops, clientv3.OpDelete(piece.key))
				continue
			}
			data, err := model.EncodeRow(piece.value)
			if err != nil {
				return nil, 0, fmt.Errorf("encode %s of table %s: %w", c.Key, c.Table, err)
			}
			size += len(data)
			ops = append(ops, clientv3.OpPut(piece.key, seal(piece.key, data)))
		}
	}
	return ops, size, nil
}

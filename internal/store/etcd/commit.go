package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berthdev/berth/internal/store"
)

// fenceKey holds "<writer>/<revision>": who committed last, and to which revision of the store. Every commit demands the value
// that it knows and writes the next. So a commit whose answer was lost cannot happen twice, nor late, over newer state.
const fenceKey = "/berth-fence"

// errUnknown is a commit of which nobody knows whether it happened.
var errUnknown = errors.New("the outcome is unknown")

// errFenced is a commit that found another writer's fence. Nothing was written, and this process shall not write any more.
var errFenced = errors.New("another process has taken the store over")

// How long etcd may take to answer one request, and how many attempts to commit are made while the outcome is unknown.
const (
	patience       = 10 * time.Second
	commitAttempts = 3
)

// compactEvery is how many of etcd's revisions may gather: nobody reads old ones here, and their pages cost memory.
const compactEvery = 1000

// commitBatches is the committer: the one goroutine that writes to etcd.
func (s *Store) commitBatches() {
	defer close(s.stopped)
	for {
		select {
		case <-s.stop:
			s.failQueue(store.ErrClosed)
			return
		case <-s.wake:
		}
		for b := s.take(); b != nil; b = s.take() {
			if err := s.room.ask(true); err != nil { // it was asked for in Update
				s.fail(b, err)
				continue
			}
			if err := s.commit(b); err != nil {
				s.log.Error("cannot commit to the store", "updates", b.updates, "error", err)
				s.fail(b, err)
				continue
			}
			s.published.Store(b.after)
			s.land()
			s.hub.Notify(b.changes)
			close(b.done)
		}
	}
}

// take moves the first batch of the queue into flight; nil when there is none or the store closes.
func (s *Store) take() *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.queue) == 0 {
		return nil
	}
	s.flying, s.queue = s.queue[0], s.queue[1:]
	return s.flying
}

func (s *Store) land() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying = nil
}

// fail ends b, and all that ran on top of it, with err. The next updates run on what is published.
func (s *Store) fail(b *batch, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := append([]*batch{b}, s.queue...)
	s.flying, s.queue = nil, nil
	s.ahead = s.published.Load()
	s.revert(failed)
	for _, b := range failed {
		b.err = fmt.Errorf("commit: %w", err)
		close(b.done)
	}
}

// revert tells the followers that what they knew of is not to be.
func (s *Store) revert(failed []*batch) {
	if s.anew {
		s.anew = false
		s.followers.Reset(s.ahead.Reader())
		return
	}
	var undone []store.Change
	for _, b := range failed {
		undone = append(undone, b.changes...)
	}
	s.followers.Undo(undone)
}

func (s *Store) failQueue(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.queue {
		b.err = err
		close(b.done)
	}
	s.queue = nil
}

// commit makes b durable. When it fails nothing of b is visible. After a failure of unknown outcome, or when another writer is
// found, the state in memory is no longer sure to be etcd's: it is loaded anew before the next commit, which fails.
func (s *Store) commit(b *batch) error {
	if s.lost {
		return s.recover()
	}
	next := fenceOf(writerOf(s.fence), b.after.Revision())
	err := s.write(next, b.operations())
	switch {
	case err == nil:
		s.fence = next
	case errors.Is(err, errUnknown):
		s.lost = true
		return errors.Join(err, s.recover())
	}
	return err
}

// recover loads the state that etcd holds; it always returns an error, for the batch that is not committed for it. It may take as long
// as it gets on: the last published state can be read meanwhile. The next batch tries again when it fails.
func (s *Store) recover() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	state, err := s.load(ctx)
	if err != nil {
		return fmt.Errorf("load the state after a failed commit: %w", err)
	}
	s.lost, s.anew = false, true
	s.published.Store(state)
	s.hub.NotifyAll()
	return errors.New("the state was loaded anew after a failed commit; try again")
}

// write makes ops happen once, together with the step from s.fence to next. Errors: errUnknown, errFenced, or that of an etcd
// that refused.
func (s *Store) write(next string, ops []clientv3.Op) error {
	var unknown error
	for range commitAttempts {
		res, err := s.attempt(next, ops)
		switch {
		case err == nil && res.Succeeded:
			s.compact(res.Header.Revision)
			return nil
		case err == nil && valueOf(res) == next:
			return nil // the attempt before, of which no answer came, did it
		case err == nil:
			return errFenced
		case refused(err) && unknown == nil:
			return err
		}
		unknown = err
	}
	return fmt.Errorf("%w: %w", errUnknown, unknown)
}

func (s *Store) attempt(next string, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	unchanged := clientv3.Compare(clientv3.Value(fenceKey), "=", s.fence)
	if s.fence == "" {
		unchanged = clientv3.Compare(clientv3.CreateRevision(fenceKey), "=", 0)
	}
	ops = append(ops[:len(ops):len(ops)], clientv3.OpPut(fenceKey, next))
	return s.kv.Txn(ctx).If(unchanged).Then(ops...).Else(clientv3.OpGet(fenceKey)).Commit()
}

// compact has etcd forget the revisions before at, now and then. Commits do not wait for it.
func (s *Store) compact(at int64) {
	if at-s.compacted < compactEvery || s.pinned.Load() > 0 {
		return
	}
	s.compacted = at
	s.compacting.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.patience)
		defer cancel()
		if _, err := s.kv.Compact(ctx, at); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			s.log.Warn("cannot compact the store", "revision", at, "error", err)
		}
	})
}

// refused tells whether etcd says for sure that it did nothing.
func refused(err error) bool {
	for _, sure := range []error{rpctypes.ErrNoSpace, rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyOps,
		rpctypes.ErrTooManyRequests} {
		if errors.Is(err, sure) {
			return true
		}
	}
	return false
}

// valueOf is the fence that a transaction found instead of the one that it demanded.
func valueOf(res *clientv3.TxnResponse) string {
	for _, r := range res.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			return string(kv.Value)
		}
	}
	return ""
}

func fenceOf(writer string, revision uint64) string {
	return writer + "/" + strconv.FormatUint(revision, 10)
}

func writerOf(fence string) string {
	writer, _, _ := strings.Cut(fence, "/")
	return writer
}

func revisionOf(fence string) uint64 {
	_, digits, _ := strings.Cut(fence, "/")
	revision, _ := strconv.ParseUint(digits, 10, 64) // "": a new store
	return revision
}

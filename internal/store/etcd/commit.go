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

// errFenced is a commit that found another writer's fence. Nothing was written, and nothing is before this process has seen what the
// other wrote.
var errFenced = errors.New("another server has taken the store over")

// How long etcd may take to answer one request, and how many attempts to commit are made while the outcome is unknown.
const (
	patience       = 10 * time.Second
	commitAttempts = 3
)

// lead commits until this server loses its office, etcd must restart or the store closes.
func (s *Store) lead() {
	m := s.member.Load()
	ctx, cancel := s.hold(m)
	defer cancel()
	for {
		select {
		case <-s.stop:
			return
		case <-ctx.Done():
			s.stepDown(m, nil, nil)
			return
		case <-s.full:
			s.handOver(ctx, m)
			continue
		case w := <-s.changes:
			for !s.idle() {
				if !s.commitQueue(ctx, m) {
					break
				}
			}
			s.restart(w)
			return
		case <-s.wake:
		}
		if !s.commitQueue(ctx, m) {
			return
		}
	}
}

// hold returns a context that ends when raft's office does.
func (s *Store) hold(m *member) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	term := s.office.Load().term
	var look <-chan time.Time // raft does not say that there is no leader any more
	if !m.alone {
		tick := time.NewTicker(leadPoll)
		look = tick.C
		context.AfterFunc(ctx, tick.Stop)
	}
	go func() {
		defer cancel()
		for {
			changed := m.etcd.Server.LeaderChangedNotify()
			if !m.leads() || m.etcd.Server.Term() != term {
				return
			}
			select {
			case <-changed:
			case <-look:
			case <-m.etcd.Server.StopNotify():
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// idle tells whether nothing waits to be committed; if so, no Update begins before this server leads again.
func (s *Store) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 {
		return false
	}
	s.turn(office{Role: Role{Reign: s.office.Load().Reign}, coming: true})
	return true
}

// commitQueue commits what waits; false: this server does not lead any more.
func (s *Store) commitQueue(ctx context.Context, m *member) bool {
	for b := s.take(); b != nil; b = s.take() {
		if err := s.room.ask(true); err != nil { // it was asked for in Update
			s.fail(b, err, err)
			continue
		}
		if err := s.commit(ctx, m, b); err != nil {
			s.log.Error("cannot commit to the store", "updates", b.updates, "error", err)
			if errors.Is(err, store.ErrUnknown) || errors.Is(err, errFenced) {
				s.stepDown(m, b, err)
				return false
			}
			s.fail(b, err, err)
			continue
		}
		s.published.Store(b.after)
		s.land()
		s.hub.Notify(b.changes)
		close(b.done)
	}
	return true
}

// stepDown ends this server's office: b, if there is one, with err, and all behind it with the news that nothing of it happened. What is
// published stays; etcd will tell what of b happened after all.
func (s *Store) stepDown(m *member, b *batch, err error) {
	s.mu.Lock()
	now := s.office.Load()
	next := office{Role: Role{Leader: m.leader(), Reign: now.Reign}, coming: m.sole()}
	s.turn(next)
	s.mu.Unlock()
	if !m.alone {
		s.log.Info("this server does not lead any more", "leader", next.Leader)
	}
	s.fail(b, err, &store.NotLeaderError{Leader: next.Leader})
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

// fail ends b, if there is one, with err, and all that ran on top of it with errRest. The next updates run on what is published.
func (s *Store) fail(b *batch, err, errRest error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed []*batch
	if b != nil {
		b.err = fmt.Errorf("commit: %w", err)
		failed = append(failed, b)
	}
	for _, rest := range s.queue {
		rest.err = fmt.Errorf("commit: %w", errRest)
		failed = append(failed, rest)
	}
	s.flying, s.queue = nil, nil
	s.ahead = s.published.Load()
	var undone []store.Change
	for _, one := range failed {
		undone = append(undone, one.changes...)
	}
	s.followers.Undo(undone)
	for _, one := range failed {
		close(one.done)
	}
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

// commit makes b durable. When it fails nothing of b is visible. After store.ErrUnknown and errFenced the state in memory is no longer
// sure to be etcd's.
func (s *Store) commit(ctx context.Context, m *member, b *batch) error {
	next := fenceOf(writerOf(s.fence), b.after.Revision())
	at, err := s.write(ctx, m, next, b.operations())
	if err != nil {
		return err
	}
	s.fence, s.at = next, at
	s.compact(m, at, b.size)
	return nil
}

// write makes ops happen once, together with the step from s.fence to next, and tells at which of etcd's revisions. Errors:
// store.ErrUnknown, errFenced, or that of an etcd that refused. It makes no more attempts when ctx is done.
func (s *Store) write(ctx context.Context, m *member, next string, ops []clientv3.Op) (at int64, err error) {
	var unknown error
	for range commitAttempts {
		res, err := s.attempt(ctx, m, next, ops)
		switch {
		case err == nil && res.Succeeded:
			return res.Header.Revision, nil
		case err == nil && valueOf(res) == next:
			return res.Header.Revision, nil // the attempt before, of which no answer came, did it
		case err == nil:
			return 0, errFenced
		case refused(err) && unknown == nil:
			return 0, err
		}
		unknown = err
		if ctx.Err() != nil {
			break
		}
	}
	return 0, fmt.Errorf("%w: %w", store.ErrUnknown, unknown)
}

func (s *Store) attempt(ctx context.Context, m *member, next string, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	unchanged := clientv3.Compare(clientv3.Value(fenceKey), "=", s.fence)
	if s.fence == "" {
		unchanged = clientv3.Compare(clientv3.CreateRevision(fenceKey), "=", 0)
	}
	ops = append(ops[:len(ops):len(ops)], clientv3.OpPut(fenceKey, next))
	return m.kv.Txn(ctx).If(unchanged).Then(ops...).Else(clientv3.OpGet(fenceKey)).Commit()
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

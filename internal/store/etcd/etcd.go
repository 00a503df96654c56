// Package etcd is the durable store: JSON values in an embedded etcd, mirrored in memory for reads. One goroutine commits: it runs the
// updates that queued up while the last commit was syncing, and sends their writes to etcd as one transaction (group commit).
package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mirror"
)

// Bounds of one etcd transaction. An update is never split, so a single one may use all of maxRequest.
const (
	maxOps     = 100_000
	maxRequest = 64 << 20 // bytes
	batchBytes = 1 << 20  // a batch takes no further update past this
	prefix     = "/berth/"
)

// Config is what Open needs.
type Config struct {
	Dir   string // 0700; holds etcd's data
	Kinds []store.Kind
	Log   *slog.Logger
}

// Store implements store.Store.
type Store struct {
	mirror  *mirror.Mirror
	server  *embed.Etcd
	client  *clientv3.Client
	log     *slog.Logger
	queue   chan *update
	stop    context.CancelFunc
	stopped chan struct{}
	ctx     context.Context
	once    sync.Once
}

var _ store.Store = (*Store)(nil)

// update is one waiting call of Update.
type update struct {
	ctx  context.Context
	f    func(store.Tx) error
	done chan error
}

// Open starts etcd on c.Dir and loads everything.
func Open(ctx context.Context, c Config) (*Store, error) {
	m, err := mirror.New(c.Kinds)
	if err != nil {
		return nil, err
	}
	server, err := start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", c.Dir, err)
	}
	s := &Store{mirror: m, server: server, client: v3client.New(server.Server), log: c.Log, queue: make(chan *update, 1024),
		stopped: make(chan struct{})}
	if err := s.load(ctx, c.Kinds); err != nil {
		server.Close()
		return nil, fmt.Errorf("load state: %w", err)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	go s.commitLoop()
	return s, nil
}

// start runs a single-member etcd without any listener: only this process reaches it.
func start(ctx context.Context, c Config) (*embed.Etcd, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	conf := embed.NewConfig()
	conf.Name = "berth"
	conf.Dir = filepath.Join(c.Dir, "data")
	conf.ListenClientUrls, conf.ListenPeerUrls = nil, nil
	nobody := []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}} // the member's name in its own records; nothing listens there
	conf.AdvertiseClientUrls, conf.AdvertisePeerUrls = nobody, nobody
	conf.InitialCluster = conf.InitialClusterFromName(conf.Name)
	conf.TickMs, conf.ElectionMs = 10, 100 // one member has no one to wait for
	conf.QuotaBackendBytes = 8 << 30
	conf.MaxTxnOps, conf.MaxRequestBytes = maxOps, maxRequest
	conf.SnapshotCount = 2000 // entries that raft keeps in memory
	conf.SnapshotCatchUpEntries = 100
	conf.BackendFreelistType = "map"
	conf.BackendBatchInterval = 100 * time.Millisecond
	conf.AutoCompactionMode, conf.AutoCompactionRetention = "revision", "1000"
	conf.EnableGRPCGateway = false
	conf.WarningApplyDuration = time.Second
	conf.WarningUnaryRequestDuration = 5 * time.Second
	conf.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(&core{log: c.Log.With("component", "etcd")}))
	server, err := embed.StartEtcd(conf)
	if err != nil {
		return nil, err
	}
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case err := <-server.Err():
		return nil, err
	case <-ctx.Done():
		server.Close()
		return nil, ctx.Err()
	case <-time.After(time.Minute):
		server.Close()
		return nil, errors.New("it was not ready within a minute")
	}
}

// load fills the mirror, page by page.
func (s *Store) load(ctx context.Context, kinds []store.Kind) error {
	byName := map[string]store.Kind{}
	for _, k := range kinds {
		byName[k.Name] = k
	}
	batch := s.mirror.Begin()
	defer batch.Abort()
	const page = 2000
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		res, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page))
		if err != nil {
			return err
		}
		for _, kv := range res.Kvs {
			table, key, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), prefix), "/")
			k, ok := byName[table]
			if !ok {
				continue // of a newer version; kept as it is
			}
			v, err := k.Decode(kv.Value)
			if err != nil {
				return fmt.Errorf("decode %s %s: %w", table, key, err)
			}
			if err := batch.Update(func(tx store.Tx) error { tx.PutRow(table, key, v); return nil }); err != nil {
				return err
			}
		}
		if !res.More {
			batch.Publish()
			return nil
		}
		from = string(res.Kvs[len(res.Kvs)-1].Key) + "\x00"
	}
}

// View implements store.Store.
func (s *Store) View(f func(store.Reader)) { f(s.mirror.Snapshot()) }

// Update implements store.Store. Once it was queued it runs even when ctx ends; Update then returns ctx's error without knowing
// the outcome.
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return store.ErrClosed
	}
	u := &update{ctx, f, make(chan error, 1)}
	select {
	case s.queue <- u:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return store.ErrClosed
	}
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		select {
		case err := <-u.done:
			return err
		default:
			return store.ErrClosed
		}
	}
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, tables ...string) <-chan struct{} {
	return s.mirror.Watch(ctx, tables...)
}

// Close implements store.Store; a second call does nothing.
func (s *Store) Close() (err error) {
	s.once.Do(func() { err = s.close() })
	return err
}

func (s *Store) close() error {
	s.stop()
	<-s.stopped
	s.mirror.Close()
	err := s.client.Close()
	s.server.Close()
	<-s.server.Server.StopNotify()
	if errors.Is(err, context.Canceled) { // how the in-process client says that it was closed
		return nil
	}
	return err
}

// commitLoop is the one writer.
func (s *Store) commitLoop() {
	defer close(s.stopped)
	for {
		select {
		case <-s.ctx.Done():
			return
		case u := <-s.queue:
			s.commit(u)
		}
	}
}

// commit runs u and what else is waiting, writes all of it to etcd at once, publishes it, and tells the callers.
func (s *Store) commit(u *update) {
	batch := s.mirror.Begin()
	var ops []clientv3.Op
	var waiting []*update
	size := 0
	batch.Check = func(writes []mirror.Write) error {
		more, n, err := encode(writes)
		ops, size = append(ops, more...), size+n
		return err
	}
	for u != nil {
		err := u.ctx.Err()
		if err == nil {
			err = batch.Update(u.f)
		}
		if err != nil {
			u.done <- err
		} else {
			waiting = append(waiting, u)
		}
		u = nil
		if size < batchBytes && len(ops) < maxOps/10 {
			select {
			case u = <-s.queue:
			default:
			}
		}
	}
	if err := s.write(ops); err != nil {
		batch.Abort()
		s.log.Error("cannot commit", "updates", len(waiting), "error", err)
		for _, u := range waiting {
			u.done <- fmt.Errorf("commit: %w", err)
		}
		return
	}
	batch.Publish()
	for _, u := range waiting {
		u.done <- nil
	}
}

// encode makes etcd operations of the writes, all or none, and tells how many bytes they have.
func encode(writes []mirror.Write) (ops []clientv3.Op, size int, err error) {
	for _, w := range writes {
		key := prefix + w.Table + "/" + w.Key
		if w.Value == nil {
			ops = append(ops, clientv3.OpDelete(key))
			continue
		}
		data, err := json.Marshal(w.Value)
		if err != nil {
			return nil, 0, fmt.Errorf("encode %s %s: %w", w.Table, w.Key, err)
		}
		size += len(data)
		ops = append(ops, clientv3.OpPut(key, string(data)))
	}
	return ops, size, nil
}

// write commits ops durably. etcd refuses two operations on one key in a transaction: only the last of each key counts.
func (s *Store) write(ops []clientv3.Op) error {
	if len(ops) == 0 {
		return nil
	}
	last := map[string]int{}
	for i, op := range ops {
		last[string(op.KeyBytes())] = i
	}
	if len(last) < len(ops) {
		kept := ops[:0:0]
		for i, op := range ops {
			if last[string(op.KeyBytes())] == i {
				kept = append(kept, op)
			}
		}
		ops = kept
	}
	_, err := s.client.Txn(context.WithoutCancel(s.ctx)).Then(ops...).Commit()
	return err
}

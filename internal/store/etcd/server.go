package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// startPatience is how long etcd may take until it serves; replaying its log after a crash is most of it.
const startPatience = time.Minute

// start runs etcd. A single member has no listener: only this process reaches it, through function calls. One with Peers may not be ready
// yet when start returns: that takes a majority. What etcd cannot read is errDamaged: it ends by a panic or a fatal error, of which its log says the reason.
func start(ctx context.Context, c Config) (server *embed.Etcd, err error) {
	said := &core{log: c.Log.With("component", "etcd"), starting: &starting{}}
	said.starting.on.Store(true)
	defer said.starting.on.Store(false)
	joins := c.Peers != nil && len(c.Peers.Join) > 0 && !begun(c.Dir)
	defer func() {
		if p := recover(); p != nil {
			server, err = nil, fmt.Errorf("%w: %v", errDamaged, p)
		}
		if words := said.starting.last(); err != nil && strings.Contains(words, syscall.ENOSPC.Error()) { // etcd's own error does not say
			err = fmt.Errorf("the disk is full, and etcd needs %d MiB to start: free some space (%s)", reserve>>20, words)
			return
		}
		if err != nil && !joins && broken(err) && said.starting.last() != "" {
			err = fmt.Errorf("%w: %w: %s", errDamaged, err, said.starting.last())
		}
	}()
	if err := complete(c.Dir); err != nil {
		return nil, err
	}
	e, err := configure(c, said)
	if err != nil {
		return nil, err
	}
	if server, err = embed.StartEtcd(e); err != nil {
		return nil, err
	}
	if c.Peers != nil {
		return server, nil
	}
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case err = <-server.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-patience.C:
		err = errSlow
	}
	server.Close()
	return nil, err
}

// complete refuses a member of which a half is lost, since etcd would begin the other anew and then leave out what it takes for done, and
// one whose data file cannot be read: etcd and bbolt read it on goroutines of their own, where a fault ends the process.
func complete(dir string) error {
	member := filepath.Join(dir, "data", "member")
	_, errData := os.Stat(filepath.Join(member, "snap", "db"))
	wals, err := filepath.Glob(filepath.Join(member, "wal", "*.wal"))
	switch {
	case err != nil:
		return err
	case errData == nil && len(wals) == 0:
		return fmt.Errorf("%w: the log in %s is lost", errDamaged, filepath.Join(member, "wal"))
	case errors.Is(errData, fs.ErrNotExist) && len(wals) > 0:
		return fmt.Errorf("%w: %s is lost", errDamaged, filepath.Join(member, "snap", "db"))
	case errData == nil:
		err := history(dir, func(written) {})
		if err != nil && broken(err) {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		return err
	}
	return nil
}

// broken tells whether a start failed for what is in the files, and not for the machine around them.
func broken(err error) bool {
	return !slices.ContainsFunc([]error{context.Canceled, context.DeadlineExceeded, errSlow, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EMFILE,
		syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EIO, syscall.EAGAIN, syscall.EADDRINUSE, syscall.EADDRNOTAVAIL}, func(e error) bool { return errors.Is(err, e) })
}

var (
	errSlow    = errors.New("it was not ready within a minute")
	errDamaged = errors.New("damaged")
)

// begun tells whether dir holds a member already.
func begun(dir string) bool {
	wals, err := filepath.Glob(filepath.Join(dir, "data", "member", "wal", "*.wal"))
	return err == nil && len(wals) > 0
}

func configure(c Config, said *core) (*embed.Config, error) {
	e := embed.NewConfig()
	e.Name = "berth"
	e.Dir = filepath.Join(c.Dir, "data")
	e.ListenClientUrls, e.ListenPeerUrls = nil, nil
	nobody := []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}} // the member's name in its own records; nothing listens there
	e.AdvertiseClientUrls, e.AdvertisePeerUrls = nobody, nobody
	e.InitialCluster = e.InitialClusterFromName(e.Name)
	e.InitialClusterToken = uuid.NewString() // two clusters never take each other's members for their own
	e.TickMs, e.ElectionMs = 20, 100         // one member has no one to wait for
	e.MaxTxnOps, e.MaxRequestBytes = maxRequestOps, maxRequestBytes
	e.QuotaBackendBytes = 8 << 30
	e.SnapshotCount, e.SnapshotCatchUpEntries = 2000, 5 // the latter, and 100 more, are kept in memory; nobody has to catch up
	e.MaxSnapFiles, e.MaxWalFiles = 2, 2
	e.BackendFreelistType = "map"
	e.BootstrapDefragThresholdMegabytes = 32 // the whole file is mapped and populated: free pages cost memory too
	e.EnableGRPCGateway = false
	e.WarningApplyDuration = time.Second
	e.WarningUnaryRequestDuration = 5 * time.Second
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(said, zap.WithFatalHook(said.starting)))
	if c.Peers != nil {
		return e, c.Peers.configure(e)
	}
	return e, nil
}

// configure makes e one of several members.
func (p *Peers) configure(e *embed.Config) error {
	if p.CertFile == "" || p.KeyFile == "" || p.CAFile == "" || p.ServerName == "" {
		return errors.New("servers talk to each other with certificates only")
	}
	listen, err := url.Parse(peerURL(p.Listen))
	if err != nil {
		return err
	}
	own, err := url.Parse(peerURL(p.Address))
	if err != nil {
		return err
	}
	e.Name = p.Name
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{*listen}, []url.URL{*own}
	e.PeerTLSInfo = transport.TLSInfo{CertFile: p.CertFile, KeyFile: p.KeyFile, TrustedCAFile: p.CAFile, ClientCertAuth: true,
		ServerName: p.ServerName, AllowedHostnames: []string{p.ServerName}, SkipClientSANVerify: true}
	e.ElectionMs = uint(cmp.Or(p.ElectionMs, 1000))
	e.TickMs = e.ElectionMs / 10
	e.SnapshotCatchUpEntries = 5000
	e.ForceNewCluster = p.Forced
	e.InitialCluster = p.Name + "=" + own.String()
	if len(p.Join) > 0 {
		e.ClusterState = embed.ClusterStateFlagExisting
		var all []string
		for _, one := range p.Join {
			all = append(all, one.Name+"="+peerURL(one.Address))
		}
		e.InitialCluster = strings.Join(all, ",")
	}
	if p.together != "" {
		e.ClusterState, e.InitialClusterToken = embed.ClusterStateFlagNew, p.together
	}
	return nil
}

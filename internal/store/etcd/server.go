package etcd

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// startPatience is how long etcd may take until it serves; replaying its log after a crash is most of it.
const startPatience = time.Minute

// start runs a single-member etcd without any listener: only this process reaches it, through function calls.
func start(ctx context.Context, c Config) (*embed.Etcd, error) {
	server, err := embed.StartEtcd(configure(c))
	if err != nil {
		return nil, err
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
		err = errors.New("it was not ready within a minute")
	}
	server.Close()
	return nil, err
}

func configure(c Config) *embed.Config {
	e := embed.NewConfig()
	e.Name = "berth"
	e.Dir = filepath.Join(c.Dir, "data")
	e.ListenClientUrls, e.ListenPeerUrls = nil, nil
	nobody := []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}} // the member's name in its own records; nothing listens there
	e.AdvertiseClientUrls, e.AdvertisePeerUrls = nobody, nobody
	e.InitialCluster = e.InitialClusterFromName(e.Name)
	e.TickMs, e.ElectionMs = 20, 100 // one member has no one to wait for
	e.MaxTxnOps, e.MaxRequestBytes = maxRequestOps, maxRequestBytes
	e.QuotaBackendBytes = 8 << 30
	e.SnapshotCount, e.SnapshotCatchUpEntries = 2000, 100 // entries that raft keeps in memory
	e.MaxSnapFiles, e.MaxWalFiles = 2, 2
	e.BackendFreelistType = "map"
	e.BootstrapDefragThresholdMegabytes = 32 // the whole file is mapped and populated: free pages cost memory too
	e.EnableGRPCGateway = false
	e.WarningApplyDuration = time.Second
	e.WarningUnaryRequestDuration = 5 * time.Second
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(&core{log: c.Log.With("component", "etcd")}))
	return e
}

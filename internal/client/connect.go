package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/relay"
	"github.com/berthdev/berth/internal/timeouts"
)

// connect makes a cluster's API answer on this machine.
func (c *common) connect() *cobra.Command {
	listen := ""
	cmd := &cobra.Command{Use: "connect [berth://SERVER:4567/TOKEN]", Short: "Make a cluster's API and registry answer at localhost:4566, as on its own machines",
		Long: `Make a cluster's API and registry answer at localhost:4566, as on the cluster's own machines, until it is interrupted. The token is that
of "berth token client" on a server; without one, that of the last time is used. It needs no rights of an administrator.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return connectTo(cmd.Context(), strings.Join(args, ""), listen, cmd.OutOrStdout())
		}}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:4566", "where the API is to answer on this machine")
	return cmd
}

// laptop is a machine that only calls the API.
type laptop struct {
	url      pki.JoinURL
	clock    *pki.Clock
	identity atomic.Pointer[pki.Identity]
	servers  atomic.Pointer[[]string]
	dialer   *peer.Dialer
	log      *slog.Logger
}

func connectTo(ctx context.Context, url, listen string, out io.Writer) error {
	file, err := lastConnection()
	if err != nil {
		return err
	}
	if url == "" {
		if url, err = readConnection(file); err != nil {
			return err
		}
	}
	l := &laptop{clock: &pki.Clock{}, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if l.url, err = pki.ParseJoinURL(url, pki.RoleClient); err != nil {
		return Usage(err)
	}
	at, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("%w; does a Berth run on this machine already? Choose another address with --listen", err)
	}
	defer at.Close()
	res, err := l.join(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(l.url.String()+"\n"), 0o600)); err != nil {
		l.log.Warn("the token is not remembered", "error", err)
	}
	l.dialer = peer.NewDialer(peer.Config{Identity: l.identity.Load, Clock: l.clock, Log: l.log})
	fmt.Fprintf(out, `Cluster %s (account %s, region %s) answers at http://%s until this is interrupted
  a shell for it:   export AWS_ENDPOINT_URL=http://%s AWS_REGION=%s   (and the keys that berth env prints on a server)
  the registry:     localhost:%d/<repository>
`, res.Identity.Peer.Cluster, res.Site.Account, res.Site.Region, at.Addr(), at.Addr(), res.Site.Region, at.Addr().(*net.TCPAddr).Port)
	go l.stay(ctx)
	return relay.New(relay.Config{Servers: func() []string { return *l.servers.Load() }, Dial: l.dialer.Dial, Log: l.log}).Serve(ctx, at)
}

// join gets a certificate, which is never written down.
func (l *laptop) join(ctx context.Context) (*join.Result, error) {
	res, err := join.Join(ctx, join.Config{URL: l.url, Clock: l.clock})
	if err != nil {
		return nil, err
	}
	l.identity.Store(res.Identity)
	l.learn(res.Servers)
	return res, nil
}

// learn notes where the servers are; those of the URL are asked last.
func (l *laptop) learn(servers []string) {
	all := slices.Clone(servers)
	for _, s := range l.url.Addresses {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	l.servers.Store(&all)
}

// stay asks from time to time where the servers are, and gets another certificate before this one ends.
func (l *laptop) stay(ctx context.Context) {
	tick := time.NewTicker(timeouts.MembersRefresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.clock.Now().After(l.identity.Load().RenewAt(0)) {
			if _, err := l.join(ctx); err != nil {
				l.log.Warn("no other certificate for this machine", "error", err)
			}
			continue
		}
		for _, address := range *l.servers.Load() {
			if m, err := l.members(ctx, address); err == nil && len(m.Servers) > 0 {
				l.learn(m.Servers)
				break
			}
		}
	}
}

func (l *laptop) members(ctx context.Context, address string) (m join.Members, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.JoinCall)
	defer cancel()
	client := l.dialer.HTTP(address)
	defer client.CloseIdleConnections()
	return m, join.Get(ctx, client, join.PathMembers, &m)
}

// lastConnection is the file that remembers the last token, for this user only.
func lastConnection() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place to remember the token in: %w", err)
	}
	return filepath.Join(dir, "berth", "connect"), nil
}

func readConnection(file string) (string, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", Usage(errors.New("name the cluster: berth connect berth://SERVER:4567/TOKEN; on a server, berth token client prints it"))
	}
	return strings.TrimSpace(string(data)), err
}

package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/berthdev/berth/internal/timeouts"
)

// ToAPI is the server's side: it carries connections of l, which come from relays, to the API's own address on this machine, until ctx is
// done. Load balancers' names are served there too.
func ToAPI(ctx context.Context, l net.Listener, api string, log *slog.Logger) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the relays' connections: %w", err)
		}
		all.Go(func() {
			defer c.Close()
			dial, cancel := context.WithTimeout(ctx, timeouts.PeerDial)
			defer cancel()
			near, err := new(net.Dialer).DialContext(dial, "tcp", api)
			if err != nil {
				log.Warn("a request of a relay did not reach the API", "address", api, "error", err)
				return
			}
			p := &pair{client: c, server: near}
			stop := context.AfterFunc(ctx, p.close)
			defer stop()
			p.copy()
		})
	}
}

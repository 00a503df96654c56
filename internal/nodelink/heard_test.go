package nodelink_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// TestNoBeats: a node whose beats nobody answers says so in its session, each second.
func TestNoBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard, noBeats atomic.Int64
		server := nodelink.NewServer(nodelink.ServerConfig{Store: mem.New(store.Schema()), OnHeard: func(node string, none bool) {
			if heard.Add(1); none && node == "n1" {
				noBeats.Add(1)
			}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var passes atomic.Bool
		passes.Store(true)
		c := nodelink.NewClient(nodelink.ClientConfig{Declare: func() model.Declaration { return model.Declaration{} }, Beats: passes.Load,
			OnAssign: func([]model.Assignment) {}, Dial: func(context.Context) (nodelink.Conn, error) {
				near, far := nodelink.Pipe()
				go func() { _ = server.Serve(ctx, nodelink.Caller{Node: "n1"}, near) }()
				return far, nil
			}})
		go func() { _ = c.Run(ctx) }()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if n := heard.Load(); n != 2 || noBeats.Load() != 0 {
			t.Errorf("%d messages in 10 s while beats pass, %d say that they do not", n, noBeats.Load())
		}
		passes.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := noBeats.Load(); n < 10 || n > 15 {
			t.Errorf("beats do not pass, which is said %d times in 10 s", n)
		}
	})
}

package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
)

// One that hangs is replaced, and who came meanwhile is served, not refused.
func TestAHungProcessIsReplaced(t *testing.T) {
	r := newRig(t)
	r.silence = 2500 * time.Millisecond // more than two beats
	r.keep("one")
	r.answers("hello")
	hung := r.pid()
	if err := syscall.Kill(hung, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var waiting errgroup.Group
	for range 20 {
		waiting.Go(func() error {
			got, err := r.get(r.port)
			if err == nil && got != "hello" {
				err = errors.New(got)
			}
			return err
		})
	}
	if err := waiting.Wait(); err != nil {
		t.Errorf("a connection that came while the process hung: %v", err)
	}
	t.Logf("served after %s", time.Since(began))
	if pid := r.pid(); pid == hung || pid == 0 {
		t.Errorf("process %d was replaced by %d", hung, pid)
	}
	r.answers("hello")
}

// A process that ends again and again is started with growing pauses; the API's port and the load balancer's are held meanwhile.
func TestAProcessThatEndsAgainAndAgain(t *testing.T) {
	for _, version := range []string{"ends at once", "ends soon"} {
		t.Run(version, func(t *testing.T) {
			r := newRig(t)
			pauses := make(chan time.Duration, 100)
			r.log = told(func(rec slog.Record) {
				rec.Attrs(func(a slog.Attr) bool {
					if a.Key == "in" {
						pauses <- a.Value.Duration()
					}
					return true
				})
			})
			r.keep("one")
			r.answers("hello")
			good := r.keeper.c
			r.stop()
			// The Config is what a Keeper starts again with: this one has a program that is broken.
			bad := good
			bad.Version = version
			k, err := OpenKeeper(KeeperConfig{Config: bad, Log: slog.New(r.log), OnHealth: func(model.TargetHealth) {}, OnProblem: func(string, string) {}})
			if err != nil {
				t.Fatal(err)
			}
			k.c.Addresses = good.Addresses
			k.Change(r.table("hello").Whole())
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- k.Run(ctx) }()
			r.kill()
			var last time.Duration
			for n := range 5 {
				pause := <-pauses
				if pause < last || n == 4 && pause < 4*minPause {
					t.Errorf("pause %d is %v after %v", n, pause, last)
				}
				last = pause
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
				if err != nil {
					t.Errorf("the load balancer's port meanwhile: %v", err)
					continue
				}
				c.Close()
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			k.Close()
			if err := Stop(context.Background(), bad); err != nil {
				t.Error(err)
			}
		})
	}
}

// told is a slog.Handler that calls a function.
type told func(slog.Record)

func (f told) Enabled(context.Context, slog.Level) bool { return true }
func (f told) Handle(_ context.Context, r slog.Record) error {
	f(r)
	return nil
}
func (f told) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f told) WithGroup(string) slog.Handler      { return f }

package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	for !stopped(t, hung) {
		time.Sleep(time.Millisecond)
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
	for r.pid() == hung || r.pid() == 0 {
		time.Sleep(time.Millisecond)
	}
	r.answers("hello")
}

// stopped tells whether all threads of a process are: until then one may take a connection, which ends with the process.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		t.Fatalf("process %d: %v", pid, err)
	}
	for _, file := range stats {
		if data, err := os.ReadFile(file); err == nil && !strings.Contains(string(data), ") T ") {
			return false
		}
	}
	return true
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
			var longest time.Duration
			for range 20 { // on a slow machine it may seem steady now and then
				if longest = max(longest, <-pauses); longest >= 4*minPause {
					break
				}
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
				if err != nil {
					t.Errorf("the load balancer's port meanwhile: %v", err)
					continue
				}
				c.Close()
			}
			if longest < 4*minPause {
				t.Errorf("the longest pause is %v", longest)
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

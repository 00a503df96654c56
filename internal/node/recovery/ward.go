//go:build linux

package recovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/timeouts"
)

// hidden is what the name of a bundle that is set aside begins with: containerd passes over such folders when it starts.
const hidden = "."

// Ward keeps apart the shims that do not answer. Its methods may be called from many goroutines.
type Ward struct {
	shims Shims
	mu    sync.Mutex
	held  map[string]bundle // by namespace and id
}

// NewWard makes one. Admit comes first.
func NewWard(s Shims) *Ward { return &Ward{shims: s, held: map[string]bundle{}} }

// Admit asks all shims at once, and sets aside the bundles of those that do not answer within timeouts.ShimProbe. It must run
// before containerd looks at its bundles. Their containers run on.
func (w *Ward) Admit(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	// One that is set aside has no bundle of its name beside it.
	errs := []error{w.sweep(func(dir, _, id string) bool {
		_, err := os.Lstat(filepath.Join(dir, id))
		return err == nil
	})}
	bySocket := map[string][]bundle{}
	for _, b := range w.shims.bundles() {
		bySocket[b.socket] = append(bySocket[b.socket], b)
	}
	replies := ask(ctx, bySocket)
	clear(w.held)
	for socket, all := range bySocket {
		aside := replies[socket] == silent
		for _, b := range all {
			if err := w.move(b, aside); err != nil {
				errs = append(errs, fmt.Errorf("set the container %s aside: %w", b.id, err))
				continue
			}
			if aside {
				log.G(ctx).WithField("id", b.id).Warn("the container's shim does not answer; the container runs on, and containerd starts without it")
				w.held[b.namespace+"/"+b.id] = b
			}
		}
	}
	return errors.Join(append(errs, w.sweep(func(_, namespace, id string) bool {
		_, aside := w.held[namespace+"/"+id]
		return !aside
	}))...)
}

// sweep removes hidden bundles that are nobody's: containerd hides a bundle before it removes it, and one that was killed between left it.
// While it is there no bundle of its name can be removed, and its container is never made again. left tells which, by the namespace's folder,
// the namespace and the id. It needs the lock.
func (w *Ward) sweep(left func(dir, namespace, id string) bool) error {
	var errs []error
	dirs, _ := filepath.Glob(filepath.Join(w.shims.folder(), "*", hidden+"*"))
	for _, dir := range dirs {
		if !left(filepath.Dir(dir), filepath.Base(filepath.Dir(dir)), strings.TrimPrefix(filepath.Base(dir), hidden)) {
			continue
		}
		err := mount.UnmountRecursive(filepath.Join(dir, "rootfs"), unix.MNT_DETACH)
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("what is left of a bundle: %w", err))
		}
	}
	return errors.Join(errs...)
}

// move hides a bundle from containerd, or shows it.
func (w *Ward) move(b bundle, aside bool) error {
	if b.aside == aside {
		return nil
	}
	dir := filepath.Join(w.shims.folder(), b.namespace)
	from, to := filepath.Join(dir, b.id), filepath.Join(dir, hidden+b.id)
	if !aside {
		from, to = to, from
	}
	return os.Rename(from, to)
}

// Holds tells whether a container was set aside.
func (w *Ward) Holds(namespace, id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.held[namespace+"/"+id]
	return ok
}

// Wait returns when one of the shims answers, or has died: then containerd is to begin anew, and Admit shows the bundle to it. The
// error is ctx's.
func (w *Ward) Wait(ctx context.Context) error {
	tick := time.NewTicker(timeouts.ShimWatch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		w.mu.Lock()
		held := map[string][]bundle{}
		for _, b := range w.held {
			held[b.socket] = append(held[b.socket], b)
		}
		w.mu.Unlock()
		for socket, r := range ask(ctx, held) {
			if r != silent && ctx.Err() == nil {
				log.G(ctx).WithField("id", held[socket][0].id).Warn("a shim that did not answer is back, or has ended")
				return nil
			}
		}
	}
}

// reply is what a shim says when it is asked for a container.
type reply int

const (
	dead reply = iota // nobody listens
	alive
	silent
)

// ask asks the shims of bundles, which are listed by their sockets, all at once.
func ask(ctx context.Context, bySocket map[string][]bundle) map[string]reply {
	var mu sync.Mutex
	var asked sync.WaitGroup
	replies := map[string]reply{}
	for socket, all := range bySocket {
		asked.Go(func() {
			r := answer(ctx, socket, all[0].id)
			mu.Lock()
			defer mu.Unlock()
			replies[socket] = r
		})
	}
	asked.Wait()
	return replies
}

// answer asks the shim behind a socket for a container; whatever it says of that, it answers.
func answer(ctx context.Context, socket, id string) reply {
	ctx, cancel := context.WithTimeout(ctx, timeouts.ShimProbe)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, unix.EAGAIN) {
			return silent // so many wait to be taken that the kernel takes no more
		}
		return dead
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	_, err = taskapi.NewTTRPCTaskClient(client).Connect(ctx, &taskapi.ConnectRequest{ID: id})
	switch {
	case err == nil:
		return alive
	case ctx.Err() != nil:
		return silent
	case errors.Is(err, ttrpc.ErrClosed):
		return dead
	}
	return alive
}

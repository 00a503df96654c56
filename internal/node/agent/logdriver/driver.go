package logdriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/semaphore"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what a Driver works with. Sink is required for containers that use awslogs.
type Config struct {
	Sink agent.LogSink
	Poll time.Duration // between looks at a file without any event; 0 means 5 s
	Now  func() time.Time
	Log  *slog.Logger
}

// Driver follows the output of containers. It implements agent.Logs.
type Driver struct {
	cfg     Config
	watcher *fsnotify.Watcher // nil when the machine gives none: then files are polled
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	credit  *semaphore.Weighted

	mu        sync.Mutex
	followers map[string]*follower // by container id
	byDir     map[string]*follower
}

var _ agent.Logs = (*Driver)(nil)

// fastPoll is how often files are looked at without inotify.
const fastPoll = 250 * time.Millisecond

// New makes a driver. Close it.
func New(cfg Config) *Driver {
	if cfg.Poll == 0 {
		cfg.Poll = timeouts.LogPoll
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{cfg: cfg, credit: semaphore.NewWeighted(creditBytes), followers: map[string]*follower{}, byDir: map[string]*follower{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	watcher, err := fsnotify.NewBufferedWatcher(256)
	if err != nil {
		cfg.Log.Warn("no inotify instance is left: container output is polled; raise fs.inotify.max_user_instances", "error", err)
		return d
	}
	d.watcher = watcher
	d.running.Go(d.dispatch)
	return d
}

// Close stops following. What was not yet carried stays in the files for the next driver.
func (d *Driver) Close() error {
	d.cancel()
	var err error
	if d.watcher != nil {
		err = d.watcher.Close()
	}
	d.running.Wait()
	return err
}

// Open implements agent.Logs.
func (d *Driver) Open(ctx context.Context, spec agent.LogSpec) (agent.LogFiles, error) {
	files := agent.LogFiles{Stdout: filepath.Join(spec.Dir, "stdout"), Stderr: filepath.Join(spec.Dir, "stderr")}
	target, err := targetOf(spec)
	if err != nil {
		return files, &agent.Error{Name: "ResourceInitializationError", Message: err.Error()}
	}
	files.Bound = target.bound()
	d.mu.Lock()
	open := d.followers[spec.ID] != nil
	d.mu.Unlock()
	if open {
		return files, nil
	}
	if spec.Resume {
		if _, err := os.Stat(files.Stdout); errors.Is(err, fs.ErrNotExist) {
			return files, nil // everything was carried before
		}
	} else if target.group != "" {
		if err := d.cfg.Sink.Prepare(ctx, target.group, target.stream, target.create); err != nil {
			return files, err
		}
	}
	f, err := d.newFollower(spec, target, files)
	if err != nil {
		return files, fmt.Errorf("open the log of container %s: %w", spec.Container, err)
	}
	return files, d.follow(f)
}

// follow starts f unless its container is followed already.
func (d *Driver) follow(f *follower) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil || d.followers[f.spec.ID] != nil {
		f.close()
		return d.ctx.Err()
	}
	d.followers[f.spec.ID], d.byDir[f.spec.Dir] = f, f
	if d.watcher == nil || d.watcher.Add(f.spec.Dir) != nil {
		f.poll = fastPoll
	}
	d.running.Go(func() {
		f.run(d.ctx)
		d.mu.Lock()
		delete(d.followers, f.spec.ID)
		delete(d.byDir, f.spec.Dir)
		d.mu.Unlock()
		if d.watcher != nil && f.poll != fastPoll {
			_ = d.watcher.Remove(f.spec.Dir) // the folder may be gone already, and its watch with it
		}
		close(f.done)
	})
	return nil
}

// Finish implements agent.Logs.
func (d *Driver) Finish(ctx context.Context, id string) error {
	d.mu.Lock()
	f := d.followers[id]
	d.mu.Unlock()
	if f == nil {
		return nil
	}
	f.finish()
	select {
	case <-f.done:
		return d.ctx.Err()
	case <-ctx.Done():
		return fmt.Errorf("the log of container %s is not carried away yet: %w", f.spec.Container, ctx.Err())
	}
}

// dispatch wakes the followers of the files that changed.
func (d *Driver) dispatch() {
	for {
		select {
		case ev, ok := <-d.watcher.Events:
			if !ok {
				return
			}
			d.mu.Lock()
			f := d.byDir[filepath.Dir(ev.Name)]
			d.mu.Unlock()
			if name := filepath.Base(ev.Name); f != nil && (name == streams[0] || name == streams[1]) {
				f.look()
			}
		case _, ok := <-d.watcher.Errors: // events were lost: everybody looks
			if !ok {
				return
			}
			d.mu.Lock()
			for _, f := range d.followers {
				f.look()
			}
			d.mu.Unlock()
		}
	}
}

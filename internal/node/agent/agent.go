package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what an Agent works with. Runtime, Images, Network, Logs, StateDir and Report are required.
type Config struct {
	Runtime Runtime
	Images  Images
	Network Network
	Logs    Logs

	// StateDir holds one folder a task: its record, generated files, task-scoped volumes and logs. Mode 0700.
	StateDir string
	// RunDir holds the files that are generated for containers, on a small file system a task; they need not outlive the machine's
	// run. "" keeps them in StateDir, and containers cannot write them.
	RunDir string
	// VolumeDir holds docker volumes of scope "shared", which outlive tasks. "" means StateDir/volumes.
	VolumeDir string

	// GPUs are the numbers of the machine's.
	GPUs []string
	// FileSystems tells what stands for EFS file systems and access points here, by their ids: a directory, or nfs://HOST/PATH. It is asked
	// when a task begins; nil: nothing does.
	FileSystems func() (map[string]string, error)

	Region string     // AWS_REGION and AWS_DEFAULT_REGION of containers that do not set them; "" sets neither
	Pace   model.Pace // fast: health checks are also probed each second until their first success
	// Env are further variables (KEY=value) of every container whose definition does not set them.
	Env []string

	// MetadataURL is where containers find the metadata endpoint, "" means http://169.254.170.2; HostMetadataURL is the same
	// for tasks in host mode, "" means they have none.
	MetadataURL     string
	HostMetadataURL string

	// NameServer is where containers ask when the machine's name servers are on its loopback, which they do not reach; "" means nowhere.
	NameServer string
	// Names: the name server at NameServer is this machine's own, knows the names of namespaces, and is there for as long as tasks run: it is
	// the only one that containers in a namespace of their own are given.
	Names bool
	// ResolvConf and Hosts are the machine's files, "" means those in /etc.
	ResolvConf string
	Hosts      string

	// Handout asks a server for what a task's containers are given at their start; nil: tasks that need it are refused. An *Error is final.
	Handout func(ctx context.Context, taskID string) (*model.Handout, error)

	// Report takes a task's newest observation. It must not block; a later report of a task replaces an earlier one.
	Report func(model.Report)

	// StopCode and StopReason are what tasks end of that are told to stop by somebody else than the server, which knows why.
	StopCode   types.TaskStopCode
	StopReason string

	Relist   time.Duration // between repairs by Runtime.List; 0 means 3 s
	KeepLogs time.Duration // how long json-file logs outlive their task's assignment; 0 means 1 h

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil discards
}

func (c Config) withDefaults() Config {
	c.VolumeDir = cmp.Or(c.VolumeDir, filepath.Join(c.StateDir, "volumes"))
	c.MetadataURL = cmp.Or(c.MetadataURL, "http://169.254.170.2")
	c.ResolvConf = cmp.Or(c.ResolvConf, "/etc/resolv.conf")
	c.Hosts = cmp.Or(c.Hosts, "/etc/hosts")
	c.Relist = cmp.Or(c.Relist, timeouts.Relist)
	c.KeepLogs = cmp.Or(c.KeepLogs, timeouts.KeepLogs)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Report == nil {
		c.Report = func(model.Report) {}
	}
	return c
}

// Agent runs the tasks of one node. Make it with New, then Run it; the other methods may be called at any time.
type Agent struct {
	cfg          Config
	pulls        *pulls
	poke         chan struct{} // "look again": capacity 1
	workers      sync.WaitGroup
	listing      atomic.Bool
	lists        atomic.Int64 // how often the runtime was asked for all containers
	interactions interactions
	swept        time.Time // of the last sweep; only repair's goroutine touches it, of which there is one at a time

	mu          sync.Mutex
	desired     map[string]model.Assignment // of the server; before it has spoken, what an earlier agent was told
	keep        bool                        // tasks that the server's state does not know go on: it was put back from a backup
	known       map[string]bool             // while keep: the tasks of the server's sets, which it takes away if it wants
	arrived     bool                        // the server's first set is here
	recovered   bool                        // what an earlier agent left has been looked at
	confirmed   bool                        // and again, with the server's set
	tasks       map[string]*task
	credentials map[string]*task  // by credentials id
	gpus        map[string]string // the tasks that have them, by their numbers
}

// New makes an agent. It does nothing before Run.
func New(cfg Config) *Agent {
	cfg = cfg.withDefaults()
	return &Agent{
		cfg: cfg, pulls: newPulls(cfg.Images), poke: make(chan struct{}, 1),
		tasks: map[string]*task{}, credentials: map[string]*task{}, gpus: map[string]string{},
	}
}

// SetAssignments says which tasks this node must have: always the whole set. A task that is not in it is stopped and
// forgotten. It returns at once.
func (a *Agent) SetAssignments(set []model.Assignment) {
	desired := make(map[string]model.Assignment, len(set))
	for _, as := range set {
		if as.Task != nil && safeName(as.Task.ID) {
			desired[as.Task.ID] = as
		}
	}
	a.mu.Lock()
	if a.keep {
		for id := range desired {
			a.known[id] = true
		}
		for id, as := range a.desired {
			if !a.known[id] {
				desired[id] = as
			}
		}
	}
	a.desired, a.arrived = desired, true
	a.mu.Unlock()
	a.look()
}

// Keep says, before a SetAssignments, whether tasks that are here and were in no set since are kept.
func (a *Agent) Keep(keep bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if keep && !a.keep {
		a.known = map[string]bool{}
	}
	a.keep = keep
}

// Kept are the tasks that are here only because of Keep.
func (a *Agent) Kept() (all []model.Assignment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.keep || !a.arrived {
		return nil
	}
	for id, as := range a.desired {
		if !a.known[id] {
			all = append(all, as)
		}
	}
	return all
}

// End has a task end by itself, for a reason of the machine's own; one that is not here, or ends already, is left alone.
func (a *Agent) End(taskID string, code types.TaskStopCode, reason string) {
	a.mu.Lock()
	t := a.tasks[taskID]
	a.mu.Unlock()
	if t != nil {
		t.post(func() { t.end(code, reason) })
	}
}

// Reports returns the newest observation of every task: what a new session with the server has to say.
func (a *Agent) Reports() []model.Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	reports := make([]model.Report, 0, len(a.tasks))
	for id, t := range a.tasks {
		if v := t.view.Load(); v != nil {
			reports = append(reports, model.Report{TaskID: id, Observed: v.Observed})
		}
	}
	return reports
}

// Run manages tasks until ctx ends, and then leaves every container as it is. It returns after its last goroutine has ended.
func (a *Agent) Run(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("agent state: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer a.workers.Wait()
	defer cancel()
	ticker := time.NewTicker(a.cfg.Relist)
	defer ticker.Stop()
	exits := a.cfg.Runtime.Exits()
	a.remember()
	a.look()
	for {
		select {
		case <-ctx.Done():
			return nil
		case state, ok := <-exits:
			if !ok {
				exits = nil // List finds exits from here on
				continue
			}
			a.route(state)
		case <-a.poke:
			a.reconcile(ctx)
		case <-ticker.C:
			a.repair(ctx)
		}
	}
}

// look makes Run reconcile soon.
func (a *Agent) look() {
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// route hands a container's state to its task.
func (a *Agent) route(state ContainerState) {
	a.mu.Lock()
	t := a.tasks[taskOf(state.ID, state.TaskID)]
	a.mu.Unlock()
	if t != nil {
		t.post(func() { t.observe(state) })
	}
}

// reconcile starts, updates and dismisses tasks so that they are the desired ones. The first time, it takes over what an
// earlier agent left. Before the server's first set has arrived it goes on with what an earlier agent was told, as far as it needs
// nobody for that; what it was not told of it leaves alone.
func (a *Agent) reconcile(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.arrived && len(a.desired) == 0 {
		return
	}
	var found map[string][]ContainerState
	if !a.recovered || a.arrived && !a.confirmed {
		a.mu.Unlock()
		states, err := a.cfg.Runtime.List(ctx)
		a.mu.Lock()
		if err != nil {
			if ctx.Err() == nil {
				a.cfg.Log.Warn("the runtime does not answer; trying again", "error", err)
				time.AfterFunc(200*time.Millisecond, a.look)
			}
			return
		}
		if a.arrived {
			a.inventory()
		}
		a.recovered, a.confirmed = true, a.arrived
		found = byTask(states)
		defer a.repair(ctx)
	}
	for id, as := range a.desired {
		if t := a.tasks[id]; t != nil {
			if t.told.Task != as.Task || t.told.Stop != as.Stop {
				t.told = as
				t.post(func() { t.assign(as) })
			}
			continue
		}
		if a.arrived || a.resumable(as) {
			a.adopt(ctx, as, found[id])
		}
	}
	for id, t := range a.tasks {
		if _, wanted := a.desired[id]; !wanted && t.told.Task != nil {
			t.told = model.Assignment{}
			t.post(t.dismiss)
		}
	}
}

// adopt makes the worker of a task. a.mu is held.
func (a *Agent) adopt(ctx context.Context, as model.Assignment, found []ContainerState) {
	t := newTask(a, as, found)
	a.tasks[as.Task.ID] = t
	a.keepGPUs(t)
	if t.rec.CredentialsID != "" {
		a.credentials[t.rec.CredentialsID] = t
	}
	a.workers.Go(func() {
		t.run(ctx)
		if ctx.Err() == nil {
			a.forget(t)
		}
	})
}

// forget drops a task that has ended and is no longer wanted.
func (a *Agent) forget(t *task) {
	a.mu.Lock()
	delete(a.tasks, t.id)
	delete(a.credentials, t.rec.CredentialsID)
	a.freeGPUs(t.id)
	a.mu.Unlock()
	a.look()
}

// taskOf is the id of the task that a container belongs to; ids of containers begin with it.
func taskOf(id, taskID string) string {
	if taskID != "" {
		return taskID
	}
	taskID, _, _ = strings.Cut(id, "-")
	return taskID
}

func byTask(states []ContainerState) map[string][]ContainerState {
	m := map[string][]ContainerState{}
	for _, s := range states {
		id := taskOf(s.ID, s.TaskID)
		m[id] = append(m[id], s)
	}
	return m
}

// asError returns err's *Error, or one of the given name that carries err's text.
func asError(err error, name, tried string) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Name: name, Message: fmt.Sprintf("%s: %v", tried, err)}
}

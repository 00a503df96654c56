// Package thousands shows what a server does with thousands of nodes: fake agents of another process beat over real UDP, and report over
// an in-process transport. It runs with BERTH_FLEET=1 only: make bench-fleet.
package thousands

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/control"
	"github.com/berthdev/berth/internal/life"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/places"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
)

const (
	services  = 100
	tasksEach = 300
)

func nodeID(k int) string { return fmt.Sprintf("%032x", k+1) }

func keyOf(node string) beat.Key { return sha256.Sum256([]byte("the fleet's " + node)) }

func TestMain(m *testing.M) {
	if at := os.Getenv("BERTH_FLEET_AGENTS"); at != "" {
		agents(at, nodes())
		return
	}
	os.Exit(m.Run())
}

// nodes is how many there are.
func nodes() int {
	if n, err := strconv.Atoi(os.Getenv("BERTH_FLEET_NODES")); err == nil {
		return n
	}
	return 10_000
}

// fleet is a server with its agents.
type fleet struct {
	t     *testing.T
	st    store.Store
	ids   atomic.Int64
	dead  atomic.Int64 // nodes below this number are
	child io.Writer
}

// TestAThirdIsLost: what liveness costs while nothing happens, and how long verdicts and replacements take when a third of all nodes is
// lost at once.
func TestAThirdIsLost(t *testing.T) {
	if os.Getenv("BERTH_FLEET") == "" {
		t.Skip("set BERTH_FLEET=1, or run: make bench-fleet")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st, err := etcd.Open(ctx, etcd.Config{Dir: t.TempDir(), Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	f := &fleet{t: t, st: st}
	f.seed()
	l := life.New(life.Config{Store: st, Name: "s1", Kernel: func(context.Context, string) bool { return false }})
	socket, err := beat.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	beats := beat.NewServer(beat.ServerConfig{OnBye: l.Bye})
	l.Listen(life.Hearing{Beats: beats, Key: keyOf})
	c := control.New(control.Config{Store: st, Places: places.New(st), Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, Now: time.Now,
		Pace: model.PaceFast, NewID: func() string { return fmt.Sprintf("%032x", f.ids.Add(1)) }, Log: slog.New(slog.DiscardHandler)})
	loops := []func(){func() { _ = beat.NewPort(socket, beats, nil).Run(ctx) }, func() { _ = l.Run(ctx) }, func() { _ = c.Run(ctx) }, func() { f.act(ctx) }}
	for _, loop := range loops {
		go loop()
	}
	f.spawn(ctx, beat.Local(socket).String())

	began := time.Now()
	f.wait("the services do not start", 10*time.Minute, func() bool { return f.running() == services*tasksEach })
	t.Logf("%d nodes, %d tasks placed and RUNNING in %s", nodes(), services*tasksEach, time.Since(began).Round(time.Millisecond))
	f.wait("the nodes are not heard", time.Minute, func() bool { return f.count(model.NodeLost) == 0 })
	time.Sleep(15 * time.Second) // the placement's garbage, and the first look at everything
	cpu, at := used(), time.Now()
	time.Sleep(20 * time.Second)
	t.Logf("steady: %.3f core for %d nodes", float64(used()-cpu)/float64(time.Since(at)), nodes())
	if n := f.count(model.NodeLost); n > 0 {
		t.Errorf("%d live nodes are lost", n)
	}
	f.lose(nodes() / 3)
}

// seed stores nodes and services.
func (f *fleet) seed() {
	for from := 0; from < nodes(); from += 1000 {
		f.update(func(tx store.Tx) {
			for k := from; k < min(from+1000, nodes()); k++ {
				store.Nodes.Put(tx, &model.Node{ID: nodeID(k), Connected: true, Epoch: 1, Declaration: model.Declaration{CPU: 8192, Memory: 16384,
					Address: "127.0.0.1", Attributes: map[string]string{"ecs.availability-zone": fmt.Sprint("us-east-1", string(rune('a'+k%3)))}}})
			}
		})
	}
	f.update(func(tx store.Tx) {
		scope := model.Scope{Account: "000000000000", Region: "us-east-1"}
		store.Clusters.Put(tx, &model.Cluster{Name: "default", ARN: scope.ClusterARN("default"), Status: "ACTIVE"})
		store.TaskDefinitions.Put(tx, &model.TaskDefinition{Family: "web", Revision: 1, Definition: types.TaskDefinition{
			Family: new("web"), NetworkMode: types.NetworkModeBridge, Status: types.TaskDefinitionStatusActive,
			ContainerDefinitions: []types.ContainerDefinition{{Name: new("c"), Image: new("i"), Memory: new(int32(100)), Essential: new(true)}}}})
		for k := range services {
			name, id := fmt.Sprintf("web%03d", k), fmt.Sprintf("%019d", k+1)
			store.Services.Put(tx, &model.Service{Cluster: "default", Name: name, Status: "ACTIVE", CreatedAt: time.Now(), DesiredCount: tasksEach, RevisionID: id})
			store.ServiceRevisions.Put(tx, &model.ServiceRevision{ID: id, Cluster: "default", Service: name, TaskDefinition: scope.TaskDefinitionARN("web", 1),
				LaunchType: types.LaunchTypeEc2})
			store.Deployments.Put(tx, &model.Deployment{ID: "ecs-svc/" + id, Cluster: "default", Service: name, RevisionID: id, Status: model.DeploymentPrimary,
				RolloutState: types.DeploymentRolloutStateInProgress, State: types.ServiceDeploymentStatusInProgress, CreatedAt: time.Now()})
		}
	})
}

func (f *fleet) update(change func(store.Tx)) {
	if err := f.st.Update(context.Background(), func(tx store.Tx) error { change(tx); return nil }); err != nil {
		f.t.Error(err)
	}
}

// act is all live agents: they run and stop what they are told.
func (f *fleet) act(ctx context.Context) {
	changes := f.st.Watch(ctx, store.Tasks.All())
	for {
		if _, ok := <-changes.C(); !ok {
			return
		}
		batch := changes.Take()
		var todo []string
		if batch.All {
			f.st.View(func(r store.Reader) {
				for t := range store.Tasks.By(r, store.ByState, store.TaskLive) {
					todo = append(todo, t.ID)
				}
			})
		}
		for _, c := range batch.Changes {
			if t, ok := c.New.(*model.Task); ok && f.acts(t) {
				todo = append(todo, t.ID)
			}
		}
		for some := range slices.Chunk(todo, 256) {
			f.update(func(tx store.Tx) {
				for _, id := range some {
					if t, ok := store.Tasks.Get(tx, id); ok && f.acts(t) {
						now := *t
						if t.Desired == model.Stopped {
							now.Observed.Status, now.Observed.StoppedAt = model.Stopped, time.Now()
						} else {
							now.Observed.Status, now.Observed.StartedAt = model.Running, time.Now()
						}
						store.Tasks.Put(tx, &now)
					}
				}
			})
		}
	}
}

// acts tells whether the task's agent has something to do.
func (f *fleet) acts(t *model.Task) bool {
	if t.Ended() || t.NodeID == "" || t.NodeID < nodeID(int(f.dead.Load())) {
		return false
	}
	return t.Desired == model.Stopped && t.Released || t.Desired == model.Running && t.Observed.Status.Before(model.Running)
}

// running counts the RUNNING tasks of nodes that are not dead.
func (f *fleet) running() (n int) {
	f.st.View(func(r store.Reader) {
		for t := range store.Tasks.By(r, store.ByState, store.TaskLive) {
			if t.Observed.Status == model.Running && t.NodeID >= nodeID(int(f.dead.Load())) {
				n++
			}
		}
	})
	return n
}

func (f *fleet) count(v model.Verdict) (n int) {
	f.st.View(func(r store.Reader) {
		for row := range store.Nodes.Scan(r, "") {
			if row.Life.Verdict == v {
				n++
			}
		}
	})
	return n
}

func (f *fleet) wait(what string, d time.Duration, done func() bool) {
	f.t.Helper()
	for end := time.Now().Add(d); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%s: %d tasks run, %d nodes are lost", what, f.running(), f.count(model.NodeLost))
		}
	}
}

// lose ends n nodes at once.
func (f *fleet) lose(n int) {
	var theirs int
	f.dead.Store(int64(n))
	f.st.View(func(r store.Reader) {
		for k := range n {
			for t := range store.Tasks.By(r, store.ByNode, nodeID(k)) {
				if !t.Ended() {
					theirs++
				}
			}
		}
	})
	cpu, at := used(), time.Now()
	fmt.Fprintf(f.child, "%d\n", n)
	f.wait("not all are found lost", 2*time.Minute, func() bool { return f.count(model.NodeLost) == n })
	var verdicts, silences []time.Duration
	f.st.View(func(r store.Reader) {
		for row := range store.Nodes.Scan(r, "") {
			if row.Life.Verdict == model.NodeLost {
				verdicts, silences = append(verdicts, row.Life.Since.Sub(at)), append(silences, row.Life.Since.Sub(row.Life.Heard))
			}
		}
	})
	slices.Sort(verdicts)
	slices.Sort(silences)
	f.wait("the tasks are not replaced", 5*time.Minute, func() bool { return f.running() >= services*tasksEach })
	placed := time.Since(at) - verdicts[0]
	f.wait("the lost tasks are not ended", 5*time.Minute, func() bool {
		left := 0
		f.st.View(func(r store.Reader) {
			for range store.Tasks.By(r, store.ByState, store.TaskLive) {
				left++
			}
		})
		return left == services*tasksEach && f.running() == left
	})
	f.t.Logf("%d of %d nodes lost at once: verdicts after their death p50 %s p99 %s, after the last beat p50 %s p99 %s", n, nodes(),
		part(verdicts, 50), part(verdicts, 99), part(silences, 50), part(silences, 99))
	f.t.Logf("%d tasks replaced and RUNNING %s after the first verdict: %.0f placements/s; all settled after %s; %.1f core meanwhile", theirs,
		placed.Round(time.Millisecond), float64(theirs)/placed.Seconds(), time.Since(at).Round(time.Millisecond), float64(used()-cpu)/float64(time.Since(at)))
	if lost := f.count(model.NodeLost); lost != n {
		f.t.Errorf("%d nodes are lost, %d are dead", lost, n)
	}
}

func part(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)-1)*percent/100].Round(10 * time.Millisecond)
}

func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spawn starts the agents' process.
func (f *fleet) spawn(ctx context.Context, server string) {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "BERTH_FLEET_AGENTS="+server, "GOGC=400")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.child = in
	f.t.Cleanup(func() { _, _ = in.Close(), cmd.Wait() })
}

// agents beats for n nodes, a hundred on each socket, until its input ends; a number there ends as many of them.
func agents(server string, n int) {
	ctx := context.Background()
	var cancels []context.CancelFunc
	for from := 0; from < n; from += 100 {
		socket, err := beat.Listen("127.0.0.1:0")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		lanes := map[beat.ID]*lane{}
		for k := from; k < min(from+100, n); k++ {
			id, _ := beat.ParseID(nodeID(k))
			key := keyOf(nodeID(k))
			node := beat.NewNode(beat.NodeConfig{ID: id, Boot: uint64(k + 1)})
			if err := node.Set(beat.Settings{Servers: []string{server}, Key: key[:], Period: 500 * time.Millisecond}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			own, cancel := context.WithCancel(ctx)
			cancels = append(cancels, cancel)
			l := &lane{Socket: socket, in: make(chan beat.Datagram, 4), done: own.Done()}
			lanes[id] = l
			go func() { _ = beat.NewPort(l, nil, node).Run(own) }()
			go node.Run(own)
		}
		go route(socket, lanes)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if k, err := strconv.Atoi(lines.Text()); err == nil {
			for _, cancel := range cancels[:k] {
				cancel()
			}
		}
	}
}

// lane is one node's part of a socket.
type lane struct {
	beat.Socket
	in   chan beat.Datagram
	done <-chan struct{}
}

// Read implements beat.Socket.
func (l *lane) Read(into []beat.Datagram) (int, error) {
	select {
	case into[0] = <-l.in:
		return 1, nil
	case <-l.done:
		return 0, os.ErrClosed
	}
}

// Close implements beat.Socket.
func (l *lane) Close() error { return nil }

// route brings packets to the nodes that they are for, which their ninth byte and those after it say.
func route(s beat.Socket, lanes map[beat.ID]*lane) {
	in := make([]beat.Datagram, 64)
	for {
		n, err := s.Read(in)
		if err != nil {
			return
		}
		for _, d := range in[:n] {
			if l := lanes[beat.ID(d.Data[8:24])]; l != nil {
				select {
				case l.in <- d:
				default:
				}
			}
		}
	}
}

package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/test/acked"
)

// fuzz is one run of the fuzzer: rounds of harm on a cluster with services, traffic and writers.
type fuzz struct {
	*fleet
	random *rand.Rand
	stamps string             // where the tasks of the fenced service say when they ran
	excuse map[string][]pause // machines that stood still, by name: what they run cannot know that time passed
	bad    []error
}

// pause is a time on the kernel's monotonic clock.
type pause struct{ from, to time.Duration }

// rounds is how many a run has: BERTH_FUZZ (make soak), else few.
func rounds(few int) int {
	if n, err := strconv.Atoi(os.Getenv("BERTH_FUZZ")); err == nil {
		return n
	}
	return few
}

// seeded is a source of numbers that BERTH_SEED repeats.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("BERTH_SEED"); text != "" {
		fmt.Sscan(text, &seed)
	}
	t.Logf("BERTH_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return time.Duration(now.Nano())
}

// harm is what is done to a cluster in a round.
type harm struct {
	what string
	// touched are the machines whose tasks may be held for lost: on all others containers go on, and keep their processes.
	touched []*box
	do      func() error
	undo    func() error
}

// restart is a machine that gets its power back and whose Berth answers, as far as it can without the others.
func (b *box) restart() error { return b.On() }

// signalled stops or ends Berth's processes on a machine. "berth up" and the others are told apart by their arguments.
func (f *fuzz) signalled(b *box, sig unix.Signal, words ...string) error {
	_, err := b.Signal(sig, words...)
	return err
}

// draw chooses a harm.
func (f *fuzz) draw() harm {
	b := f.all[f.random.IntN(len(f.all))]
	bin := f.bin
	server := []string{bin, " " + b.Services[0].Args[1]} // up, server or node
	all := []harm{
		{"power cut of " + b.Name, []*box{b}, b.Off, b.restart},
		{"kill -9 of Berth on " + b.Name, nil, func() error { return f.signalled(b, unix.SIGKILL, server...) }, nil},
		{"kill -9 of containerd on " + b.Name, nil, func() error { return f.signalled(b, unix.SIGKILL, bin, " containerd --config") }, nil},
		{"kill -9 of the proxy on " + b.Name, nil, func() error { return f.signalled(b, unix.SIGKILL, bin, " proxy --config") }, nil},
		{"Berth stopped on " + b.Name, nil, func() error { return f.signalled(b, unix.SIGSTOP, server...) },
			func() error { return f.signalled(b, unix.SIGCONT, server...) }},
		f.freeze(b),
		f.fill(b),
	}
	if len(f.all) > 1 {
		other := f.all[(slices.Index(f.all, b)+1+f.random.IntN(len(f.all)-1))%len(f.all)]
		heal := f.lab.Heal
		all = append(all,
			harm{"cut between " + b.Name + " and " + other.Name, nil, func() error { return f.lab.Cut(b.Machine, other.Machine) }, heal},
			harm{"cut from " + b.Name + " to " + other.Name, nil, func() error { return f.lab.CutOneWay(b.Machine, other.Machine) }, heal},
			harm{b.Name + " cut off", []*box{b}, func() error { return f.lab.Isolate(b.Machine) }, heal},
			harm{b.Name + " cannot be heard", []*box{b}, func() error { return f.oneWay(b, true) }, heal},
			harm{b.Name + " cannot hear", []*box{b}, func() error { return f.oneWay(b, false) }, heal})
	}
	return all[f.random.IntN(len(all))]
}

// oneWay cuts what a machine sends to all others, or what they send to it.
func (f *fuzz) oneWay(b *box, from bool) error {
	var errs []error
	for _, o := range f.all {
		switch {
		case o == b:
		case from:
			errs = append(errs, f.lab.CutOneWay(b.Machine, o.Machine))
		default:
			errs = append(errs, f.lab.CutOneWay(o.Machine, b.Machine))
		}
	}
	return errors.Join(errs...)
}

// freeze stops everything on a machine, as a hypervisor does.
func (f *fuzz) freeze(b *box) harm {
	var from time.Duration
	return harm{b.Name + " stands still", []*box{b}, func() error { from = monotonic(); return f.signalled(b, unix.SIGSTOP) }, func() error {
		err := f.signalled(b, unix.SIGCONT)
		f.excuse[b.Name] = append(f.excuse[b.Name], pause{from, monotonic()})
		return err
	}}
}

// fill takes all room on a machine's disk but 1 MiB.
func (f *fuzz) fill(b *box) harm {
	file := filepath.Join(b.Disk(), "filler")
	return harm{"full disk of " + b.Name, nil, func() error {
		var fs unix.Statfs_t
		if err := unix.Statfs(b.Disk(), &fs); err != nil {
			return err
		}
		out, err := os.Create(file)
		if err != nil {
			return err
		}
		defer out.Close()
		return unix.Fallocate(int(out.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-1<<20)
	}, func() error { return os.Remove(file) }}
}

// healing is how long after a harm has ended everything must be as it should: machines.md §11.3.
const healing = 10 * time.Second

// slow is how long healing takes before the run says what it waits for.
const slow = 5 * time.Second

// booting is added where a machine starts, or a process that Berth waits for: this machine is slow and shared.
const booting = 20 * time.Second

// round does one harm, or two, and checks what holds after it.
func (f *fuzz) round(n int) {
	f.t.Helper()
	harms := []harm{f.draw()}
	if f.random.IntN(4) == 0 {
		harms = append(harms, f.draw())
	}
	var touched []*box
	var names []string
	for _, h := range harms {
		touched, names = append(touched, h.touched...), append(names, h.what)
	}
	before := slices.DeleteFunc(f.containers(), func(c container) bool {
		return strings.Contains(c.process.Line, " stamps ") || strings.Contains(c.process.Line, " exit") // these end by themselves: where no server is heard, and the writers'
	})
	last := time.Duration(1+f.random.IntN(6000)) * time.Millisecond
	began := time.Now()
	for _, h := range harms {
		if err := h.do(); err != nil {
			f.t.Fatalf("round %d: %s: %v", n, h.what, err)
		}
	}
	time.Sleep(last)
	for _, h := range harms {
		if h.undo == nil {
			continue
		}
		if err := h.undo(); err != nil {
			f.t.Fatalf("round %d: end of %s: %v", n, h.what, err)
		}
	}
	ended := time.Now()
	err := f.healed(healing + booting)
	took := time.Since(ended)
	f.t.Logf("round %3d: %s for %v; healed %v later", n, strings.Join(names, ", and "), ended.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond))
	if err != nil {
		f.t.Fatalf("round %d (%s): not healed: %v", n, strings.Join(names, ", and "), err)
	}
	f.untouched(f.t, fmt.Sprintf("round %d (%s)", n, strings.Join(names, ", and ")), before, touched...)
}

// healed waits until what runs is what should.
func (f *fuzz) healed(limit time.Duration) (err error) {
	began, said := time.Now(), ""
	for deadline := began.Add(limit); ; time.Sleep(100 * time.Millisecond) {
		if err = f.whole(); err == nil || time.Now().After(deadline) {
			return err
		}
		if took := time.Since(began); took > slow && err.Error() != said {
			said = err.Error()
			f.t.Logf("not healed after %v: %s", took.Round(100*time.Millisecond), said)
		}
	}
}

// whole says what is not as it should be once nothing is harmed: services, the tasks' containers, addresses and the load balancer.
func (f *fuzz) whole() error {
	b := f.one()
	for _, name := range []string{"web", "lock"} {
		if err := b.settled(name); err != nil {
			return err
		}
	}
	live, err := b.tasks(ecstypes.DesiredStatusRunning)
	if err != nil {
		return err
	}
	ended, err := b.tasks(ecstypes.DesiredStatusStopped)
	if err != nil {
		return err
	}
	running := map[string]*box{}
	for _, c := range f.containers() {
		if other := running[c.task]; other != nil && other != c.box {
			return fmt.Errorf("task %s runs on %s and %s", c.task, other.Name, c.box.Name)
		}
		running[c.task] = c.box
	}
	addresses := map[string]string{}
	for _, t := range live {
		id, ip := taskID(*t.TaskArn), address(t)
		if aws.ToString(t.LastStatus) != "RUNNING" {
			continue // a brief one of the writers'
		}
		if other := addresses[ip]; other != "" && ip != "" {
			return fmt.Errorf("address %s is that of tasks %s and %s", ip, other, id)
		}
		addresses[ip] = id
		if running[id] == nil && strings.HasPrefix(aws.ToString(t.Group), "service:") {
			return fmt.Errorf("task %s is RUNNING and runs nowhere", id)
		}
		delete(running, id)
	}
	for _, t := range ended {
		if on := running[taskID(*t.TaskArn)]; on != nil && aws.ToString(t.LastStatus) == "STOPPED" {
			return fmt.Errorf("task %s is STOPPED (%s) and runs on %s", taskID(*t.TaskArn), aws.ToString(t.StoppedReason), on.Name)
		}
	}
	if len(running) > 0 {
		return fmt.Errorf("these run and should not: %v", running)
	}
	for _, b := range f.all {
		if status, _, err := b.get(fmt.Sprintf("http://127.0.0.1:%d/", lbPort)); err != nil || status != 200 {
			return fmt.Errorf("the load balancer on %s answers %d, %v", b.Name, status, err)
		}
	}
	return nil
}

// span is when a task of the fenced service ran.
type span struct {
	task     string
	from, to time.Duration
}

// gap is a silence after which a task counts as paused: it writes each 10 ms, on a busy machine.
const gap = 500 * time.Millisecond

// doubles looks for two tasks of the fenced service that ran at once.
func (f *fuzz) doubles() error {
	files, err := os.ReadDir(f.stamps)
	if err != nil {
		return err
	}
	var all []span
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(f.stamps, file.Name()))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			if err != nil {
				continue // cut by a kill
			}
			at := time.Duration(n)
			if f.justWoke(at) {
				continue
			}
			if k := len(all) - 1; k >= 0 && all[k].task == file.Name() && at-all[k].to < gap {
				all[k].to = at
			} else {
				all = append(all, span{file.Name(), at, at})
			}
		}
	}
	slices.SortFunc(all, func(a, b span) int { return int(a.from - b.from) })
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], all[i]; b.from < a.to && a.task != b.task {
			return fmt.Errorf("tasks %s and %s of a fenced service ran at once for %v", a.task, b.task, min(a.to, b.to)-b.from)
		}
	}
	f.t.Logf("the fenced service ran %d times, with %d tasks", len(all), len(files))
	return nil
}

// justWoke tells whether a machine that stood still had gone on for less than the keeper needs to see that its lease is over.
func (f *fuzz) justWoke(at time.Duration) bool {
	for _, pauses := range f.excuse {
		for _, p := range pauses {
			if at >= p.to && at < p.to+2*time.Second {
				return true
			}
		}
	}
	return false
}

// TestFuzz harms a cluster in rounds while it serves, writes and runs tasks. BERTH_FUZZ is how many rounds, BERTH_SEED repeats a run's
// order of harms.
func TestFuzz(t *testing.T) {
	f := &fuzz{random: seeded(t), stamps: filepath.Join(t.TempDir(), "stamps"), excuse: map[string][]pause{}}
	f.fleet = fuzzFleet(t)
	if err := os.Mkdir(f.stamps, 0o777); err != nil {
		t.Fatal(err)
	}
	one := f.one()
	one.makeService("web", one.register("web", web("app:1")), 4, one.makeLB())
	one.makeService("lock", f.lockDefinition(), 1, "", "berth:on-partition", "fence=5s")
	if err := f.healed(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	var clients []*ecs.Client
	for _, b := range f.all {
		conf := b.config()
		conf.RetryMaxAttempts = 1
		clients = append(clients, ecs.NewFromConfig(conf))
	}
	brief := web("app:1")
	brief.Memory, brief.Command = aws.Int32(8), []string{"exit", "0"}
	history, stop := acked.Start(acked.Config{Clients: clients, Cluster: "arn:aws:ecs:us-east-1:000000000000:cluster/default",
		Task: one.register("brief", brief), Network: network, Keys: 5, Limit: 8 * time.Second, Pause: 150 * time.Millisecond})
	for n := range rounds(fewRounds) {
		if f.round(n); t.Failed() {
			break
		}
	}
	stop()
	t.Log(history.Counts())
	if err := errors.Join(history.Judge(context.Background(), one.ecs()), f.doubles()); err != nil {
		t.Error(err)
	}
}

// fewRounds are those of a run in `make test`.
const fewRounds = 8

// fuzzFleet is the cluster that is harmed. Its disks are small ones of their own.
func fuzzFleet(t *testing.T) *fleet {
	f := newFleet(t)
	names := []string{"s1"} // what a minute finds on one machine; more of them are harmed by make soak, until that holds
	if os.Getenv("BERTH_FUZZ") != "" {
		names = append(names, "n2", "n3", "n4")
	}
	for _, name := range names {
		f.add(name, "2500m")
	}
	f.restart = true
	f.cluster(1, "app:1")
	return f
}

// lockDefinition is that of a task that says in a file of its own when it runs.
func (f *fuzz) lockDefinition() string {
	f.t.Helper()
	c := web("app:1")
	c.PortMappings, c.Memory, c.Command = nil, aws.Int32(16), []string{"stamps", "/stamps"}
	c.MountPoints = []ecstypes.MountPoint{{SourceVolume: aws.String("stamps"), ContainerPath: aws.String("/stamps")}}
	out, err := f.one().ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{Family: aws.String("lock"),
		NetworkMode: ecstypes.NetworkModeAwsvpc, ContainerDefinitions: []ecstypes.ContainerDefinition{c},
		Volumes: []ecstypes.Volume{{Name: aws.String("stamps"), Host: &ecstypes.HostVolumeProperties{SourcePath: &f.stamps}}}})
	if err != nil {
		f.t.Fatal(err)
	}
	return *out.TaskDefinition.TaskDefinitionArn
}

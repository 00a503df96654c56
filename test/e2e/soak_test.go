package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sys/unix"
)

// soakTime is how long TestSoak goes on: BERTH_SOAK, such as 20m (make soak), else a minute.
func soakTime(t testing.TB) time.Duration {
	text := os.Getenv("BERTH_SOAK")
	if text == "" {
		return time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("BERTH_SOAK: %v", err)
	}
	return d
}

// soak is one run: what was acknowledged, and what was done to Berth when.
type soak struct {
	*berth
	random  *rand.Rand
	web     string // definition of the service that takes requests
	brief   string // definition of a task that ends by itself
	deeds   []deed
	tags    map[string]string // acknowledged, of the default cluster
	names   []string          // acknowledged clusters
	started []string          // acknowledged tasks of RunTask
	refused int
}

// deed is one harm.
type deed struct {
	at, over time.Time
	what     string
}

// Harms that excuse a failed request.
const (
	killProxy  = "kill -9 of the proxy"
	everything = "kill -9 of server, proxy and containerd together"
)

// TestSoak lives through a small team's year in a minute: deployments, tasks and traffic go on while everything that Berth consists of
// is killed, stopped and starved in turn. Nothing acknowledged is lost, no request fails that had a healthy target, nothing is left.
// BERTH_SOAK=20m makes it longer; BERTH_SEED repeats a run's order of harms.
func TestSoak(t *testing.T) {
	smallDisk(t)
	b := start(t)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("BERTH_SEED"); text != "" {
		fmt.Sscan(text, &seed)
	}
	t.Logf("BERTH_SEED=%d", seed)
	s := &soak{berth: b, random: rand.New(rand.NewPCG(seed, 1)), tags: map[string]string{}}
	b.importImage("app:1")
	s.web = b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		Memory: aws.Int32(32), PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}})
	s.brief = b.register("brief", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("c"), Image: aws.String("app:1"),
		Memory: aws.Int32(16), Command: []string{"exit", "7"}})
	address := b.balanced(s.web, 3)
	s.makeVictim()
	b.stable("web")
	b.stable("victim")
	b.eventually(10*time.Second, "the load balancer answers", func() error {
		status, _, _, err := get(address)
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	traffic := startTraffic(address)
	deadline := time.Now().Add(soakTime(t))
	for round := 0; time.Now().Before(deadline); round++ {
		s.write(round)
		s.harm(round)
		time.Sleep(time.Duration(500+s.random.IntN(1500)) * time.Millisecond)
		s.write(round + 1_000_000)
	}
	b.stable("web")
	b.stable("victim")
	s.judge(t, traffic)
	s.nothingIsLost()
	s.nothingIsLeft()
}

// makeVictim makes the service whose tasks are harmed: nobody asks it anything.
func (s *soak) makeVictim() {
	s.t.Helper()
	def := s.register("victim", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		Memory: aws.Int32(32)})
	if _, err := s.ecs().CreateService(context.Background(), &ecs.CreateServiceInput{ServiceName: aws.String("victim"), TaskDefinition: &def,
		DesiredCount: aws.Int32(2)}); err != nil {
		s.t.Fatal(err)
	}
}

// write makes changes and remembers those that were acknowledged. A refusal while the server is away is no loss.
func (s *soak) write(round int) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	client := s.ecs()
	key, value := fmt.Sprint("k", round%20), fmt.Sprint(round)
	cluster := "arn:aws:ecs:us-east-1:000000000000:cluster/default"
	if _, err := client.TagResource(ctx, &ecs.TagResourceInput{ResourceArn: &cluster,
		Tags: []types.Tag{{Key: &key, Value: &value}}}); err == nil {
		s.tags[key] = value
	} else {
		delete(s.tags, key) // it may have happened or not
		s.refused++
	}
	name := fmt.Sprint("c", round)
	if _, err := client.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: &name}); err == nil {
		s.names = append(s.names, name)
	} else {
		s.refused++
	}
	out, err := client.RunTask(ctx, &ecs.RunTaskInput{TaskDefinition: &s.brief, ClientToken: &name,
		NetworkConfiguration: network})
	if err != nil {
		s.refused++
		return
	}
	for _, t := range out.Tasks {
		s.started = append(s.started, *t.TaskArn)
	}
}

// harm does one harm, each in turn and then at random.
func (s *soak) harm(round int) {
	harms := []struct {
		what string
		do   func()
	}{
		{"kill -9 of the server", func() { s.signal(syscall.SIGKILL); s.up() }},
		{killProxy, func() { s.hit(" proxy --config", syscall.SIGKILL) }},
		{"a new deployment", s.deploy},
		{"kill -9 of containerd", func() { s.hit(" containerd --config", syscall.SIGKILL) }},
		{"restart of the server", func() { s.signal(syscall.SIGTERM); s.up() }},
		{"kill -9 of a victim's shim", func() { s.hitVictim(syscall.SIGKILL, 0) }},
		{"a shim stopped for three seconds, the server killed meanwhile", func() {
			s.hitVictim(syscall.SIGSTOP, 3*time.Second)
			s.signal(syscall.SIGKILL)
			s.up()
		}},
		{"containerd stopped for two seconds", func() { s.pause(" containerd --config", 2*time.Second) }},
		{"the server stopped for two seconds", func() { s.pause(" up --listen", 2*time.Second) }},
		{"a task of the service stopped by a user", s.stopOne},
		{"a thousand idle connections", s.flood},
		{"a full disk", s.fillDisk},
		{everything, func() {
			s.hit(" proxy --config", syscall.SIGKILL)
			s.hit(" containerd --config", syscall.SIGKILL)
			s.signal(syscall.SIGKILL)
			s.up()
		}},
	}
	h := harms[round%len(harms)]
	if round >= len(harms) {
		h = harms[s.random.IntN(len(harms))]
	}
	s.deeds = append(s.deeds, deed{at: time.Now(), what: h.what})
	h.do()
	s.deeds[len(s.deeds)-1].over = time.Now()
}

// hit signals this Berth's processes whose command line has the word, and waits until those that it kills are dead: some of their threads
// serve for a moment longer.
func (s *soak) hit(word string, sig syscall.Signal) {
	for _, pid := range processes(word, s.instanceID()) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone already
		}
		if err := syscall.Kill(pid, sig); err == nil && sig == syscall.SIGKILL {
			for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); { // until it is gone: signals interrupt Poll
				if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000); n > 0 {
					break
				}
			}
		}
		unix.Close(fd)
	}
}

// pause stops a process for some time.
func (s *soak) pause(word string, d time.Duration) {
	pids := processes(word, s.dir)
	if len(pids) == 0 {
		pids = processes(word, s.instanceID())
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		defer syscall.Kill(pid, syscall.SIGCONT)
	}
	time.Sleep(d)
}

// hitVictim signals the shim of one of the victim's tasks; one that is stopped is continued after d, while the test goes on.
func (s *soak) hitVictim(sig syscall.Signal, d time.Duration) {
	out, err := s.ecs().ListTasks(context.Background(), &ecs.ListTasksInput{ServiceName: aws.String("victim")})
	if err != nil || len(out.TaskArns) == 0 {
		return
	}
	arn := out.TaskArns[s.random.IntN(len(out.TaskArns))]
	for _, pid := range processes("containerd-shim-runc-v2", arn[strings.LastIndexByte(arn, '/')+1:]) {
		_ = syscall.Kill(pid, sig)
		if sig == syscall.SIGSTOP {
			time.AfterFunc(d, func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
		}
	}
}

func (s *soak) deploy() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = s.ecs().UpdateService(ctx, &ecs.UpdateServiceInput{Service: aws.String("web"), ForceNewDeployment: true})
}

func (s *soak) stopOne() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := s.ecs().ListTasks(ctx, &ecs.ListTasksInput{ServiceName: aws.String("web")})
	if err != nil || len(out.TaskArns) < 3 {
		return // one that is alone is not taken away
	}
	_, _ = s.ecs().StopTask(ctx, &ecs.StopTaskInput{Task: &out.TaskArns[s.random.IntN(len(out.TaskArns))]})
}

// smallDisk has what the test makes on a disk of its own, which can be filled without harm to others.
func smallDisk(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("berth-soak", dir, "tmpfs", 0, "size=3g,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the test's disk: %v", err)
		}
	})
	t.Setenv("TMPDIR", dir)
}

// fillDisk takes nearly all room for a moment. What fills a disk can be stopped all the same.
func (s *soak) fillDisk() {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		s.t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(s.dir, "filler"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-20<<20); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	out, err := s.ecs().ListTasks(ctx, &ecs.ListTasksInput{ServiceName: aws.String("victim")})
	if err == nil && len(out.TaskArns) > 0 {
		_, err = s.ecs().StopTask(ctx, &ecs.StopTaskInput{Task: &out.TaskArns[0]})
	}
	if err != nil {
		s.t.Errorf("on a full disk a task cannot be stopped: %v", err)
	}
	time.Sleep(time.Second)
}

// flood holds idle connections to the API's port for a moment.
func (s *soak) flood() {
	var open []net.Conn
	for range 1000 {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), time.Second)
		if err != nil {
			break
		}
		open = append(open, c)
	}
	time.Sleep(time.Second)
	for _, c := range open {
		c.Close()
	}
}

// judge wants every request answered. Excused is what was under way in a proxy when that was killed, and who came while the server was
// dead with it: nobody held the ports then.
func (s *soak) judge(t *testing.T, traffic *traffic) {
	t.Helper()
	var bad []string
	excused := 0
	for _, f := range traffic.end(t, "all") {
		if slices.ContainsFunc(s.deeds, func(d deed) bool { return d.excuses(f) }) {
			excused++
			continue
		}
		bad = append(bad, fmt.Sprintf("%s: %v (after %s)", f.at.Format("15:04:05.000"), f.err, s.before(f.at)))
	}
	t.Logf("%d harms; %d requests cut off with a proxy; %d changes refused meanwhile", len(s.deeds), excused, s.refused)
	if len(bad) > 0 {
		t.Errorf("%d requests failed:\n%s", len(bad), strings.Join(bad[:min(len(bad), 20)], "\n"))
	}
}

// excuses tells whether a request could only fail.
func (d deed) excuses(f failure) bool {
	switch {
	case d.what == everything:
		return f.at.After(d.at) && f.at.Before(d.over)
	case d.what == killProxy:
		return !f.dialled.IsZero() && f.dialled.Before(d.over) && f.at.After(d.at) && f.at.Before(d.at.Add(2*time.Second))
	}
	return false
}

func (s *soak) before(at time.Time) string {
	last := "the start"
	for _, d := range s.deeds {
		if d.at.Before(at) {
			last = fmt.Sprintf("%s %s ago", d.what, at.Sub(d.at).Round(time.Millisecond))
		}
	}
	return last
}

// nothingIsLost compares what was acknowledged with what there is.
func (s *soak) nothingIsLost() {
	s.t.Helper()
	out, err := s.ecs().DescribeClusters(context.Background(), &ecs.DescribeClustersInput{Include: []types.ClusterField{types.ClusterFieldTags}})
	if err != nil {
		s.t.Fatal(err)
	}
	have := map[string]string{}
	for _, tag := range out.Clusters[0].Tags {
		have[*tag.Key] = *tag.Value
	}
	for k, v := range s.tags {
		if have[k] != v {
			s.t.Errorf("tag %s was acknowledged as %s and is %q", k, v, have[k])
		}
	}
	for names := range slices.Chunk(s.names, 100) {
		out, err := s.ecs().DescribeClusters(context.Background(), &ecs.DescribeClustersInput{Clusters: names})
		if err != nil || len(out.Clusters) != len(names) {
			s.t.Errorf("of %d acknowledged clusters %d are there: %v", len(names), len(out.Clusters), err)
		}
	}
	for _, arn := range s.started {
		task := s.reaches(arn, "STOPPED")
		if code := task.Containers[0].ExitCode; code == nil || *code != 7 {
			s.t.Errorf("task %s ended with %v and not with its exit code: %s", arn, code, aws.ToString(task.StoppedReason))
		}
	}
	s.t.Logf("%d tags, %d clusters and %d tasks were acknowledged and are there", len(s.tags), len(s.names), len(s.started))
}

// nothingIsLeft ends the services and counts what their tasks left.
func (s *soak) nothingIsLeft() {
	s.t.Helper()
	running := 0
	for _, service := range []string{"web", "victim"} {
		running += len(s.berth.tasks(service))
	}
	if n := len(serving(s.instanceID())); n != running {
		s.t.Errorf("%d containers run for %d tasks", n, running)
	}
	for _, service := range []string{"web", "victim"} {
		if _, err := s.ecs().DeleteService(context.Background(), &ecs.DeleteServiceInput{Service: &service, Force: aws.Bool(true)}); err != nil {
			s.t.Fatal(err)
		}
	}
	s.eventually(60*time.Second, "nothing is left of the tasks", func() error {
		if left := s.remains(); left["shims"]+left["namespaces"]+left["cgroups"] > 0 || len(serving(s.instanceID())) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// serving are the processes of the test image's web server in an instance's cgroups.
func serving(id string) (pids []int) {
	for _, pid := range processes("/web", "") {
		groups, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "cgroup"))
		if strings.Contains(string(groups), "berth-"+id) {
			pids = append(pids, pid)
		}
	}
	return pids
}

package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

func TestStopSignal(t *testing.T) {
	for s, want := range map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "QUIT": syscall.SIGQUIT, "9": syscall.SIGKILL, "SIGRTMIN+3": 37, "RTMIN": 34, "SIGRTMAX-1": 63,
		"SIGWINCH": syscall.SIGWINCH, "nonsense": syscall.SIGTERM, "0": syscall.SIGTERM, "-5": syscall.SIGTERM, "RTMIN+x": syscall.SIGTERM, "RTMAX+9": syscall.SIGTERM,
	} {
		if got := stopSignal(s); got != want {
			t.Errorf("%q is %d, want %d", s, got, want)
		}
	}
}

func TestRuntimeIDsAreShortAndDistinct(t *testing.T) {
	task := strings.Repeat("a", 32)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,3}-?x{0,252}[0-9]?`), 2, 2, rapid.ID[string]).Draw(t, "names")
		a, b := runtimeID(task, names[0]), runtimeID(task, names[1])
		if a == b || len(a) > 76 || len(b) > 76 || taskOf(a, "") != task {
			t.Fatalf("%q %q", a, b)
		}
	})
}

func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	content := "# a comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver ::1\nsearch a.example b.example\noptions ndots:2\noptions edns0\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	r := readResolv(path)
	if got, want := string(r.withoutLoopback().bytes()), "nameserver 10.0.0.2\nsearch a.example b.example\noptions ndots:2 edns0\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := readResolv(filepath.Join(t.TempDir(), "none")); len(got.servers) != 0 {
		t.Errorf("%+v", got)
	}
}

// A machine whose name servers are all on its loopback: its containers ask at the gateway.
func TestContainersOfALoopbackMachineHaveANameServer(t *testing.T) {
	if _, err := os.Stat(systemdResolv); err == nil {
		t.Skip("this machine's real name servers are known to systemd")
	}
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 127.0.0.53\nsearch a.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := types.ContainerDefinition{Name: new("c"), DnsServers: []string{"192.0.2.53"}}
	for _, c := range []struct {
		mode types.NetworkMode
		def  types.ContainerDefinition
		want string
	}{
		{types.NetworkModeAwsvpc, types.ContainerDefinition{Name: new("c")}, "nameserver 172.31.0.1\nsearch a.example\n"},
		{types.NetworkModeBridge, types.ContainerDefinition{Name: new("c")}, "nameserver 172.31.0.1\nsearch a.example\n"},
		{types.NetworkModeHost, types.ContainerDefinition{Name: new("c")}, "nameserver 127.0.0.53\nsearch a.example\n"},
		{types.NetworkModeAwsvpc, own, "nameserver 192.0.2.53\nsearch a.example\n"},
	} {
		task := &task{mode: c.mode, agent: &Agent{cfg: Config{ResolvConf: path, NameServer: "172.31.0.1"}}, log: slog.New(slog.DiscardHandler)}
		if got := string(task.resolvConf(&container{def: c.def})); got != c.want {
			t.Errorf("%s: %q, want %q", c.mode, got, c.want)
		}
	}
}

func TestCheckOf(t *testing.T) {
	k, ok := checkOf(&types.HealthCheck{Command: []string{"CMD-SHELL", "curl -f localhost"}})
	if want := []string{"/bin/sh", "-c", "curl -f localhost"}; !ok || strings.Join(k.command, "|") != strings.Join(want, "|") ||
		k.interval != 30*time.Second || k.timeout != 5*time.Second || k.retries != 3 {
		t.Errorf("%+v", k)
	}
	for _, none := range []*types.HealthCheck{nil, {}, {Command: []string{"NONE"}}, {Command: []string{"CMD"}}} {
		if _, ok := checkOf(none); ok {
			t.Errorf("%+v is a check", none)
		}
	}
}

// TestProbing: a success makes HEALTHY at once; after retries failures that count, and no earlier, it is UNHEALTHY.
func TestProbing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		p := &probing{started: start, eager: rapid.Bool().Draw(t, "eager"), health: types.HealthStatusUnknown, check: check{
			interval: time.Duration(rapid.IntRange(5, 30).Draw(t, "interval")) * time.Second, retries: rapid.IntRange(1, 4).Draw(t, "retries"),
			startPeriod: time.Duration(rapid.IntRange(0, 60).Draw(t, "startPeriod")) * time.Second,
		}}
		now := start
		p.begin(now)
		fails := 0
		for range rapid.IntRange(1, 40).Draw(t, "probes") {
			wait := p.wait(now)
			if wait > p.check.interval {
				t.Fatalf("waits %s", wait)
			}
			due := !now.Add(wait).Before(p.next)
			now = now.Add(wait)
			ok := rapid.Bool().Draw(t, "ok")
			was := p.health
			got := p.took(now, ok)
			if ok {
				fails = 0
			} else if due && (was == types.HealthStatusHealthy || now.Sub(start) >= p.check.startPeriod) {
				fails++
			}
			switch {
			case ok && got != types.HealthStatusHealthy, fails >= p.check.retries && got != types.HealthStatusUnhealthy,
				!ok && fails < p.check.retries && got != was:
				t.Fatalf("ok %t after %d failures: %s became %s", ok, fails, was, got)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "took")) * time.Millisecond)
		}
	})
}

// slow pulls until told.
type slow struct {
	mu    sync.Mutex
	calls int
	ended int
}

func (s *slow) PullAs(ctx context.Context, ref string, _ model.RegistryLogin) (Image, error) {
	return s.Pull(ctx, ref)
}

func (s *slow) Pull(ctx context.Context, ref string) (Image, error) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.ended++; s.mu.Unlock() }()
	select {
	case <-ctx.Done():
		return Image{}, ctx.Err()
	case <-time.After(time.Minute):
		return Image{Ref: ref}, nil
	}
}

func TestPullEndsWithItsLastWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		images := &slow{}
		p := newPulls(images)
		var wg sync.WaitGroup
		wait := func(patience time.Duration, want error) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if _, err := p.get(ctx, "ref", nil); !errors.Is(err, want) {
					t.Errorf("patience %s: %v", patience, err)
				}
			})
		}
		wait(10*time.Second, context.DeadlineExceeded)
		wait(20*time.Second, context.DeadlineExceeded)
		wg.Wait()
		if images.calls != 1 || images.ended != 1 {
			t.Errorf("%d pulls, %d ended", images.calls, images.ended)
		}
		wait(10*time.Second, context.DeadlineExceeded)
		wait(2*time.Minute, nil)
		wait(2*time.Minute, nil)
		wg.Wait()
		if images.calls != 2 {
			t.Errorf("%d pulls", images.calls)
		}
	})
}

func TestRecordSurvives(t *testing.T) {
	dir := t.TempDir()
	want := record{Observed: model.Observed{Seq: 7, Status: model.Running}, CredentialsID: "c", Containers: map[string]*containerRecord{
		"web": {Image: Image{Ref: "r", StopSignal: "SIGQUIT"}, Network: &NetworkInfo{IPv4: "10.0.0.1"}, Restarts: 2}}}
	if err := want.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := loadRecord(dir)
	if err != nil || got.Observed.Seq != 7 || got.Containers["web"].Image.StopSignal != "SIGQUIT" || got.Containers["web"].Network.IPv4 != "10.0.0.1" {
		t.Errorf("%+v %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(dir, recordFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestNamesFromOutsideDoNotLeaveTheFolder(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "a/b", "/", "a\x00", strings.Repeat("x", 256)} {
		if safeName(bad) {
			t.Errorf("%q is taken for a name", bad)
		}
	}
	a := New(Config{})
	a.SetAssignments([]model.Assignment{{Task: &model.Task{ID: "../etc"}}, {}})
	if len(a.desired) != 0 {
		t.Errorf("%+v", a.desired)
	}
}

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/berthdev/berth/internal/serve/fleet"
	"github.com/berthdev/berth/test/acked"
)

const processEnv = "BERTH_TEST_SERVER"

// TestServerProcess is no test but a server of TestKilledServers, in a process of its own.
func TestServerProcess(t *testing.T) {
	said := os.Getenv(processEnv)
	if said == "" {
		t.Skip("it is the process of another test")
	}
	var c Config
	if err := json.Unmarshal([]byte(said), &c); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(c.DataDir + ".out")
	if err != nil {
		t.Fatal(err)
	}
	if err := Server(context.Background(), c, out); err != nil {
		t.Fatal(err)
	}
}

// process is a `berth server` that can be killed.
type process struct {
	conf Config
	cmd  *exec.Cmd
}

func (p *process) start(t *testing.T) {
	t.Helper()
	said, err := json.Marshal(p.conf)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(p.conf.DataDir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(os.Args[0], "-test.run=^TestServerProcess$")
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append(os.Environ(), processEnv+"="+string(said)), log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// leads tells whether the server says so.
func (p *process) leads(ctx context.Context) bool {
	r, err := Fleet(ctx, p.conf.DataDir)
	if err != nil {
		return false
	}
	in, err := LoadInstance(p.conf.DataDir)
	for _, s := range r.Servers {
		if err == nil && s.Leader && s.ID == in.NodeID {
			return true
		}
	}
	return false
}

// TestKilledServers kills the leader of three servers again and again while clients of all three write: what was acknowledged stays, and
// what they were told has an order in which it is true. BERTH_ROUNDS is how often; each prints how long nothing was acknowledged.
func TestKilledServers(t *testing.T) {
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("BERTH_ROUNDS")); err == nil {
		rounds = n
	}
	all := []*process{}
	var clients []*ecs.Client
	for i := range 3 {
		p := &process{conf: Config{DataDir: filepath.Join(t.TempDir(), "data"), Listen: freePort(t), Advertise: portPair(t), Version: "test"}}
		if i > 0 {
			eventually(t, "no token is made", func() bool {
				j, err := NewToken(t.Context(), TokenConfig{DataDir: all[0].conf.DataDir, Role: "server"})
				p.conf.Join = j.URL
				return err == nil
			})
		}
		p.start(t)
		t.Cleanup(func() {
			p.kill()
			if t.Failed() {
				log, _ := os.ReadFile(p.conf.DataDir + ".log")
				t.Logf("%s:\n%s", p.conf.Listen, log)
			}
		})
		all = append(all, p)
		c := (&berth{conf: p.conf, out: started(t, p.conf)}).client(t)
		clients = append(clients, ecs.New(c.Options(), func(o *ecs.Options) { o.RetryMaxAttempts = 1 }))
		eventually(t, "a server does not answer", func() bool {
			_, err := clients[i].ListClusters(t.Context(), &ecs.ListClustersInput{})
			return err == nil
		})
	}
	voting(t, all[0].conf.DataDir)
	found, err := clients[0].DescribeClusters(t.Context(), &ecs.DescribeClustersInput{})
	if err != nil || len(found.Clusters) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	h, stop := acked.Start(acked.Config{Clients: append(clients, clients[1:]...), Cluster: *found.Clusters[0].ClusterArn, Keys: 3, Limit: 8 * time.Second,
		Pause: 60 * time.Millisecond})
	for round := range rounds {
		time.Sleep(500 * time.Millisecond)
		leader := 0
		eventually(t, "nobody leads", func() bool {
			for i, p := range all {
				if p.leads(t.Context()) {
					leader = i
					return true
				}
			}
			return false
		})
		other := clients[(leader+1)%3]
		began := time.Now()
		all[leader].kill()
		eventually(t, "no write is acknowledged", func() bool {
			_, err := other.CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: aws.String(fmt.Sprint("round-", round))})
			return err == nil
		})
		t.Logf("round %d: the next write was acknowledged %v after the kill", round, time.Since(began))
		all[leader].start(t)
		eventually(t, "it does not come back", func() bool {
			_, err := clients[leader].ListClusters(t.Context(), &ecs.ListClustersInput{})
			return err == nil
		})
	}
	stop()
	t.Log(h.Counts())
	if err := h.Judge(t.Context(), clients[0]); err != nil {
		t.Error(err)
	}
}

// started waits until a server has said where it answers.
func started(t *testing.T, c Config) *lines {
	out := &lines{}
	eventually(t, "a server does not start", func() bool {
		said, err := os.ReadFile(c.DataDir + ".out")
		return err == nil && len(said) > 0
	})
	_, _ = out.Write([]byte("started"))
	return out
}

// voting waits until three servers vote: two joins, one after the other.
func voting(t *testing.T, dir string) {
	eventually(t, "not all vote", func() bool {
		r, err := Fleet(t.Context(), dir)
		return err == nil && len(r.Servers) == 3 && !slices.ContainsFunc(r.Servers, func(s fleet.Server) bool { return s.Joining || s.Away })
	})
}

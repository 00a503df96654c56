package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// server is what a server says of the servers.
type server struct {
	Name                  string
	Leader, Joining, Away bool
	Fsync                 time.Duration
	Behind                int64
}

// theServers asks a machine for all of them.
func (b *box) theServers() ([]server, error) {
	out, err := b.berth("status", "--json")
	if err != nil {
		return nil, err
	}
	var report struct{ Servers []server }
	return report.Servers, json.Unmarshal([]byte(out), &report)
}

// leads waits until a machine sees so many servers, all of which answer and vote, without counting those that are away, and one that
// leads, which it returns.
func (b *box) leads(limit time.Duration, here int) (leader *box) {
	b.t.Helper()
	eventually(b.t, limit, fmt.Sprintf("%d servers, one of which leads", here), func() error {
		all, err := b.theServers()
		if err != nil {
			return err
		}
		n := 0
		leader = nil
		for _, s := range all {
			if s.Away || s.Joining {
				continue
			}
			if n++; s.Leader {
				leader = b.fleet.named(s.Name)
			}
		}
		if n != here || leader == nil {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	return leader
}

func (f *fleet) named(name string) *box {
	for _, b := range f.all {
		if b.Name == name {
			return b
		}
	}
	return nil
}

// write makes a cluster by a machine's API; nil means that it was acknowledged.
func (b *box) write(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := b.ecs().CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: &name})
	return err
}

// writeSoon makes a cluster by as many attempts as it takes, none of which waits for those before it.
func (b *box) writeSoon(name string) {
	b.t.Helper()
	done := make(chan error, 600)
	attempt := func() { done <- b.write(name) }
	tick, limit := time.NewTicker(100*time.Millisecond), time.After(60*time.Second)
	defer tick.Stop()
	for last := error(nil); ; {
		select {
		case err := <-done:
			if err == nil {
				return
			}
			last = err
		case <-tick.C:
			go attempt()
		case <-limit:
			b.t.Fatalf("no write is acknowledged: %v", last)
		}
	}
}

// wrote tells which of these writes a machine's API does not know.
func (b *box) wrote(names []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := b.ecs().DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: names})
	if err != nil {
		return err
	}
	if len(out.Failures) > 0 || len(out.Clusters) != len(names) {
		return fmt.Errorf("%d of %d acknowledged writes are there: %+v", len(out.Clusters), len(names), out.Failures)
	}
	return nil
}

// When the machine of the server that leads dies, another server leads: it takes writes and has all that were acknowledged, and the tasks
// of the dead machine run elsewhere. When it comes back it follows, and nothing is doubled.
func TestTheLeadersMachineDies(t *testing.T) {
	f := newFleet(t, "s1", "s2", "s3")
	f.cluster(3, "app:1")
	victim := f.one().leads(30*time.Second, 3)
	others := slices.DeleteFunc(slices.Clone(f.all), func(b *box) bool { return b == victim })
	via := others[0]
	t.Log("\n" + via.must("status") + via.must("node", "ls"))
	via.makeService("web", via.register("web", web("app:1")), 6, via.makeLB())
	via.stable(60*time.Second, "web")
	before := f.containers()
	if n := len(f.containers(victim)); n == 0 || len(before) != 6 {
		t.Fatalf("%s, which leads, runs %d of %d tasks", victim.Name, n, len(before))
	}
	f.balance(f.all...)
	var acked []string
	for i := range 9 {
		name := fmt.Sprint("before-", i)
		if err := f.all[i%3].write(name); err != nil {
			t.Fatal(err)
		}
		acked = append(acked, name)
	}

	cut := time.Now()
	if err := victim.Off(); err != nil {
		t.Fatal(err)
	}
	via.writeSoon("after")
	t.Logf("%s: a write by %s was acknowledged %v after the power cut of %s", via.Name, via.Name, time.Since(cut), victim.Name)
	acked = append(acked, "after")
	if err := via.wrote(acked); err != nil {
		t.Error(err)
	}
	eventually(t, 60*time.Second, "the tasks run elsewhere", func() error {
		if n := len(f.containers()); n != 6 {
			return fmt.Errorf("%d containers:\n%s", n, via.must("node", "ls"))
		}
		return via.settled("web")
	})
	t.Logf("6 of 6 run and are settled %v after the power cut", time.Since(cut))
	f.untouched(t, "the leader's machine died", before, victim)
	leader := via.leads(30*time.Second, 2)
	for _, b := range others {
		if now := b.leads(10*time.Second, 2); now != leader || now == victim {
			t.Errorf("%s says that %s leads, %s says %s", via.Name, leader.Name, b.Name, now.Name)
		}
		if err := b.wrote(acked); err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		eventually(t, 10*time.Second, b.Name+" is seen to live", func() error {
			n, err := via.nodeNamed(b.Name)
			if err == nil && (!n.Agent || n.State != "ACTIVE" || n.Note != "") {
				err = fmt.Errorf("%+v", n)
			}
			return err
		})
	}
	f.balance(others...)
	t.Log("\n" + via.must("status") + via.must("node", "ls"))

	back := time.Now()
	if err := victim.On(); err != nil {
		t.Fatal(err)
	}
	victim.inCluster(via)
	if now := via.leads(40*time.Second, 3); now == victim {
		t.Errorf("%s leads again", victim.Name)
	}
	t.Logf("%s follows %v after its power came back", victim.Name, time.Since(back))
	eventually(t, 30*time.Second, victim.Name+" takes writes", func() error { return victim.write("back") })
	if err := victim.wrote(append(acked, "back")); err != nil {
		t.Error(err)
	}
	eventually(t, 30*time.Second, "nothing is doubled", func() error {
		if n := len(f.containers()); n != 6 {
			return fmt.Errorf("%d containers", n)
		}
		return victim.settled("web")
	})
	f.balance(f.all...)
	via.redeploy("web") // it is given tasks again
	eventually(t, 60*time.Second, victim.Name+" runs tasks", func() error {
		if err := via.settled("web"); err != nil {
			return err
		}
		if len(f.containers(victim)) == 0 {
			return fmt.Errorf("it runs none")
		}
		return nil
	})
	t.Log("\n" + victim.must("status") + victim.must("node", "ls"))
}

// balance checks that the load balancer of each machine answers, once it knows what there is.
func (f *fleet) balance(on ...*box) {
	f.t.Helper()
	for _, b := range on {
		ask := func() error {
			status, _, err := b.get(fmt.Sprintf("http://127.0.0.1:%d/", lbPort))
			if err == nil && status != 200 {
				err = fmt.Errorf("%s's load balancer answers %d", b.Name, status)
			}
			return err
		}
		eventually(f.t, 20*time.Second, b.Name+"'s load balancer answers", ask)
		for range 20 {
			if err := ask(); err != nil {
				f.t.Error(err)
			}
		}
	}
}

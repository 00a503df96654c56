package fleet

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sys/unix"
)

var joinURL = regexp.MustCompile(`berth://\S+`)

// nodeOf makes b a node of the cluster of first, and waits until it can have tasks.
func (b *box) nodeOf(first *box) {
	b.t.Helper()
	url := joinURL.FindString(first.must("token", "node"))
	b.serve("node", "--join", url)
	eventually(b.t, 30*time.Second, b.Name+" is a node", func() error {
		out, err := first.berth("node", "ls")
		if err == nil && !regexp.MustCompile(`(?m)\b`+b.Name+`\b.*ACTIVE\s+yes`).MatchString(out) {
			err = fmt.Errorf("node ls says\n%s", out)
		}
		return err
	})
}

// Tasks of different machines have addresses of one network: they reach each other, see who speaks to them, and so do the machines, and
// the load balancer of one with targets on all. A machine whose Berth is killed, and one that comes back, lose nothing of it.
func TestTasksOfDifferentMachinesReachEachOther(t *testing.T) {
	f := newFleet(t, "n1", "n2", "n3")
	one := f.one()
	one.up()
	for _, b := range f.all[1:] {
		b.nodeOf(one)
	}
	for _, b := range f.all {
		b.importImage("app:1")
	}
	ips := one.spread(3)
	reach := f.reach(ips)
	eventually(t, 15*time.Second, "every task reaches every other", reach)

	group := one.makeLB()
	one.makeService("svc", "web", 6, group)
	one.stable(60*time.Second, "svc")
	machines := map[*box]bool{}
	for _, c := range f.containers() {
		machines[c.box] = true
	}
	seen := map[string]bool{}
	for range 60 {
		if status, body, err := one.get(fmt.Sprintf("http://127.0.0.1:%d/", lbPort)); err == nil && status == 200 {
			seen[strings.Fields(body)[0]] = true
		} else {
			t.Errorf("by the load balancer: %d %v", status, err)
		}
	}
	if len(machines) != 3 || len(seen) != 6 {
		t.Errorf("the load balancer reached %d of 6 tasks on %d machines: %v", len(seen), len(machines), seen)
	}

	if n, err := f.all[1].Signal(unix.SIGKILL, "berth node"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := reach(); err != nil {
		t.Errorf("without its Berth: %v", err)
	}
}

// Encrypted, tasks of different machines reach each other as they do in clear.
func TestTasksOfDifferentMachinesEncrypted(t *testing.T) {
	f := newFleet(t, "n1", "n2")
	one := f.one()
	one.up("--encrypt")
	f.all[1].nodeOf(one)
	for _, b := range f.all {
		b.importImage("app:1")
	}
	reach := f.reach(one.spread(2))
	eventually(t, 40*time.Second, "every task reaches every other", reach)
	for _, b := range f.all {
		if log := b.Log("berth", 20000); !strings.Contains(log, "made the encrypted device") || strings.Contains(log, "made the device") {
			t.Errorf("%s does not encrypt:\n%s", b.Name, log)
		}
	}
}

// spread runs a task on each of count machines, and returns their addresses.
func (b *box) spread(count int32) (ips []string) {
	b.t.Helper()
	def := b.register("web", web("app:1"))
	out, err := b.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: &def, Count: &count, NetworkConfiguration: network,
		PlacementConstraints: []ecstypes.PlacementConstraint{{Type: ecstypes.PlacementConstraintTypeDistinctInstance}}})
	if err != nil || len(out.Failures) > 0 {
		b.t.Fatal(err, out)
	}
	for _, task := range out.Tasks {
		ips = append(ips, address(b.reaches(*task.TaskArn, "RUNNING")))
	}
	slices.Sort(ips)
	if len(slices.Compact(slices.Clone(ips))) != int(count) {
		b.t.Fatalf("%d tasks have the addresses %v", count, ips)
	}
	return ips
}

// reach tells whether every task is reached from every machine and from every other, which it sees by its true address.
func (f *fleet) reach(ips []string) func() error {
	return func() error {
		for _, b := range f.all {
			for _, to := range ips {
				if _, body, err := b.get("http://" + to + "/from"); err != nil || body == "" {
					return fmt.Errorf("from the machine %s to %s: %q %w", b.Name, to, body, err)
				}
				for _, from := range ips {
					_, body, err := b.get(fmt.Sprintf("http://%s/ask?url=http://%s/from", from, to))
					if err != nil || body != from {
						return fmt.Errorf("from %s to %s: the latter sees %q, %v", from, to, body, err)
					}
				}
			}
		}
		return nil
	}
}

// Servers that run tasks themselves are machines as others are: the second one's addresses are the cluster's, from its first start.
func TestTasksOfServersReachEachOther(t *testing.T) {
	f := newFleet(t, "n1", "n2")
	f.cluster(2, "app:1")
	reach := f.reach(f.one().spread(2))
	eventually(t, 20*time.Second, "every task reaches every other", reach)
}

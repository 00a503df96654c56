package fleet

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sys/unix"
)

// runOn runs a task on one machine of the cluster and returns its ARN.
func (b *box) runOn(on *box, definition string) string {
	b.t.Helper()
	out, err := b.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: &definition, NetworkConfiguration: network,
		PlacementConstraints: []ecstypes.PlacementConstraint{{Type: ecstypes.PlacementConstraintTypeMemberOf,
			Expression: aws.String("attribute:ecs.availability-zone == us-east-1" + on.zone())}}})
	if err != nil || len(out.Failures) > 0 || len(out.Tasks) != 1 {
		b.t.Fatalf("run a task on %s: %v %+v", on.Name, err, out)
	}
	return *out.Tasks[0].TaskArn
}

// A machine joins with one command and runs a task seconds later. What people see names it. After a power cut it needs no token.
func TestANodeJoins(t *testing.T) {
	f := newFleet(t, "s1", "n2")
	one, two := f.all[0], f.all[1]
	one.up("--advertise", one.Address.String())
	one.importImage("app:1")
	def := one.register("web", web("app:1"))
	began := time.Now()
	two.joinAsNode(one)
	joined := time.Since(began)
	two.importImage("app:1")
	task := one.reaches(one.runOn(two, def), "RUNNING")
	t.Logf("a session %v after the command, the first task %v after it (with the import of its image)", joined, time.Since(began))
	if on := f.where(taskID(*task.TaskArn)); on != two {
		t.Errorf("the task runs on %v", on)
	}
	two.answersAt(address(task))
	seen := one.must("node", "ls")
	t.Log("\n" + one.must("status") + seen)
	for _, word := range []string{"n2", two.Address.String(), " b ", "ACTIVE"} {
		if !strings.Contains(seen, word) {
			t.Errorf("berth node ls does not say %q:\n%s", word, seen)
		}
	}
	if err := two.Off(); err != nil {
		t.Fatal(err)
	}
	if err := two.On(); err != nil {
		t.Fatal(err)
	}
	two.inCluster(one)
	one.reaches(*task.TaskArn, "STOPPED") // nobody manages it
	one.reaches(one.runOn(two, def), "RUNNING")
}

// What is killed on one machine leaves the containers of all machines alone: Berth, containerd and the load balancers' process in turn.
func TestKillsOnAMachineEndNoContainer(t *testing.T) {
	f := newFleet(t, "s1", "n2", "n3")
	f.restart = true
	f.cluster(1, "app:1")
	one := f.one()
	one.makeService("web", one.register("web", web("app:1")), 6, "")
	one.stable(60*time.Second, "web")
	before := f.containers()
	if len(before) != 6 {
		t.Fatalf("the service has %d containers", len(before))
	}
	for _, b := range f.all {
		for _, words := range [][]string{{f.bin, " containerd --config"}, {f.bin, " " + b.Services[0].Args[1]}} {
			if n, err := b.Signal(unix.SIGKILL, words...); n == 0 || err != nil {
				t.Fatalf("%s %v: %d %v", b.Name, words, n, err)
			}
			time.Sleep(time.Second)
		}
	}
	f.connected(30 * time.Second)
	one.stable(30*time.Second, "web")
	f.untouched(t, "kills", before)
}

// untouched checks that containers are the same processes as before on all machines but the touched ones.
func (f *fleet) untouched(t testing.TB, what string, before []container, touched ...*box) {
	t.Helper()
	still := map[string]bool{}
	for _, c := range f.containers() {
		still[fmt.Sprint(c.process.PID, c.process.Start)] = true
	}
	for _, c := range before {
		skip := false
		for _, b := range touched {
			skip = skip || b == c.box
		}
		if !skip && !still[fmt.Sprint(c.process.PID, c.process.Start)] {
			t.Errorf("%s: task %s on %s, which was not touched, is no longer process %d", what, c.task, c.box.Name, c.process.PID)
		}
	}
}

package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// answersAt waits until a task's address answers on its machine.
func (b *box) answersAt(ip string) {
	b.t.Helper()
	eventually(b.t, 10*time.Second, "the task answers", func() error {
		status, _, err := b.get("http://" + ip + "/")
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

// Two machines, each with a whole Berth, know nothing of each other: the power cut of one and kills on it are not felt on the other, and
// after the power cut its data is there.
func TestAPowerCutIsFeltOnOneMachineOnly(t *testing.T) {
	f := newFleet(t, "n1", "n2")
	address, pids := map[*box]string{}, map[*box]int{}
	for _, b := range f.all {
		b.up()
		b.importImage("app:1")
		def := b.register("web", web("app:1"))
		task := b.reaches(b.run(def, 1)[0], "RUNNING")
		address[b] = *task.Containers[0].NetworkInterfaces[0].PrivateIpv4Address
		b.answersAt(address[b])
		containers := b.Processes("/web")
		if len(containers) != 1 {
			t.Fatalf("%s runs %v", b.Name, containers)
		}
		pids[b] = containers[0].PID
	}
	one, two := f.all[0], f.all[1]
	if err := one.Off(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := one.get("http://" + address[one] + "/"); err == nil {
		t.Error("a task answers on a machine that is off")
	}
	if n, err := two.Signal(unix.SIGKILL, "berth containerd"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	two.answersAt(address[two])
	if now := two.Processes("/web"); len(now) != 1 || now[0].PID != pids[two] {
		t.Errorf("the other machine's container was %d and is %v", pids[two], now)
	}
	two.reaches(two.run("web", 1)[0], "RUNNING")

	if err := one.On(); err != nil {
		t.Fatal(err)
	}
	one.answers()
	task := one.reaches(one.run("web", 1)[0], "RUNNING")
	one.answersAt(*task.Containers[0].NetworkInterfaces[0].PrivateIpv4Address)
}

// A person sees the machine of a `berth up` as server and node.
func TestStatusOfOneMachine(t *testing.T) {
	b := newFleet(t, "n1").all[0]
	b.up()
	b.importImage("app:1")
	b.reaches(b.run(b.register("web", web("app:1")), 2)[0], "RUNNING")
	status, nodes, show := b.must("status"), b.must("node", "ls"), b.must("node", "show", "n1")
	t.Log("\n" + status + nodes + show)
	for _, c := range [][2]string{{status, "servers 1/1, leader n1"}, {status, "nodes 1: 1 up"}, {nodes, "n1 "}, {nodes, " ACTIVE "}, {show, "Tasks"}} {
		if !strings.Contains(c[0], c[1]) {
			t.Errorf("it does not say %q:\n%s", c[1], c[0])
		}
	}
	if _, err := b.berth("node", "show", "n2"); err == nil || !strings.Contains(err.Error(), "berth node ls") {
		t.Errorf("a node that there is not: %v", err)
	}
	if _, err := b.Signal(unix.SIGKILL, "berth up"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.berth("status"); err == nil || !strings.Contains(err.Error(), "start it with: berth up") {
		t.Errorf("without a server: %v", err)
	}
}

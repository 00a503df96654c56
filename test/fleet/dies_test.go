package fleet

import (
	"fmt"
	"testing"
	"time"
)

// When a machine dies its tasks run elsewhere, and the load balancer sends nobody to it; when it comes back nothing is doubled.
func TestAMachineDies(t *testing.T) {
	f := newFleet(t, "s1", "n2", "n3")
	f.cluster(1, "app:1")
	one, victim := f.all[0], f.all[2]
	one.makeService("web", one.register("web", web("app:1")), 6, one.makeLB())
	one.stable(60*time.Second, "web")
	before := f.containers()
	cut := time.Now()
	if err := victim.Off(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the tasks run elsewhere", func() error {
		if n := len(f.containers()); n != 6 {
			return fmt.Errorf("%d containers", n)
		}
		return one.settled("web")
	})
	t.Logf("6 of 6 run and are settled %v after the power cut", time.Since(cut))
	if n, err := one.nodeNamed(victim.Name); err != nil || n.State != "LOST" || n.Note == "" {
		t.Errorf("the dead machine is %+v, %v", n, err)
	}
	f.untouched(t, "a machine died", before, victim)
	for range 40 {
		if status, _, err := one.get(fmt.Sprintf("http://127.0.0.1:%d/", lbPort)); err != nil || status != 200 {
			t.Fatalf("the load balancer answers %d, %v", status, err)
		}
	}
	if err := victim.On(); err != nil {
		t.Fatal(err)
	}
	victim.inCluster(one)
	one.stable(20*time.Second, "web")
	if n := len(f.containers()); n != 6 {
		t.Errorf("%d containers after its return", n)
	}
}

// A machine that is cut off goes on with what it runs; the cluster replaces that, and when it is back the surplus ends and nothing else.
func TestAMachineIsCutOff(t *testing.T) {
	f := newFleet(t, "s1", "n2", "n3")
	f.cluster(1, "app:1")
	one, away := f.all[0], f.all[2]
	one.makeService("web", one.register("web", web("app:1")), 6, one.makeLB())
	one.stable(60*time.Second, "web")
	before := f.containers()
	its := len(f.containers(away))
	if its == 0 {
		t.Fatalf("nothing runs on %s", away.Name)
	}
	if err := f.lab.Isolate(away.Machine); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "its tasks run elsewhere too", func() error {
		if n := len(f.containers(f.all[:2]...)); n != 6 {
			return fmt.Errorf("%d containers on the others", n)
		}
		return one.settled("web")
	})
	if n := len(f.containers(away)); n != its {
		t.Errorf("the machine that is cut off ran %d tasks and runs %d", its, n)
	}
	if err := f.lab.Heal(); err != nil {
		t.Fatal(err)
	}
	away.inCluster(one)
	eventually(t, 20*time.Second, "the surplus ends", func() error {
		if n := len(f.containers()); n != 6 {
			return fmt.Errorf("%d containers", n)
		}
		return one.settled("web")
	})
	f.untouched(t, "a machine was cut off", before, away)
}

package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An agent that is killed is not a machine that is dead: nothing is replaced, and people see why. A machine whose power is cut is: its
// tasks run elsewhere seconds later, and end when that is healthy; and when it comes back it is given tasks again.
func TestAnAgentIsNoMachine(t *testing.T) {
	f := newFleet(t, "s1", "n2", "n3")
	f.cluster(1, "app:1")
	one, two, three := f.one(), f.all[1], f.all[2]
	one.makeService("web", one.register("web", web("app:1")), 6, "")
	one.stable(60*time.Second, "web")
	before := f.containers()

	if n, err := two.Signal(unix.SIGKILL, f.bin, " "+two.Services[0].Args[1]); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	eventually(t, 10*time.Second, "the agent is seen to be away", func() error {
		if seen := one.must("node", "ls"); !strings.Contains(seen, "its agent is not there, but the machine is") {
			return fmt.Errorf("%s", seen)
		}
		return nil
	})
	time.Sleep(5 * time.Second) // three times what a verdict takes
	t.Log("\n" + one.must("node", "ls"))
	f.untouched(t, "a killed agent", before)
	if now := f.containers(); len(now) != len(before) {
		t.Errorf("%d containers run after an agent was killed, %d did before", len(now), len(before))
	}

	theirs := 0
	for _, c := range before {
		if c.box == three {
			theirs++
		}
	}
	began := time.Now()
	if err := three.Off(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "its tasks run elsewhere", func() error {
		n := 0
		for _, c := range f.containers() {
			if c.box != three {
				n++
			}
		}
		if n < 6 {
			return fmt.Errorf("%d of 6 containers run elsewhere:\n%s", n, one.must("node", "ls"))
		}
		return nil
	})
	t.Logf("%d tasks of a machine whose power was cut run elsewhere after %s\n%s", theirs, time.Since(began).Round(10*time.Millisecond), one.must("node", "ls"))
	one.stable(60*time.Second, "web")
	f.untouched(t, "a power cut", before, three)
	if err := three.On(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "it is back", func() error {
		if seen := one.must("node", "ls"); strings.Contains(seen, "LOST") {
			return fmt.Errorf("%s", seen)
		}
		return nil
	})
}

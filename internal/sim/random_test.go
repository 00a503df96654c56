package sim_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/sim"
)

// seed repeats a schedule that failed.
var seed = flag.Uint64("seed", 0, "the schedule to run; 0 means new ones")

// schedules is how many schedules one run of the tests tries.
const schedules = 6

// TestRandomSchedules does anything in any order to a cluster, which checks after each step that no promise is broken; at the end,
// when every machine is back and every image is good, each service must come to rest as it was asked to be.
func TestRandomSchedules(t *testing.T) {
	seeds := []uint64{*seed}
	if *seed == 0 {
		seeds = nil
		for range schedules {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, s := range seeds {
		t.Run(fmt.Sprint("seed=", s), func(t *testing.T) {
			inCluster(t, model.PaceFast, func(t *testing.T, c *sim.Cluster) { schedule(t, c, s) })
		})
	}
}

func schedule(t *testing.T, c *sim.Cluster, seed uint64) {
	var log strings.Builder
	rng := rand.New(rand.NewPCG(seed, 0))
	do := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		out, err := c.Do(line)
		fmt.Fprintf(&log, "%s\n%s", line, out)
		if err == nil {
			return
		}
		fmt.Fprintf(&log, "error: %v\n", err)
		if broken := c.Advance(0); broken != nil || !refused(err) {
			t.Fatalf("run again with -seed=%d: %v %v\n%s", seed, err, broken, tail(log.String()))
		}
	}
	do("add-nodes 5 memory=6000")
	do("target-group web")
	for _, image := range []string{"good", "crash", "broken", "sick", "good:2"} { // revisions 1 to 5
		do("register web image=%s port=80 memory=600", image)
		do("register fixed image=%s port=80 host-port=80 memory=1500", image)
	}
	do("create-service web task=web:1 count=%d group=web port=80 breaker=%s", rng.IntN(6), pick(rng, "rollback", "on"))
	do("create-service fixed task=fixed:1 count=%d max=100 min=%d", rng.IntN(4), pick(rng, 0, 50))
	do("create-service plain task=web:1 count=%d strategy=%s", rng.IntN(8), pick(rng, "binpack/memory", "spread/host", "random"))
	node := func() int { return rng.IntN(5) + 1 }
	for range 60 {
		switch rng.IntN(17) {
		case 0:
			do("create-service web task=web:1 count=%d group=web port=80 breaker=%s", rng.IntN(6), pick(rng, "rollback", "on"))
			do("create-service plain task=web:1 count=%d strategy=%s", rng.IntN(8), pick(rng, "binpack/memory", "random"))
		case 1, 2, 3:
			do("update-service %s count=%d", pick(rng, "web", "fixed", "plain"), rng.IntN(8))
		case 4, 5, 6:
			do("update-service %s task=%s:%d", pick(rng, "web", "fixed", "plain"), pick(rng, "web", "web", "fixed"), rng.IntN(5)+1)
		case 7:
			do("%s n%d", pick(rng, "kill-node", "unplug-node"), node())
		case 8, 9:
			do("revive-node n%d", node())
		case 10:
			do("%s n%d", pick(rng, "drain-node", "activate-node", "activate-node"), node())
		case 11:
			do("run-task %s:%d count=%d", pick(rng, "web", "fixed"), rng.IntN(5)+1, rng.IntN(3)+1)
		case 12:
			do("%s", pick(rng, "restart-server", "delete-service plain", "delete-service web"))
		case 13, 14:
			do("crash %s", pick(rng, "web", "fixed", "plain"))
		case 16:
			do("deregister web")
		case 15:
			do("update-service %s force=yes", pick(rng, "web", "fixed", "plain"))
		}
		do("advance %s", time.Duration(rng.IntN(30))*time.Second)
	}
	for n := range 5 {
		do("revive-node n%d", n+1)
		do("activate-node n%d", n+1)
	}
	for _, name := range []string{"web", "fixed", "plain"} {
		do("update-service %s task=web:5 count=3", name)
	}
	do("advance 20m")
	if err := c.AtRest(); err != nil {
		t.Fatalf("run again with -seed=%d: %v\n%s", seed, err, tail(log.String()))
	}
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// refused tells whether an error is the API's answer or a command without an object, which random schedules must expect.
func refused(err error) bool {
	return strings.Contains(err.Error(), "api error") || strings.Contains(err.Error(), "Exception") ||
		strings.HasPrefix(err.Error(), "no task of")
}

func tail(s string) string { return s[max(0, len(s)-8000):] }

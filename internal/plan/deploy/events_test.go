package deploy

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func TestEventTexts(t *testing.T) {
	var many []string
	for i := range 52 {
		many = append(many, fmt.Sprint(i))
	}
	long := StartedEvent("web", many, 0)
	for _, c := range []struct{ got, want string }{
		{StartedEvent("web", []string{"a", "b"}, 0), "(service web) has started 2 tasks: (task a) (task b)."},
		{StartedEvent("web", []string{"a"}, 1),
			"(service web) has started 1 tasks: (task a). Amazon ECS replaced 1 tasks due to an unhealthy status."},
		{StoppedEvent("web", []string{"a"}), "(service web) has stopped 1 running tasks: (task a)."},
		{StoppedPendingEvent("web", 1), "(service web) stopped 1 pending tasks."},
		{long[:35] + long[len(long)-22:], "(service web) has started 52 tasks: (task 49) and 2 more."},
	} {
		if c.got != c.want {
			t.Errorf("event is\n%s\nwant\n%s", c.got, c.want)
		}
	}
}

func TestTold(t *testing.T) {
	lasting := "(service web) was unable to place a task because no container instance met all of its requirements."
	var events []types.ServiceEvent
	steps := []struct {
		text  string
		after time.Duration
		told  bool
	}{
		{lasting, 0, false},
		{lasting, time.Minute, true},
		{StoppedPendingEvent("web", 1), 0, false}, // tells of a thing
		{StoppedPendingEvent("web", 1), 0, false}, // that happened again
		{StartedEvent("web", []string{"a"}, 0), 0, false},
		{StartedEvent("web", []string{"a"}, 0), 0, false},
		{"(service web) has reached a steady state.", 0, false},
		{"(service web) has reached a steady state.", 0, false},
		{"(service web) registered 1 targets in (target-group x)", 0, false},
		{"(service web) registered 1 targets in (target-group x)", 0, false},
		{lasting, 5 * time.Hour, true},
		{lasting, time.Hour, false}, // six hours have passed
	}
	at := now
	for i, s := range steps {
		at = at.Add(s.after)
		if got := Told(events, s.text, at); got != s.told {
			t.Fatalf("step %d: told %t, want %t", i, got, s.told)
		}
		if !s.told {
			events = append(events, types.ServiceEvent{Message: &s.text, CreatedAt: new(at)})
		}
	}
}

// A lasting state is told once, though the plan stays the same.
func TestPlanLeavesOutWhatWasTold(t *testing.T) {
	f := service(1, 100, 100).old(1).rolling(2).tasks(1, "a", running)
	w := apply(f)
	if again := script(Plan(w.Input)); len(again) != 0 {
		t.Errorf("told again: %s", again)
	}
	w.Now = w.Now.Add(6 * time.Hour)
	if again := script(Plan(w.Input)); len(again) != 1 || again[0] != stuck {
		t.Errorf("after six hours: %s", again)
	}
}

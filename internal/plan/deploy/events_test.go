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

func TestAppendEvent(t *testing.T) {
	lasting := "(service web) was unable to place a task because no container instance met all of its requirements."
	var events []types.ServiceEvent
	steps := []struct {
		text  string
		after time.Duration
		want  int // events afterwards
	}{
		{lasting, 0, 1},
		{lasting, time.Minute, 1},                     // told
		{StoppedPendingEvent("web", 1), 0, 2},         // tells of a thing
		{StoppedPendingEvent("web", 1), 0, 3},         // that happened again
		{StartedEvent("web", []string{"a"}, 0), 0, 4}, //
		{StartedEvent("web", []string{"a"}, 0), 0, 5}, //
		{"(service web) has reached a steady state.", 0, 6},
		{"(service web) has reached a steady state.", 0, 7},
		{"(service web) registered 1 targets in (target-group x)", 0, 8},
		{"(service web) registered 1 targets in (target-group x)", 0, 9},
		{lasting, 5 * time.Hour, 9},
		{lasting, time.Hour, 10}, // six hours have passed
	}
	at := now
	for i, s := range steps {
		at = at.Add(s.after)
		before := len(events)
		events = AppendEvent(events, s.text, fmt.Sprint(i), at)
		if len(events) != s.want {
			t.Fatalf("step %d: %d events, want %d", i, len(events), s.want)
		}
		if len(events) > before && (*events[0].Message != s.text || *events[0].Id != fmt.Sprint(i) || !events[0].CreatedAt.Equal(at)) {
			t.Fatalf("step %d: newest event is %v", i, events[0])
		}
	}
}

func TestAppendEventKeepsAHundredAndSharesNothing(t *testing.T) {
	var events []types.ServiceEvent
	for i := range 150 {
		was := events
		var first *string
		if len(was) > 0 {
			first = was[0].Message
		}
		events = AppendEvent(events, fmt.Sprintf("(service web) text %d", i), "id", now)
		if len(was) > 0 && was[0].Message != first {
			t.Fatal("the events that were passed in have changed")
		}
	}
	if len(events) != 100 || *events[0].Message != "(service web) text 149" || *events[99].Message != "(service web) text 50" {
		t.Errorf("%d events, from %s to %s", len(events), *events[0].Message, *events[len(events)-1].Message)
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

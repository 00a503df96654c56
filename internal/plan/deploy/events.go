package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	// quiet is how long a repeated event is not told again.
	quiet = 6 * time.Hour
	// tasksAnEvent is how many task ids one event names.
	tasksAnEvent = 50
)

const moreInformation = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."

// repeating are the events that tell of something that happened, not of a state that lasts: each is told each time.
var repeating = []string{
	"has started ", "has stopped ", "stopped ", "registered ", "deregistered ", "has begun draining connections ",
	"has reached a steady state.",
}

// Told tells whether the event would only repeat one of the last six hours. A text that tells of something that happened again (tasks
// started or stopped, targets registered or deregistered, a steady state) never does.
func Told(events []types.ServiceEvent, text string, now time.Time) bool {
	if Repeats(text) {
		return false
	}
	return slices.ContainsFunc(events, func(e types.ServiceEvent) bool {
		return e.Message != nil && *e.Message == text && e.CreatedAt != nil && now.Sub(*e.CreatedAt) < quiet
	})
}

// Repeats tells whether the event tells of something that happened, and not of a state that lasts.
func Repeats(text string) bool {
	_, what, ok := strings.Cut(text, ") ")
	return ok && slices.ContainsFunc(repeating, func(start string) bool { return strings.HasPrefix(what, start) })
}

// StartedEvent tells that tasks were started, replaced of them in the place of unhealthy ones.
func StartedEvent(service string, ids []string, replaced int) string {
	text := fmt.Sprintf("(service %s) has started %d tasks: %s.", service, len(ids), list(ids))
	if replaced > 0 {
		text += fmt.Sprintf(" Amazon ECS replaced %d tasks due to an unhealthy status.", replaced)
	}
	return text
}

// StoppedEvent tells that running tasks were told to stop.
func StoppedEvent(service string, ids []string) string {
	return fmt.Sprintf("(service %s) has stopped %d running tasks: %s.", service, len(ids), list(ids))
}

// StoppedPendingEvent tells that n tasks were stopped before they ran.
func StoppedPendingEvent(service string, n int) string {
	return fmt.Sprintf("(service %s) stopped %d pending tasks.", service, n)
}

func list(ids []string) string {
	shown := make([]string, 0, min(len(ids), tasksAnEvent))
	for _, id := range ids[:min(len(ids), tasksAnEvent)] {
		shown = append(shown, "(task "+id+")")
	}
	if len(ids) > tasksAnEvent {
		shown = append(shown, fmt.Sprintf("and %d more", len(ids)-tasksAnEvent))
	}
	return strings.Join(shown, " ")
}

// text makes an event of this service.
func (p *planner) text(format string, args ...any) string {
	return "(service " + p.in.Service.Name + ") " + fmt.Sprintf(format, args...)
}

// explain tells an event before the stops and starts that follow from it.
func (p *planner) explain(text string) { p.before = p.tell(p.before, text) }

// conclude tells an event after the stops and starts.
func (p *planner) conclude(text string) { p.after = p.tell(p.after, text) }

func (p *planner) tell(events []Event, text string) []Event {
	if p.in.Said != nil && p.in.Said(text) || slices.Contains(events, Event{Text: text}) {
		return events
	}
	return append(events, Event{Text: text})
}

// plural spells a number of things: "1 task", "2 tasks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

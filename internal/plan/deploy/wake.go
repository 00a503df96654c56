package deploy

import (
	"time"
)

// NextLook is the earliest time after in.Now at which Plan may decide differently though nothing but the clock has changed: a
// task settles, a grace period ends, a throttle ends. It is zero when there is no such time.
func NextLook(in Input) time.Time {
	if in.Service == nil {
		return time.Time{}
	}
	p := newPlanner(in)
	var next time.Time
	consider := func(at time.Time) {
		if at.After(in.Now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	consider(in.Service.Throttle.Until)
	for _, t := range p.tasks {
		consider(t.ProtectedUntil)
		if t.phase != settling || t.Observed.StartedAt.IsZero() {
			continue
		}
		if !t.ContainerChecks && t.LoadBalancers == 0 {
			consider(p.settlesAt(t.Task))
			continue
		}
		consider(p.graceEnds(t.Task))
	}
	return next
}

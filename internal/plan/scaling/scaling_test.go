package scaling

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// alarm is one whose newest three minutes are of a value.
func alarm(name, state string, value float64) *Alarm {
	a := &Alarm{Name: name, State: state, Threshold: 50, Period: time.Minute}
	for i := 3; i > 0; i-- {
		a.Points = append(a.Points, Point{now.Add(-time.Duration(i) * time.Minute), value})
	}
	return a
}

func track(name string, high, low string, value float64) Policy {
	return Policy{Name: name, Track: true, Value: 50, OutCooldown: 5 * time.Minute, InCooldown: 5 * time.Minute, High: alarm("H", high, value), Low: alarm("L", low, value)}
}

func step(how string, by int) Policy {
	return Policy{Name: "s", OutCooldown: 5 * time.Minute, InCooldown: 5 * time.Minute, Adjustment: how, Steps: []Step{{Adjustment: by}}, Alarms: []*Alarm{alarm("A", StateAlarm, 60)}}
}

func TestPlan(t *testing.T) {
	done := func(from, to int, ago time.Duration) Past {
		return Past{From: from, To: to, Began: now.Add(-ago - time.Second), Done: now.Add(-ago), Cooldown: 5 * time.Minute}
	}
	none := track("p", StateOK, StateMissing, 0)
	none.High.Points, none.Low.Points = nil, nil
	noIn := track("p", StateOK, StateOK, 20)
	noIn.DisableIn, noIn.Low = true, nil
	for name, c := range map[string]struct {
		w      World
		kind   Kind
		n      int
		cause  string
		reason string
	}{
		"calm":               {World{Policies: []Policy{track("p", StateOK, StateOK, 49)}}, Nothing, 0, "", ""},
		"out":                {World{Policies: []Policy{track("p", StateAlarm, StateOK, 100)}}, SetDesired, 8, "monitor alarm H in state ALARM triggered policy p", ""},
		"out, rounded up":    {World{Policies: []Policy{track("p", StateAlarm, StateOK, 51)}}, SetDesired, 5, "monitor alarm H in state ALARM triggered policy p", ""},
		"out, at most":       {World{Policies: []Policy{track("p", StateAlarm, StateOK, 900)}}, SetDesired, 10, "monitor alarm H in state ALARM triggered policy p", ""},
		"from nothing":       {World{Desired: -1, Policies: []Policy{track("p", StateAlarm, StateOK, 51)}}, SetDesired, 1, "monitor alarm H in state ALARM triggered policy p", ""},
		"in":                 {World{Policies: []Policy{track("p", StateOK, StateAlarm, 25)}}, SetDesired, 2, "monitor alarm L in state ALARM triggered policy p", ""},
		"in, the most":       {World{Policies: []Policy{track("p", StateOK, StateAlarm, 10), track("q", StateOK, StateAlarm, 30)}}, SetDesired, 3, "monitor alarm L in state ALARM triggered policy q", ""},
		"in, one objects":    {World{Policies: []Policy{track("p", StateOK, StateAlarm, 10), track("q", StateOK, StateOK, 48)}}, Nothing, 0, "", ""},
		"in, one is silent":  {World{Policies: []Policy{track("p", StateOK, StateAlarm, 10), none}}, Nothing, 0, "", ""},
		"in, one never does": {World{Policies: []Policy{track("p", StateOK, StateAlarm, 25), noIn}}, SetDesired, 2, "monitor alarm L in state ALARM triggered policy p", ""},
		"out though silent":  {World{Policies: []Policy{track("p", StateAlarm, StateOK, 100), none}}, SetDesired, 8, "monitor alarm H in state ALARM triggered policy p", ""},
		"in, deploying":      {World{Deploying: true, Policies: []Policy{track("p", StateOK, StateAlarm, 25)}}, NotScaled, 4, "monitor alarm L in state ALARM triggered policy p", Unscalable},
		"out, deploying":     {World{Deploying: true, Policies: []Policy{track("p", StateAlarm, StateOK, 100)}}, SetDesired, 8, "monitor alarm H in state ALARM triggered policy p", ""},
		"in, suspended":      {World{Target: Target{Max: 10, SuspendIn: true}, Policies: []Policy{track("p", StateOK, StateAlarm, 25)}}, Nothing, 0, "", ""},
		"out, suspended":     {World{Target: Target{Max: 10, SuspendOut: true}, Policies: []Policy{track("p", StateAlarm, StateOK, 99)}}, Nothing, 0, "", ""},
		"in, cooling":        {World{LastIn: done(6, 4, time.Minute), Policies: []Policy{track("p", StateOK, StateAlarm, 10)}}, Nothing, 0, "", ""},
		"in, cool":           {World{LastIn: done(6, 4, time.Hour), Policies: []Policy{track("p", StateOK, StateAlarm, 25)}}, SetDesired, 2, "monitor alarm L in state ALARM triggered policy p", ""},
		"out ends cooling":   {World{LastIn: done(6, 4, time.Hour), LastOut: done(2, 4, 50*time.Minute), Policies: []Policy{track("p", StateOK, StateAlarm, 25)}}, SetDesired, 2, "monitor alarm L in state ALARM triggered policy p", ""},
		"old points":         {World{LastOut: done(2, 4, time.Minute), Policies: []Policy{track("p", StateAlarm, StateOK, 100)}}, Nothing, 0, "", ""},
		"a larger demand":    {World{LastOut: done(2, 4, time.Minute), Policies: []Policy{track("p", StateAlarm, StateOK, 150)}}, SetDesired, 6, "monitor alarm H in state ALARM triggered policy p", ""},
		"already at most":    {World{Target: Target{Max: 4}, Policies: []Policy{track("p", StateAlarm, StateOK, 100)}}, NotScaled, 4, "monitor alarm H in state ALARM triggered policy p", AtMax},
		"already at least":   {World{Target: Target{Min: 4, Max: 9}, Policies: []Policy{track("p", StateOK, StateAlarm, 10)}}, NotScaled, 4, "monitor alarm L in state ALARM triggered policy p", AtMin},
		"bounds, up":         {World{Bounded: true, Target: Target{Min: 6, Max: 9}}, SetDesired, 6, "minimum capacity was set to 6", ""},
		"bounds, down":       {World{Bounded: true, Target: Target{Min: 1, Max: 3}}, SetDesired, 3, "maximum capacity was set to 3", ""},
		"left alone":         {World{Target: Target{Min: 6, Max: 9}}, Nothing, 0, "", ""},
		"brought inside":     {World{Target: Target{Min: 1, Max: 3}, Policies: []Policy{track("p", StateAlarm, StateOK, 100)}}, SetDesired, 3, "monitor alarm H in state ALARM triggered policy p", ""},
		"scheduled":          {World{Due: []Due{{"night", new(1), new(2)}}, Bounded: true}, SetBounds, 0, "scheduled action name night was triggered", ""},
		"not, suspended":     {World{Target: Target{Max: 10, SuspendScheduled: true}, Due: []Due{{"night", new(1), new(2)}}}, Nothing, 0, "", ""},
		"a step":             {World{Policies: []Policy{step(ChangeInCapacity, 2)}}, SetDesired, 6, "monitor alarm A in state ALARM triggered policy s", ""},
		"a step, cooling":    {World{LastOut: done(2, 4, 4*time.Minute), Policies: []Policy{step(ChangeInCapacity, 2)}}, Nothing, 0, "", ""},
		"the difference":     {World{LastOut: done(2, 4, 4*time.Minute), Policies: []Policy{step(ChangeInCapacity, 3)}}, SetDesired, 5, "monitor alarm A in state ALARM triggered policy s", ""},
		"a step again":       {World{LastOut: done(2, 4, 6*time.Minute), Policies: []Policy{step(ChangeInCapacity, 2)}}, SetDesired, 6, "monitor alarm A in state ALARM triggered policy s", ""},
		"a percentage":       {World{Policies: []Policy{step(PercentChangeInCapacity, 10)}}, SetDesired, 5, "monitor alarm A in state ALARM triggered policy s", ""},
		"a step down":        {World{Policies: []Policy{step(ChangeInCapacity, -1)}}, SetDesired, 3, "monitor alarm A in state ALARM triggered policy s", ""},
		"flapping":           {World{Policies: []Policy{step(ChangeInCapacity, -1), {Name: "p", Track: true, Value: 50, DisableIn: true, High: alarm("H", StateOK, 45)}}}, NotScaled, 4, "monitor alarm A in state ALARM triggered policy s", Flapping},
	} {
		w := c.w
		w.Now = now
		switch w.Desired {
		case 0:
			w.Desired, w.Running = 4, 4
		case -1:
			w.Desired = 0
		}
		if w.Target.Max == 0 {
			w.Target.Max = 10
		}
		d := Plan(w)
		if d.Kind != c.kind || c.kind != SetBounds && d.Desired != c.n || d.Cause != c.cause || d.Reason != c.reason {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestSteps(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	up := []Step{{f(0), f(10), 1}, {f(10), nil, 2}}
	down := []Step{{f(-10), f(0), -1}, {nil, f(-10), -2}}
	for _, c := range []struct {
		steps []Step
		at    float64
		want  int
	}{{up, 0, 1}, {up, 9.9, 1}, {up, 10, 2}, {up, 1e9, 2}, {up, -1, 0}, {down, 0, -1}, {down, -9.9, -1}, {down, -10, -2}, {down, 1, 0}} {
		if s, _ := Fitting(c.steps, c.at); s.Adjustment != c.want {
			t.Errorf("%v: %d, want %d", c.at, s.Adjustment, c.want)
		}
	}
	for _, c := range []struct {
		how                       string
		by, magnitude, base, want int
	}{{ChangeInCapacity, 2, 0, 3, 5}, {ChangeInCapacity, -5, 0, 3, 0}, {ExactCapacity, 7, 0, 3, 7}, {PercentChangeInCapacity, 25, 0, 10, 12}, {PercentChangeInCapacity, 5, 0, 10, 11},
		{PercentChangeInCapacity, -25, 0, 10, 8}, {PercentChangeInCapacity, -5, 0, 10, 9}, {PercentChangeInCapacity, 10, 3, 10, 13}, {PercentChangeInCapacity, 0, 3, 10, 10}} {
		if got := Adjust(c.how, c.by, c.magnitude, c.base); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// TestPromises: whatever the world is, no policy leaves the bounds, none scales in while that is suspended or a deployment goes on, and
// what was decided is enough: the plan after it is empty within the cooldown.
func TestPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := rapid.SampledFrom([]string{StateOK, StateAlarm, StateMissing})
		w := World{Now: now, Desired: rapid.IntRange(0, 30).Draw(t, "desired"), Running: rapid.IntRange(0, 30).Draw(t, "running"), Deploying: rapid.Bool().Draw(t, "deploying"),
			Bounded: rapid.Bool().Draw(t, "bounded")}
		w.Target.Min = rapid.IntRange(0, 20).Draw(t, "min")
		w.Target.Max = w.Target.Min + rapid.IntRange(0, 20).Draw(t, "more")
		w.Target.SuspendIn, w.Target.SuspendOut = rapid.Bool().Draw(t, "in"), rapid.Bool().Draw(t, "out")
		for range rapid.IntRange(0, 3).Draw(t, "policies") {
			v := rapid.Float64Range(0, 500).Draw(t, "value")
			if rapid.Bool().Draw(t, "track") {
				w.Policies = append(w.Policies, track("p", state.Draw(t, "high"), state.Draw(t, "low"), v))
				continue
			}
			w.Policies = append(w.Policies, step(rapid.SampledFrom([]string{ChangeInCapacity, PercentChangeInCapacity, ExactCapacity}).Draw(t, "how"), rapid.IntRange(-30, 60).Draw(t, "by")))
		}
		d := Plan(w)
		if d.Kind != SetDesired {
			return
		}
		if d.Desired < w.Target.Min || d.Desired > w.Target.Max || d.Desired == w.Desired {
			t.Fatalf("%+v of %+v", d, w)
		}
		if d.Desired < w.Desired && (w.Deploying || w.Target.SuspendIn && !w.Bounded) {
			t.Fatalf("in: %+v of %+v", d, w)
		}
		after := w
		past := Past{From: w.Capacity(), To: d.Desired, Began: now, Cooldown: d.Cooldown}
		if d.Desired > w.Desired {
			after.LastOut = past
		} else {
			after.LastIn = past
		}
		after.Desired, after.Bounded = d.Desired, false
		if again := Plan(after); again.Kind == SetDesired && w.Desired >= w.Target.Min && w.Desired <= w.Target.Max {
			t.Fatalf("%+v and then %+v of %+v", d, again, w)
		}
	})
}

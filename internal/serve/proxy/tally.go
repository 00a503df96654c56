package proxy

import (
	"math"
	"net/http"
	"sync/atomic"
	"time"
)

// tally counts what a target group's targets answered.
type tally struct {
	classes  [5]atomic.Int64 // by the first digit of the status
	waits    [waitSteps]atomic.Int64
	waited   atomic.Int64 // ns, all together
	failures atomic.Int64 // connections that could not be made, broke, or were late
}

// Waits are counted in steps of a fifth: within 9 % of what was measured, from 0.1 ms to two minutes.
const (
	waitSteps = 78
	waitFirst = 100 * time.Microsecond
	waitStep  = 1.2
)

var logWait = math.Log(waitStep)

// WaitAt is how long the waits that Answers counts at i are taken to be.
func WaitAt(i int) time.Duration {
	return time.Duration(float64(waitFirst) * math.Pow(waitStep, float64(i)-0.5))
}

// answer notes a target's answer.
func (t *tally) answer(status int, wait time.Duration) {
	if c := status / 100; c >= 1 && c <= 5 {
		t.classes[c-1].Add(1)
	}
	i := 0
	if wait > waitFirst {
		i = min(waitSteps-1, 1+int(math.Log(float64(wait)/float64(waitFirst))/logWait))
	}
	t.waits[i].Add(1)
	t.waited.Add(int64(wait))
}

// Answers are what the targets of a group answered since the proxy started, or since the group came.
type Answers struct {
	Classes [5]int64      // by the first digit of the status, from 1 to 5
	Failed  int64         `json:",omitempty"`
	Waits   map[int]int64 `json:",omitempty"` // how often an answer took WaitAt of the key to begin
	Waited  time.Duration `json:",omitempty"` // all together
	// Healthy and Unhealthy are how many targets are so now; those that drain or are not used are neither.
	Healthy, Unhealthy int
}

func (t *tally) read() (a Answers) {
	for i := range t.classes {
		a.Classes[i] = t.classes[i].Load()
	}
	for i := range t.waits {
		if n := t.waits[i].Load(); n > 0 {
			if a.Waits == nil {
				a.Waits = map[int]int64{}
			}
			a.Waits[i] = n
		}
	}
	a.Failed, a.Waited = t.failures.Load(), time.Duration(t.waited.Load())
	return a
}

// own counts an answer of the load balancer's own.
func (s *Stats) own(status int) {
	if s == nil {
		return
	}
	switch {
	case status == http.StatusBadGateway:
		s.answers[2].Add(1)
	case status == http.StatusServiceUnavailable:
		s.answers[3].Add(1)
	case status == http.StatusGatewayTimeout:
		s.answers[4].Add(1)
	case status >= 400 && status < 500:
		s.answers[0].Add(1)
	case status >= 500:
		s.answers[1].Add(1)
	}
}

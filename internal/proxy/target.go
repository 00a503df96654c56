package proxy

import (
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// group is a target group as it lives: it outlasts the tables that describe it.
type group struct {
	arn   string
	least atomic.Bool
	turn  atomic.Uint64
	ready atomic.Pointer[[]*target] // those that take requests
}

// pick chooses a target that has not been tried; nil when there is none.
func (g *group) pick(tried []*target) *target {
	ready := *g.ready.Load()
	if len(ready) == 0 {
		return nil
	}
	start := int(g.turn.Add(1) % uint64(len(ready)))
	var best *target
	for i := range ready {
		t := ready[(start+i)%len(ready)]
		if contains(tried, t) {
			continue
		}
		if !g.least.Load() {
			return t
		}
		if best == nil || t.inFlight.Load() < best.inFlight.Load() {
			best = t
		}
	}
	return best
}

func contains(list []*target, t *target) bool {
	for _, o := range list {
		if o == t {
			return true
		}
	}
	return false
}

// choose picks a group by weight.
func choose(all []Weighted) string {
	total := 0
	for _, w := range all {
		total += w.Weight
	}
	if len(all) == 1 || total <= 0 {
		return all[0].Group
	}
	n := rand.IntN(total)
	for _, w := range all {
		if n -= w.Weight; n < 0 {
			return w.Group
		}
	}
	return all[len(all)-1].Group
}

// target is a target as it lives.
type target struct {
	proxy    *Proxy
	group    string
	id       string
	port     int32
	address  string // host:port
	inFlight atomic.Int64

	mu       sync.Mutex
	conf     Target
	check    HealthCheck
	delay    time.Duration
	used     bool // a rule leads to the group
	state    elbtypes.TargetHealthStateEnum
	reason   elbtypes.TargetHealthReasonEnum
	text     string
	streak   int // checks in a row that disagree with the state
	seen     bool
	drained  bool
	open     map[io.Closer]struct{} // upgraded connections
	deadline *time.Timer
	wake     chan struct{}
	stop     chan struct{}
}

func (t *target) key() string { return model.TargetKey(t.group, t.id, t.port) }

// takes tells whether the target may get requests; healthy whether it should.
func (t *target) takes() (may, healthy bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	may = t.conf.DrainingSince.IsZero() && t.used
	return may, may && t.state == elbtypes.TargetHealthStateEnumHealthy
}

// become changes the state and reports it. It needs the lock.
func (t *target) become(state elbtypes.TargetHealthStateEnum, reason elbtypes.TargetHealthReasonEnum, text string) {
	if t.state == state && t.reason == reason && t.text == text {
		return
	}
	t.state, t.reason, t.text, t.streak = state, reason, text, 0
	t.report()
}

// report tells the owner of the proxy. It needs the lock.
func (t *target) report() {
	t.proxy.OnHealth(model.TargetHealth{TargetGroupARN: t.group, ID: t.id, Port: t.port, State: t.state, Reason: t.reason,
		Description: t.text, Drained: t.drained, Since: t.proxy.Now()})
}

// update takes what a new table says of the target.
func (t *target) update(conf Target, g Group, used bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conf, t.delay = conf, g.DeregistrationDelay
	if t.check != g.Check || t.used != used {
		t.check, t.used = g.Check, used
		t.nudge()
	}
	switch {
	case !conf.DrainingSince.IsZero():
		t.drain()
	case !used:
		t.become(elbtypes.TargetHealthStateEnumUnused, elbtypes.TargetHealthReasonEnumNotInUse,
			"Target group is not configured to receive traffic from the load balancer")
	case t.check.Disabled:
		t.become(elbtypes.TargetHealthStateEnumHealthy, "", "")
	case t.state == "" || t.state == elbtypes.TargetHealthStateEnumUnused || t.state == elbtypes.TargetHealthStateEnumDraining:
		t.drained, t.seen = false, false
		if t.deadline != nil { // it was being deregistered, and is registered again
			t.deadline.Stop()
			t.deadline = nil
		}
		t.become(elbtypes.TargetHealthStateEnumInitial, elbtypes.TargetHealthReasonEnumRegistrationInProgress,
			"Target registration is in progress")
		t.nudge()
	}
}

func (t *target) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// drain begins the end: no new requests; when none is in flight, or after the delay, the target is drained. It needs the lock.
func (t *target) drain() {
	if t.state != elbtypes.TargetHealthStateEnumDraining {
		t.drained = t.inFlight.Load() == 0
		t.become(elbtypes.TargetHealthStateEnumDraining, elbtypes.TargetHealthReasonEnumDeregistrationInProgress,
			"Target deregistration is in progress")
	}
	if t.drained || t.deadline != nil {
		return
	}
	t.deadline = time.AfterFunc(max(0, t.conf.DrainingSince.Add(t.delay).Sub(t.proxy.Now())), t.expire)
}

// expire ends what is still open when the deregistration delay has passed.
func (t *target) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		c.Close()
	}
	clear(t.open)
	t.finishDrain()
}

// finishDrain needs the lock.
func (t *target) finishDrain() {
	if t.state == elbtypes.TargetHealthStateEnumDraining && !t.drained {
		t.drained = true
		t.report()
	}
}

// begin counts a request; false when the target began to drain meanwhile.
func (t *target) begin() bool {
	t.inFlight.Add(1)
	if may, _ := t.takes(); !may {
		t.end()
		return false
	}
	return true
}

func (t *target) end() {
	if t.inFlight.Add(-1) > 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inFlight.Load() == 0 {
		t.finishDrain()
	}
}

func (t *target) track(c io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[c] = struct{}{}
}

func (t *target) untrack(c io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
}

func (t *target) checkAddress() string {
	if t.check.Port != 0 {
		return "http://" + t.conf.Address + ":" + strconv.Itoa(t.check.Port) + t.check.Path
	}
	return "http://" + t.address + t.check.Path
}

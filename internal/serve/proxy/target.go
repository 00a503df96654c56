package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// target is a target as it lives.
type target struct {
	proxy    *Proxy
	group    string
	id       string
	port     int32
	address  string // host:port
	mark     string // what the stickiness cookie calls it
	inFlight atomic.Int64
	requests atomic.Int64
	kept     kept
	failures atomic.Int64
	taking   atomic.Bool // may get new requests: a rule leads to its group, and it is not draining

	mu       sync.Mutex
	conf     Target
	check    HealthCheck
	delay    time.Duration
	used     bool // a rule leads to the group
	state    elbtypes.TargetHealthStateEnum
	reason   elbtypes.TargetHealthReasonEnum
	text     string
	since    time.Time // of what was reported last
	streak   int       // checks in a row that disagree with the state: good ones count up, bad ones down
	failing  time.Time // when the first of the bad ones in a row was
	seen     bool      // it has been healthy since it was registered
	drained  bool
	gone     bool                   // the table lacks it: nothing more is reported
	open     map[io.Closer]struct{} // upgraded connections
	deadline *time.Timer
	wake     chan struct{}

	ctx  context.Context // ends when the target is gone
	stop context.CancelFunc
}

func newTarget(p *Proxy, group string, conf Target) *target {
	t := &target{proxy: p, group: group, id: conf.ID, port: conf.Port, address: address(conf), open: map[io.Closer]struct{}{}, kept: kept{inAll: &p.forward.kept},
		wake: make(chan struct{}, 1)}
	sum := sha256.Sum256([]byte(t.key()))
	t.mark = base64.RawURLEncoding.EncodeToString(sum[:18])
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

func (t *target) key() string { return model.TargetKey(t.group, t.id, t.port) }

func address(t Target) string { return net.JoinHostPort(t.Address, strconv.Itoa(int(t.Port))) }

func (t *target) healthy() bool { return t.verdict() == elbtypes.TargetHealthStateEnumHealthy }

func (t *target) verdict() elbtypes.TargetHealthStateEnum {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// become changes the state and reports it. It needs the lock.
func (t *target) become(state elbtypes.TargetHealthStateEnum, reason elbtypes.TargetHealthReasonEnum, text string) {
	if t.state == state && t.reason == reason && t.text == text {
		return
	}
	if t.state != state {
		t.streak = 0
	}
	t.state, t.reason, t.text = state, reason, text
	t.report()
}

// report tells the owner of the proxy. It needs the lock.
func (t *target) report() {
	t.since = t.proxy.Now()
	if !t.gone {
		t.proxy.OnHealth(t.health())
	}
}

// health is what is seen of the target. It needs the lock.
func (t *target) health() model.TargetHealth {
	return model.TargetHealth{TargetGroupARN: t.group, ID: t.id, Port: t.port, State: t.state, Reason: t.reason, Description: t.text,
		Drained: t.drained, Since: t.since}
}

// recall makes what another proxy saw of the target the beginning of this one's: a restart is no reason to doubt it.
func (t *target) recall(h model.TargetHealth) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.reason, t.text, t.drained, t.since = h.State, h.Reason, h.Description, h.Drained, h.Since
	t.seen = h.State == elbtypes.TargetHealthStateEnumHealthy
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
	t.taking.Store(used && conf.DrainingSince.IsZero())
	switch {
	case !conf.DrainingSince.IsZero():
		t.drain()
	case !used:
		t.renew()
		t.become(elbtypes.TargetHealthStateEnumUnused, elbtypes.TargetHealthReasonEnumNotInUse,
			"Target group is not configured to receive traffic from the load balancer")
	case t.check.Disabled:
		t.renew()
		t.become(elbtypes.TargetHealthStateEnumHealthy, "", "")
	case t.state == "" || t.state == elbtypes.TargetHealthStateEnumUnused || t.state == elbtypes.TargetHealthStateEnumDraining:
		t.renew()
		t.seen, t.streak = false, 0
		t.become(elbtypes.TargetHealthStateEnumInitial, elbtypes.TargetHealthReasonEnumRegistrationInProgress,
			"Target registration is in progress")
		t.nudge()
	}
}

// renew undoes a deregistration that was under way. It needs the lock.
func (t *target) renew() {
	t.drained = false
	if t.deadline != nil {
		t.deadline.Stop()
		t.deadline = nil
	}
}

func (t *target) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// drain begins the end: no new requests; when none is in flight (fast pace), or after the delay, the target is drained. It needs
// the lock, and taking to be false already: a request that begins from now on is turned away.
func (t *target) drain() {
	if t.state != elbtypes.TargetHealthStateEnumDraining {
		t.drained = t.idle()
		t.become(elbtypes.TargetHealthStateEnumDraining, elbtypes.TargetHealthReasonEnumDeregistrationInProgress,
			"Target deregistration is in progress")
	}
	if !t.drained && t.idle() { // another proxy began to drain it
		t.finishDrain()
	}
	if t.drained || t.deadline != nil {
		return
	}
	t.deadline = time.AfterFunc(max(0, t.conf.DrainingSince.Add(t.delay).Sub(t.proxy.Now())), t.expire)
}

// idle tells whether nothing is in flight, here or elsewhere, that a drained target is to wait for.
func (t *target) idle() bool {
	return t.proxy.Pace != model.PaceAWS && t.inFlight.Load() == 0 && !t.proxy.Elsewhere(t.key())
}

// settle ends the draining when nothing is in flight any more.
func (t *target) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.taking.Load() && t.idle() {
		t.finishDrain()
	}
}

// expire ends what is still open when the deregistration delay has passed.
func (t *target) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != elbtypes.TargetHealthStateEnumDraining {
		return // it was registered again while the timer fired
	}
	t.closeOpen()
	t.finishDrain()
}

// closeOpen ends upgraded connections. It needs the lock.
func (t *target) closeOpen() {
	for c := range t.open {
		c.Close()
	}
	clear(t.open)
}

// finishDrain needs the lock.
func (t *target) finishDrain() {
	if t.state == elbtypes.TargetHealthStateEnumDraining && !t.drained {
		t.drained = true
		if t.deadline != nil {
			t.deadline.Stop()
		}
		t.report()
	}
}

// retire ends a target that the table lacks: its checks, its upgraded connections, its reports. Requests in flight go on.
func (t *target) retire() {
	t.taking.Store(false)
	t.stop()
	t.kept.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = true
	if t.deadline != nil {
		t.deadline.Stop()
	}
	t.closeOpen()
}

// begin counts a request; false when the target began to drain meanwhile.
func (t *target) begin() bool {
	t.inFlight.Add(1)
	if !t.taking.Load() {
		t.end()
		return false
	}
	return true
}

func (t *target) end() {
	if t.inFlight.Add(-1) > 0 || t.taking.Load() || t.proxy.Pace == model.PaceAWS {
		return
	}
	t.settle()
}

// track remembers an upgraded connection; one that comes when the target is gone is closed at once.
func (t *target) track(c io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		c.Close()
		return
	}
	t.open[c] = struct{}{}
}

func (t *target) untrack(c io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
}

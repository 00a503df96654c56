package proxy

import (
	"maps"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// Snapshot is what the proxy has counted since it started, or since a load balancer or target came.
type Snapshot struct {
	Balancers map[string]Counts  // by ARN
	Targets   map[string]Counts  // by the target's key
	Groups    map[string]Answers `json:",omitempty"` // by ARN
}

// Counts are the requests of a load balancer or target. Failed are a load balancer's own 502, 503 and 504 answers, or a target's
// broken or late connections; a request that then succeeded at another target is among the latter only.
type Counts struct {
	Requests, Failed int64
	InFlight         int64 // targets only
	// Own are the answers of a load balancer itself: 4xx, 5xx but for the next, 502, 503, 504.
	Own [5]int64 `json:",omitzero"`
}

// Snapshot reads all counters. They are read one after another while requests go on.
func (p *Proxy) Snapshot() Snapshot {
	s := Snapshot{Balancers: map[string]Counts{}, Targets: map[string]Counts{}, Groups: map[string]Answers{}}
	for arn, c := range p.table.Load().stats {
		counts := Counts{Requests: c.Requests.Load(), Failed: c.Failed.Load()}
		for i := range c.answers {
			counts.Own[i] = c.answers[i].Load()
		}
		s.Balancers[arn] = counts
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, t := range p.targets {
		s.Targets[key] = Counts{Requests: t.requests.Load(), Failed: t.failures.Load(), InFlight: t.inFlight.Load()}
	}
	for arn, g := range p.groups {
		a := g.read()
		for _, t := range g.members {
			switch h := t.verdict(); {
			case h == elbtypes.TargetHealthStateEnumHealthy:
				a.Healthy++
			case h == elbtypes.TargetHealthStateEnumUnhealthy:
				a.Unhealthy++
			}
		}
		s.Groups[arn] = a
	}
	return s
}

// Stats returns the counters of a load balancer, nil for one that is not served.
func (p *Proxy) Stats(arn string) *Stats { return p.table.Load().stats[arn] }

// Healthy tells how many of a group's targets are healthy.
func (p *Proxy) Healthy(group string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		if t.group == group && t.healthy() {
			n++
		}
	}
	return n
}

// Health is what is seen of every target.
func (p *Proxy) Health() []model.TargetHealth {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]model.TargetHealth, 0, len(p.targets))
	for _, t := range p.targets {
		t.mu.Lock()
		out = append(out, t.health())
		t.mu.Unlock()
	}
	return out
}

// Problems are why listeners' ports are not served, "" for those that are, by the listeners' ARNs.
func (p *Proxy) Problems() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.told)
}

// Busy lists the keys of the targets that drain and have requests in flight, here or elsewhere.
func (p *Proxy) Busy() (keys []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, t := range p.targets {
		if !t.taking.Load() && (t.inFlight.Load() > 0 || p.Elsewhere(key)) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Table is what is served. It must not be changed.
func (p *Proxy) Table() Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := Table{Groups: maps.Clone(p.confs)}
	for _, b := range p.balancers {
		t.Balancers = append(t.Balancers, b.conf)
	}
	return t
}

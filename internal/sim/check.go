package sim

import (
	"fmt"
	"slices"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// seen is what must never change, or only rise, of a task.
type seen struct {
	node    string
	rung    int
	version int64
}

// check tells which promise the state breaks, if any.
func (c *Cluster) check() error {
	r := c.view()
	for _, f := range []func(store.Reader) error{c.checkTasks, c.checkNodes, c.checkTargets, c.checkNothingMissed} {
		if err := f(r); err != nil {
			return fmt.Errorf("at %s: %w", c.at(), err)
		}
	}
	return nil
}

// checkTasks: a task's status only rises, its version too, and once placed it never moves.
func (c *Cluster) checkTasks(r store.Reader) error {
	for t := range store.Tasks.Scan(r, "") {
		was := c.seen[t.ID]
		is := seen{t.NodeID, t.Observed.Status.Rung(), t.Version}
		switch {
		case was.node != "" && is.node != was.node:
			return fmt.Errorf("task %s moved from node %s to %s", t.ID, was.node, is.node)
		case is.rung < was.rung:
			return fmt.Errorf("task %s fell to %s", t.ID, t.Observed.Status)
		case is.version < was.version:
			return fmt.Errorf("task %s: version fell from %d to %d", t.ID, was.version, is.version)
		case t.Ended() && (t.Desired != model.Stopped || t.Observed.StoppedAt.IsZero() || t.StopCode() == ""):
			return fmt.Errorf("task %s ended without saying so: desired %s, stopped at %s, code %q", t.ID, t.Desired,
				t.Observed.StoppedAt, t.StopCode())
		}
		c.seen[t.ID] = is
	}
	return nil
}

// checkNodes: no node holds more than it has, no port twice, and a connected node knows exactly its tasks.
func (c *Cluster) checkNodes(r store.Reader) error {
	for n := range store.Nodes.Scan(r, "") {
		cpu, memory := n.CPU, n.Memory
		ports := map[model.HostPort]string{}
		var ids []string
		for t := range store.Tasks.By(r, store.ByNode, n.ID) {
			if t.Ended() {
				continue
			}
			ids = append(ids, t.ID)
			cpu, memory = cpu-t.Needs.CPU, memory-t.Needs.Memory
			for _, p := range t.Needs.Ports {
				if ports[p] != "" {
					return fmt.Errorf("node %s: port %v belongs to tasks %s and %s", n.Hostname, p, ports[p], t.ID)
				}
				ports[p] = t.ID
			}
		}
		if cpu < 0 || memory < 0 {
			return fmt.Errorf("node %s holds more than it has: %d CPU units and %d MiB over", n.Hostname, -cpu, -memory)
		}
		if own, ok := c.node(n.Hostname); ok && n.Connected {
			if has := own.has(); !slices.Equal(has, ids) {
				return fmt.Errorf("node %s has tasks %v, the server says %v", n.Hostname, has, ids)
			}
		}
	}
	return nil
}

func (n *node) has() (ids []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.set {
		ids = append(ids, a.Task.ID)
	}
	return ids
}

// checkNothingMissed: what changes led control to is what a look at everything leads to.
func (c *Cluster) checkNothingMissed(store.Reader) error { return c.control.AtRest(c.ctx) }

// checkTargets: behind every target is a task that has not ended, and an agent may stop a task only once it has no target left.
func (c *Cluster) checkTargets(r store.Reader) error {
	for target := range store.Targets.Scan(r, "") {
		t, ok := store.Tasks.Get(r, target.Task)
		if !ok || t.Ended() {
			return fmt.Errorf("target %s has no task behind it", target.Key())
		}
		if t.Released {
			return fmt.Errorf("task %s was released while target %s is registered", t.ID, target.Key())
		}
	}
	return nil
}

// AtRest tells what keeps the cluster from being as it was asked to be: every active service steady with all its tasks running,
// nothing left of deleted ones, and the control loop with nothing to do.
func (c *Cluster) AtRest() error {
	r := c.view()
	for s := range store.Services.Scan(r, "") {
		running, others := int32(0), 0
		for t := range store.Tasks.By(r, store.ByService, s.Key()) {
			switch {
			case t.Observed.Status == model.Running && t.Desired == model.Running:
				running++
			case !t.Ended():
				others++
			}
		}
		want := s.DesiredCount
		if s.Status != "ACTIVE" {
			want = 0
		}
		if running != want || others > 0 || s.Status == "ACTIVE" && !s.Steady || s.Status == "DRAINING" {
			return fmt.Errorf("service %s is %s, steady: %t, with %d tasks running of %d and %d others", s.Name, s.Status, s.Steady, running,
				want, others)
		}
	}
	_, err := c.expectNoWrite(args{})
	return err
}

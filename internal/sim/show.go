package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// tasks lists tasks, oldest first: all, or those of a service. Ended ones are shown with "all".
func (c *Cluster) tasks(a args) (string, error) {
	var all []*model.Task
	r := c.view()
	for t := range store.Tasks.Scan(r, "") {
		if (!t.Ended() || slices.Contains(a.words, "all")) && (t.Service == a.word(0) || a.word(0) == "" || a.word(0) == "all") {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *model.Task) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	var b strings.Builder
	for _, t := range all {
		node := "-"
		if n, ok := store.Nodes.Get(r, t.NodeID); ok {
			node = n.Hostname
		}
		fmt.Fprintf(&b, "%s %s:%d on %s %s", t.ID, t.Family, t.Revision, node, t.LastStatus())
		if t.StopCode() != "" {
			fmt.Fprintf(&b, " %s: %s", t.StopCode(), t.StoppedReason())
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

func (c *Cluster) listNodes(args) (string, error) {
	var b strings.Builder
	r := c.view()
	for n := range store.Nodes.Scan(r, "") {
		fmt.Fprintf(&b, "%s connected=%t", n.Hostname, n.Connected)
		for cluster := range store.Clusters.Scan(r, "") {
			if i, ok := store.InstanceOn(r, cluster.Name, n.ID); ok {
				fmt.Fprintf(&b, " %s:%s", i.Cluster, i.Status)
			}
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// deployments lists a service's deployments, newest first.
func (c *Cluster) deployments(a args) (string, error) {
	var all []*model.Deployment
	for d := range store.Deployments.Scan(c.view(), model.DefaultCluster+"/"+a.word(0)+"/") {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *model.Deployment) int { return b.CreatedAt.Compare(a.CreatedAt) })
	var b strings.Builder
	for _, d := range all {
		fmt.Fprintf(&b, "%s %s %s %s failed=%d\n", d.ID, d.Status, d.RolloutState, d.State, d.FailedTasks)
	}
	return b.String(), nil
}

// targets lists targets by the task behind them.
func (c *Cluster) targets(args) (string, error) {
	var b strings.Builder
	r := c.view()
	for t := range store.Targets.Scan(r, "") {
		state := "initial"
		if h, ok := store.TargetHealths.Get(r, t.Key()); ok {
			state = string(h.State)
		}
		fmt.Fprintf(&b, "%s %s\n", t.Task, state)
	}
	return b.String(), nil
}

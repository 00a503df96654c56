package sim

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// names gives ids short names in the order in which they are first printed.
type names map[string]string

var idPattern = regexp.MustCompile(`ecs-svc/[0-9]{19}|\b[0-9a-f]{32}\b|\bi-[0-9a-f]{17}\b`)

// short replaces every id in text: tasks by t1, t2, …, deployments by ecs-svc/1, …, instances by their node's name.
func (c *Cluster) short(text string) string {
	return idPattern.ReplaceAllStringFunc(text, func(id string) string {
		if name, ok := c.names[id]; ok {
			return name
		}
		name := c.name(id)
		c.names[id] = name
		return name
	})
}

func (c *Cluster) name(id string) string {
	if strings.HasPrefix(id, "ecs-svc/") {
		return fmt.Sprintf("ecs-svc/%d", c.count("ecs-svc/")+1)
	}
	r := c.view()
	for n := range store.Nodes.Scan(r, "") {
		if i, ok := store.InstanceOn(r, model.DefaultCluster, n.ID); ok && i.ID == id || model.EC2ID(n.ID) == id {
			return n.Hostname
		}
	}
	return fmt.Sprintf("t%d", c.count("t")+1)
}

// count is how many names of one kind there are.
func (c *Cluster) count(prefix string) int {
	n := 0
	for _, name := range c.names {
		rest, ok := strings.CutPrefix(name, prefix)
		if ok && strings.Trim(rest, "0123456789") == "" {
			n++
		}
	}
	return n
}

// at is the time since the cluster began.
func (c *Cluster) at() string { return "+" + time.Since(c.begin).Round(time.Millisecond).String() }

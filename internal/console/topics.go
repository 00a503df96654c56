package console

import (
	"slices"
	"time"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// actions are what one must be allowed to do to watch a topic: the same as to ask the API for it.
var actions = map[string]string{
	"clusters": "ecs:DescribeClusters", "services": "ecs:DescribeServices", "service": "ecs:DescribeServices", "tasks": "ecs:DescribeTasks", "task": "ecs:DescribeTasks",
	"nodes": "ecs:DescribeContainerInstances", "balancers": "elasticloadbalancing:DescribeLoadBalancers", "images": "ecr:DescribeImages",
	"events": "ecs:DescribeServices", "taskdefs": "ecs:ListTaskDefinitions", "trouble": "ecs:DescribeTasks", "logs": "logs:FilterLogEvents",
	"metrics": "cloudwatch:GetMetricData",
}

// allowed asks whether the caller may watch it.
func (s *Console) allowed(c wire.Caller, w want) error {
	action := actions[w.Topic]
	if action == "" || s.c.Access == nil {
		return nil
	}
	a := wire.Ask{Action: action}
	switch {
	case w.Topic == "logs":
		for _, g := range w.Groups {
			a.Resources = append(a.Resources, s.c.Scope.ARN("logs", "log-group:"+g+":*"))
		}
	case w.Cluster != "":
		cluster := s.c.Scope.ClusterARN(w.Cluster)
		a.Context = map[string][]string{"ecs:cluster": {cluster}}
		switch {
		case w.Topic == "clusters":
			a.Resources = []string{cluster}
		case w.ID != "":
			a.Resources = []string{s.c.Scope.TaskARN(w.Cluster, w.ID)}
		case action == "ecs:DescribeServices":
			a.Resources = []string{s.c.Scope.ServiceARN(w.Cluster, or(w.Service, "*"))}
		case action == "ecs:DescribeTasks":
			a.Resources = []string{s.c.Scope.TaskARN(w.Cluster, "*")}
		}
	}
	return s.c.Access.Allow(c, a)
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// source is where a topic's rows come from.
func (s *Console) source(w want, mine *model.ConsoleSession) (source, error) {
	switch w.Topic {
	case "clusters":
		return source{[]string{store.Clusters.Name(), store.Services.Name(), store.Tasks.Name(), store.Nodes.Name()}, s.clusters}, nil
	case "services":
		return source{serviceTables, func(r store.Reader, now time.Time, yield func(item)) { s.services(r, now, w.Cluster, yield) }}, nil
	case "service":
		return source{serviceTables, func(r store.Reader, now time.Time, yield func(item)) {
			s.service(r, now, w.Cluster+"/"+w.Service, yield)
		}}, nil
	case "tasks":
		return source{[]string{store.Tasks.Name(), store.Nodes.Name()}, func(r store.Reader, now time.Time, yield func(item)) { s.tasks(r, now, w, yield) }}, nil
	case "task":
		return source{[]string{store.Tasks.Name(), store.Nodes.Name(), store.TargetHealths.Name(), store.Targets.Name()},
			func(r store.Reader, now time.Time, yield func(item)) { s.task(r, now, w.ID, yield) }}, nil
	case "nodes":
		return source{[]string{store.Nodes.Name(), store.Instances.Name(), store.Tasks.Name(), store.Clusters.Name()}, s.nodes}, nil
	case "balancers":
		return source{balancerTables, s.balancers}, nil
	case "images":
		return source{[]string{store.Repositories.Name(), store.Images.Name(), store.ImageTags.Name(), store.Services.Name()}, s.images}, nil
	case "events":
		return source{[]string{store.ServiceEvents.Name(), store.Services.Name()}, func(r store.Reader, _ time.Time, yield func(item)) { s.events(r, w, yield) }}, nil
	case "taskdefs":
		return source{[]string{store.Families.Name(), store.TaskDefinitions.Name(), store.Services.Name(), store.ServiceRevisions.Name()}, s.families}, nil
	case "trouble":
		return source{[]string{store.Nodes.Name(), store.Listeners.Name(), store.Tasks.Name()}, s.trouble}, nil
	case "sessions":
		return source{[]string{store.ConsoleSessions.Name()}, func(r store.Reader, _ time.Time, yield func(item)) { s.sessions(r, mine, yield) }}, nil
	}
	return source{}, model.Errorf("NoSuchTopic", "The console has no topic %.40q.", w.Topic)
}

func (s *Console) sessions(r store.Reader, mine *model.ConsoleSession, yield func(item)) {
	for row := range store.ConsoleSessions.Scan(r, "") {
		if over(row, s.c.Now()) || row.ARN != mine.ARN && !owner(mine) {
			continue
		}
		yield(item{key: row.ID[:shownID], deps: []any{row}, draw: func() any {
			return SessionRow{K: row.ID[:shownID], ARN: row.ARN, Agent: row.Agent, Address: row.Address, Created: ms(row.CreatedAt), Used: ms(row.UsedAt), Mine: row.ID == mine.ID}
		}})
	}
}

// ms is a time as rows have it.
func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (s *Console) clusters(r store.Reader, _ time.Time, yield func(item)) {
	type count struct{ services, running, pending int }
	counts := map[string]*count{}
	of := func(name string) *count {
		if counts[name] == nil {
			counts[name] = &count{}
		}
		return counts[name]
	}
	for svc := range store.Services.Scan(r, "") {
		if svc.Status == "ACTIVE" {
			of(svc.Cluster).services++
		}
	}
	for _, state := range []string{store.TaskLive, store.TaskPending} {
		for t := range store.Tasks.By(r, store.ByState, state) {
			if t.LastStatus() == model.Running {
				of(t.Cluster).running++
			} else if t.LastStatus().Before(model.Running) {
				of(t.Cluster).pending++
			}
		}
	}
	nodes := slices.Collect(store.Nodes.Scan(r, ""))
	for c := range store.Clusters.Scan(r, "") {
		if c.Status != "ACTIVE" {
			continue
		}
		n, members := of(c.Name), 0
		for _, node := range nodes {
			if node.Member(c.Name) {
				members++
			}
		}
		yield(item{key: c.Name, deps: []any{c, *n, members}, draw: func() any {
			return ClusterRow{K: c.Name, ARN: c.ARN, Status: c.Status, Services: n.services, Running: n.running, Pending: n.pending, Nodes: members}
		}})
	}
}

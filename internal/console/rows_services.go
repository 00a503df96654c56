package console

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/why"
	"github.com/berthdev/berth/internal/store"
)

var serviceTables = []string{store.Services.Name(), store.Deployments.Name(), store.Tasks.Name(), store.ServiceEvents.Name(), store.Targets.Name(),
	store.TargetHealths.Name(), store.Listeners.Name(), store.Rules.Name(), store.Nodes.Name()}

// endedShown is how many ended tasks of a service its sentences are made of.
const endedShown = 10

// scene is a service with all that its rows are drawn from.
type scene struct {
	svc         *model.Service
	rev         *model.ServiceRevision
	def         *model.TaskDefinition
	deployments []*model.Deployment // newest first
	live, ended []*model.Task       // ended: the newest first
	targets     []why.Target
	owners      []string // of targets: the task
	problems    []string
	urls        []string
	groups      []string
	events      []*model.ServiceEvent
	nodes       map[string]*model.Node
	deps        []any
	defs        map[string]*model.TaskDefinition
}

func (c *scene) definition(t *model.Task) *types.TaskDefinition {
	if def := c.defs[model.TaskDefinitionKey(t.Family, t.Revision)]; def != nil {
		return &def.Definition
	}
	return nil
}

func byARN(r store.Reader, arn string) *model.TaskDefinition {
	family, revision, _ := strings.Cut(model.ARNTail(arn), ":")
	n, err := strconv.Atoi(revision)
	if err != nil {
		return nil
	}
	def, _ := store.TaskDefinitions.Get(r, model.TaskDefinitionKey(family, n))
	return def
}

// gather reads a service.
func gather(r store.Reader, svc *model.Service, nodes map[string]*model.Node, events int) *scene {
	c := &scene{svc: svc, nodes: nodes, deps: []any{svc}}
	if c.rev, _ = store.ServiceRevisions.Get(r, svc.Key()+"/"+svc.RevisionID); c.rev != nil {
		c.def = byARN(r, c.rev.TaskDefinition)
	}
	for d := range store.Deployments.Scan(r, svc.Key()+"/") {
		c.deployments = append(c.deployments, d)
		c.deps = append(c.deps, d)
	}
	slices.SortFunc(c.deployments, func(a, b *model.Deployment) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	for t := range store.Tasks.By(r, store.ByService, svc.Key()) {
		if t.Ended() {
			c.ended = append(c.ended, t)
		} else {
			c.live = append(c.live, t)
		}
	}
	slices.SortFunc(c.ended, func(a, b *model.Task) int { return b.Observed.StoppedAt.Compare(a.Observed.StoppedAt) })
	c.ended = c.ended[:min(len(c.ended), endedShown)]
	for _, t := range slices.Concat(c.live, c.ended) {
		c.deps = append(c.deps, t, nodes[t.NodeID].Lost())
	}
	for e := range store.ServiceEvents.Scan(r, svc.Key()+"/") {
		if len(c.events) == events {
			break
		}
		c.events = append(c.events, e)
		c.deps = append(c.deps, e)
	}
	c.traffic(r)
	return c
}

// traffic reads the load balancers of a service.
func (c *scene) traffic(r store.Reader) {
	if c.rev == nil {
		return
	}
	for i := range c.rev.LoadBalancers {
		if arn := c.rev.LoadBalancers[i].TargetGroupArn; arn != nil && !slices.Contains(c.groups, *arn) {
			c.groups = append(c.groups, *arn)
		}
	}
	if len(c.groups) == 0 {
		return
	}
	for t := range store.Targets.By(r, store.ByService, c.svc.Key()) {
		one, deps := targetOf(r, t)
		c.targets, c.owners, c.deps = append(c.targets, one), append(c.owners, t.Task), append(c.deps, deps...)
	}
	for l := range store.Listeners.Scan(r, "") {
		lb, ok := store.LoadBalancers.Get(r, l.LoadBalancerARN)
		if !ok {
			continue
		}
		path, used := "", sends(l.Listener.DefaultActions, c.groups)
		for rule := range store.Rules.By(r, store.ByListener, l.ARN) {
			if !used && sends(rule.Rule.Actions, c.groups) {
				used, path = true, pathOf(&rule.Rule)
			}
		}
		if !used {
			continue
		}
		c.deps = append(c.deps, l)
		if l.Problem != "" {
			c.problems = append(c.problems, l.Problem)
		} else if l.Listener.Port != nil && lb.LB.DNSName != nil {
			c.urls = append(c.urls, fmt.Sprintf("%s://%s:%d%s", strings.ToLower(string(cmp.Or(l.Listener.Protocol, "HTTP"))), *lb.LB.DNSName, *l.Listener.Port, path))
		}
	}
}

// sends tells whether one of the actions sends requests to one of the groups.
func sends(actions []elbtypes.Action, groups []string) bool {
	for i := range actions {
		for _, f := range forwards(&actions[i]) {
			if slices.Contains(groups, f.Group) {
				return true
			}
		}
	}
	return false
}

func pathOf(rule *elbtypes.Rule) string {
	for i := range rule.Conditions {
		c := &rule.Conditions[i]
		values := c.Values
		if c.PathPatternConfig != nil {
			values = c.PathPatternConfig.Values
		}
		if c.Field != nil && *c.Field == "path-pattern" && len(values) > 0 {
			return strings.TrimRight(values[0], "*")
		}
	}
	return ""
}

// facts is the service as package why sees it.
func (c *scene) facts() why.Service {
	f := why.Service{Cluster: c.svc.Cluster, Name: c.svc.Name, Status: c.svc.Status, Desired: c.svc.DesiredCount, Targets: c.targets, Problems: c.problems,
		ThrottledUntil: c.svc.Throttle.Until, Failures: c.svc.Throttle.Failures}
	for _, t := range c.live {
		one := why.Of(t, c.definition(t), c.nodes[t.NodeID])
		f.Tasks, f.CPU, f.Memory = append(f.Tasks, one), one.CPU, one.MemoryMiB
		if one.Status == model.Running && !one.NodeLost {
			f.Running++
		} else if one.Status.Before(model.Running) {
			f.Pending++
		}
	}
	for _, t := range c.ended {
		f.Ended = append(f.Ended, why.Of(t, c.definition(t), nil))
		f.CPU, f.Memory = t.Needs.CPU, t.Needs.Memory
	}
	for _, d := range c.deployments {
		f.Deployments = append(f.Deployments, deploymentFacts(d))
	}
	for _, e := range c.events {
		f.Events = append(f.Events, e.Event)
	}
	return f
}

func deploymentFacts(d *model.Deployment) why.Deployment {
	return why.Deployment{ID: d.ID, Status: d.Status, Rollout: d.RolloutState, Reason: d.RolloutStateReason, State: d.State, StateReason: d.StateReason,
		FailedTasks: d.FailedTasks, StartedAt: d.StartedAt}
}

// row draws the service in a list, and returns what package why was told.
func (c *scene) row(now time.Time) (ServiceRow, why.Service) {
	f := c.facts()
	found := why.ExplainService(f, now)
	row := ServiceRow{K: c.svc.Key(), Cluster: c.svc.Cluster, Name: c.svc.Name, ARN: c.svc.ARN, Status: c.svc.Status, Desired: f.Desired, Running: f.Running, Pending: f.Pending,
		Steady: c.svc.Steady, URLs: c.urls, Findings: found, CPU: f.CPU, Memory: f.Memory, Created: ms(c.svc.CreatedAt), Level: why.Fine.String()}
	if len(found) > 0 {
		row.Level = found[0].Level.String()
	} else if !c.svc.Steady && f.Running != f.Desired {
		row.Level = why.Going.String()
	}
	for _, t := range c.svc.Tags {
		if t.Key != nil && t.Value != nil && strings.EqualFold(*t.Key, "managed-by") {
			row.Manager = strings.ToLower(*t.Value)
		}
	}
	for _, d := range c.deployments {
		if d.Status == model.DeploymentPrimary {
			row.Rollout = string(d.RolloutState)
			if d.RolloutState == "IN_PROGRESS" && row.Level == "fine" {
				row.Level = why.Going.String()
			}
		}
	}
	if c.def != nil {
		row.Family, row.Rev = c.def.Family, c.def.Revision
		for i := range c.def.Definition.ContainerDefinitions {
			d := &c.def.Definition.ContainerDefinitions[i]
			if row.Image == "" && d.Image != nil {
				row.Image = *d.Image
			}
			if d.LogConfiguration != nil {
				if g := d.LogConfiguration.Options["awslogs-group"]; g != "" && !slices.Contains(row.LogNames, g) {
					row.LogNames = append(row.LogNames, g)
				}
			}
		}
	}
	return row, f
}

func nodesOf(r store.Reader) map[string]*model.Node {
	nodes := map[string]*model.Node{}
	for n := range store.Nodes.Scan(r, "") {
		nodes[n.ID] = n
	}
	return nodes
}

// unsettled tells whether time alone may change what is said of the service.
func (c *scene) unsettled() bool {
	return !c.svc.Steady || len(c.ended) > 0
}

func (s *Console) services(r store.Reader, now time.Time, cluster string, yield func(item)) {
	nodes := nodesOf(r)
	for svc := range store.Services.Scan(r, "") {
		if svc.Status == "INACTIVE" || cluster != "" && svc.Cluster != cluster {
			continue
		}
		c := gather(r, svc, nodes, endedShown)
		yield(item{key: svc.Key(), deps: c.deps, moving: c.unsettled(), draw: func() any {
			c.read(r)
			row, _ := c.row(now)
			return row
		}})
	}
}

// read loads the definitions of the tasks, which draws the sentences.
func (c *scene) read(r store.Reader) {
	for _, t := range slices.Concat(c.live, c.ended) {
		key := model.TaskDefinitionKey(t.Family, t.Revision)
		if c.defs == nil {
			c.defs = map[string]*model.TaskDefinition{}
		}
		if _, known := c.defs[key]; !known {
			c.defs[key], _ = store.TaskDefinitions.Get(r, key)
		}
	}
}

// eventsShown is how many events a service's page has.
const eventsShown = 50

func (s *Console) service(r store.Reader, now time.Time, key string, yield func(item)) {
	svc, ok := store.Services.Get(r, key)
	if !ok {
		return
	}
	c := gather(r, svc, nodesOf(r), eventsShown)
	yield(item{key: key, deps: c.deps, moving: c.unsettled(), draw: func() any {
		c.read(r)
		return s.serviceDoc(r, c, now)
	}})
}

func (s *Console) serviceDoc(r store.Reader, c *scene, now time.Time) ServiceDoc {
	row, facts := c.row(now)
	doc := ServiceDoc{ServiceRow: row, Deployments: []DeploymentRow{}, Events: []EventRow{}, Targets: []TargetRow{}, Groups: c.groups, Exec: c.svc.EnableExecuteCommand}
	if c.rev != nil {
		doc.TaskDef = c.rev.TaskDefinition
	}
	for _, d := range c.deployments {
		doc.Deployments = append(doc.Deployments, s.deploymentRow(r, c, d, now))
		if len(doc.Deployments) == 20 {
			break
		}
	}
	for _, e := range c.events {
		doc.Events = append(doc.Events, eventRow(e, facts.CPU, facts.Memory))
	}
	for i := range c.targets {
		doc.Targets = append(doc.Targets, targetRow(&c.targets[i], c.owners[i], c.svc.Key()))
	}
	return doc
}

func (s *Console) deploymentRow(r store.Reader, c *scene, d *model.Deployment, now time.Time) DeploymentRow {
	row := DeploymentRow{ID: d.ID, Status: d.Status, Rollout: string(d.RolloutState), State: string(d.State), Reason: cmp.Or(d.StateReason, d.RolloutStateReason),
		Revision: d.RevisionID, Failed: d.FailedTasks, Breaker: d.BreakerCount, Created: ms(d.CreatedAt), Started: ms(d.StartedAt), Finished: ms(d.FinishedAt),
		Rollback: d.RollbackOf != "", Stopping: d.StopRequested != ""}
	if d.ServiceDeploymentID != "" {
		row.ARN = s.c.Scope.ServiceDeploymentARN(d.Cluster, d.Service, d.ServiceDeploymentID)
	}
	if rev, ok := store.ServiceRevisions.Get(r, c.svc.Key()+"/"+d.RevisionID); ok {
		row.TaskDef = model.ARNTail(rev.TaskDefinition)
	}
	for _, t := range c.live {
		if t.Deployment != d.ID {
			continue
		}
		if t.LastStatus() == model.Running {
			row.Running++
		} else if t.LastStatus().Before(model.Running) {
			row.Pending++
		}
	}
	if f, ok := why.ExplainDeployment(deploymentFacts(d), now); ok {
		row.Findings = append(row.Findings, f)
	}
	return row
}

func eventRow(e *model.ServiceEvent, cpu, memory int64) EventRow {
	row := EventRow{K: e.Key(), Cluster: e.Cluster, Service: e.Service, Level: why.Fine.String()}
	if e.Event.CreatedAt != nil {
		row.At = ms(*e.Event.CreatedAt)
	}
	if e.Event.Message != nil {
		row.Text = *e.Event.Message
	}
	if f, ok := why.ExplainEvent(row.Text, cpu, memory); ok {
		row.Level, row.Why = f.Level.String(), f.Sentence()
	}
	return row
}

// shownEvents is how many events a list of them has, of each service.
const shownEvents = 30

func (s *Console) events(r store.Reader, w want, yield func(item)) {
	for svc := range store.Services.Scan(r, "") {
		if w.Cluster != "" && svc.Cluster != w.Cluster || w.Service != "" && svc.Name != w.Service {
			continue
		}
		n := 0
		for e := range store.ServiceEvents.Scan(r, svc.Key()+"/") {
			if n++; n > shownEvents {
				break
			}
			yield(item{key: e.Key(), deps: []any{e}, draw: func() any { return eventRow(e, 0, 0) }})
		}
	}
}

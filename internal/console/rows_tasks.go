package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/why"
	"github.com/berthdev/berth/internal/store"
)

// definition is a task's definition; nil: it is gone.
func definition(r store.Reader, t *model.Task) *types.TaskDefinition {
	if def, ok := store.TaskDefinitions.Get(r, model.TaskDefinitionKey(t.Family, t.Revision)); ok {
		return &def.Definition
	}
	return nil
}

// tasks lists the tasks of a cluster, a service, a node or all.
func (s *Console) tasks(r store.Reader, now time.Time, w want, yield func(item)) {
	nodes := map[string]*model.Node{}
	for n := range store.Nodes.Scan(r, "") {
		nodes[n.ID] = n
	}
	each := func(t *model.Task) {
		if w.Cluster != "" && t.Cluster != w.Cluster || w.Service != "" && t.Service != w.Service || w.Node != "" && t.NodeID != w.Node {
			return
		}
		n := nodes[t.NodeID]
		host, lost := "", n.Lost()
		if n != nil {
			host = n.Hostname
		}
		yield(item{key: t.ID, deps: []any{t, host, lost}, moving: !t.Ended() && t.LastStatus() != model.Running, draw: func() any {
			return taskRow(t, definition(r, t), n, now)
		}})
	}
	switch {
	case w.Service != "" && w.Cluster != "":
		for t := range store.Tasks.By(r, store.ByService, w.Cluster+"/"+w.Service) {
			each(t)
		}
	case w.Cluster != "":
		for t := range store.Tasks.By(r, store.ByCluster, w.Cluster) {
			each(t)
		}
	default:
		for t := range store.Tasks.Scan(r, "") {
			each(t)
		}
	}
}

func taskRow(t *model.Task, def *types.TaskDefinition, n *model.Node, now time.Time) TaskRow {
	o := &t.Observed
	facts := why.Of(t, def, n)
	f := why.Explain(facts, now)
	row := TaskRow{K: t.ID, Cluster: t.Cluster, Service: t.Service, Family: t.Family, Rev: t.Revision, Status: string(t.LastStatus()), Desired: string(facts.Desired),
		Node: t.NodeID, CPU: t.Needs.CPU, Memory: t.Needs.Memory, Created: ms(t.CreatedAt), Started: ms(o.StartedAt), Stopped: ms(o.StoppedAt), Level: f.Level.String()}
	if o.Health != types.HealthStatusUnknown {
		row.Health = string(o.Health)
	}
	if n != nil {
		row.Host = n.Hostname
	}
	if o.Interface != nil {
		row.IP = o.Interface.IPv4
	}
	for i := range o.Containers {
		c := &o.Containers[i]
		row.Image = or(row.Image, c.Image)
		if c.ExitCode != nil && (row.Exit == nil || *row.Exit == 0) {
			row.Exit = c.ExitCode
		}
		if row.IP == "" && len(c.NetworkBindings) > 0 && n != nil && c.NetworkBindings[0].HostPort != nil {
			row.IP = fmt.Sprintf("%s:%d", n.Address, *c.NetworkBindings[0].HostPort)
		}
	}
	if f.Level != why.Fine || t.Ended() {
		row.Why = f.Sentence()
	}
	return row
}

// task is all of one task.
func (s *Console) task(r store.Reader, now time.Time, id string, yield func(item)) {
	t, ok := store.Tasks.Get(r, id)
	if !ok {
		return
	}
	n, _ := store.Nodes.Get(r, t.NodeID)
	def := definition(r, t)
	targets, deps := targetsOf(r, store.Targets.By(r, store.ByTask, t.ID))
	deps = append(deps, t)
	if n != nil {
		deps = append(deps, n.Hostname, n.Life)
	}
	yield(item{key: t.ID, deps: deps, moving: !t.Ended(), draw: func() any { return taskDoc(t, def, n, targets, now) }})
}

func taskDoc(t *model.Task, def *types.TaskDefinition, n *model.Node, targets []why.Target, now time.Time) TaskDoc {
	o := &t.Observed
	facts := why.Of(t, def, n)
	facts.Targets = targets
	f := why.Explain(facts, now)
	out := TaskDoc{TaskRow: taskRow(t, def, n, now), ARN: t.ARN, TaskDef: t.TaskDefinition, Deployment: t.Deployment, StartedBy: t.StartedBy,
		LaunchType: cmp.Or(t.CapacityProvider, string(t.LaunchType)), Mode: string(t.NetworkMode), Placed: ms(t.PlacedAt), PullStarted: ms(o.PullStartedAt),
		PullStopped: ms(o.PullStoppedAt), Released: t.Released, Stopping: ms(o.StoppingAt), ExecStopped: ms(o.ExecutionStoppedAt),
		Code: string(t.StopCode()), Reason: t.StoppedReason(), Finding: f, Exec: t.EnableExecuteCommand}
	out.Level, out.Why = f.Level.String(), f.Sentence()
	if t.StopRequest != nil {
		out.StopAsked, out.StopBy = ms(t.StopRequest.At), t.StopRequest.Reason
	}
	for i := range o.Containers {
		out.Containers = append(out.Containers, containerRow(t, &o.Containers[i], &facts.Containers[i], def))
	}
	for i := range targets {
		out.Registrations = append(out.Registrations, targetRow(&targets[i], "", ""))
	}
	return out
}

func containerRow(t *model.Task, c *model.Container, facts *why.Container, def *types.TaskDefinition) ContainerRow {
	row := ContainerRow{Name: c.Name, Image: or(c.Image, facts.Image), Digest: c.ImageDigest, Status: string(c.Status), Exit: c.ExitCode, Reason: c.Reason,
		Started: ms(c.StartedAt), Finished: ms(c.FinishedAt), Essential: facts.Essential, Memory: facts.MemoryMiB, Group: facts.Group}
	if c.Health != types.HealthStatusUnknown {
		row.Health = string(c.Health)
	}
	for _, b := range c.NetworkBindings {
		if b.HostPort != nil && b.ContainerPort != nil {
			row.Ports = append(row.Ports, fmt.Sprintf("%d→%d", *b.HostPort, *b.ContainerPort))
		}
	}
	if def == nil {
		return row
	}
	for i := range def.ContainerDefinitions {
		d := &def.ContainerDefinitions[i]
		if d.Name == nil || *d.Name != c.Name {
			continue
		}
		for _, p := range d.PortMappings {
			if p.ContainerPort != nil && len(c.NetworkBindings) == 0 {
				row.Ports = append(row.Ports, fmt.Sprint(*p.ContainerPort))
			}
		}
		if d.LogConfiguration != nil && row.Group != "" {
			row.Stream = c.Name + "/" + t.ID
			if d.LogConfiguration.Options["awslogs-stream-prefix"] == "" {
				row.Stream = c.RuntimeID
			}
		}
	}
	return row
}

// trouble is what needs somebody and belongs to no service: machines, ports, and tasks of nobody that failed within the hour.
func (s *Console) trouble(r store.Reader, now time.Time, yield func(item)) {
	for n := range store.Nodes.Scan(r, "") {
		if f, ok := why.ExplainNode(n); ok {
			yield(item{key: "node/" + n.ID, deps: []any{n}, draw: func() any {
				return TroubleRow{K: "node/" + n.ID, Where: n.Hostname, Href: "/nodes/" + n.ID, Finding: f}
			}})
		}
	}
	for l := range store.Listeners.Scan(r, "") {
		if l.Problem == "" {
			continue
		}
		lb, ok := store.LoadBalancers.Get(r, l.LoadBalancerARN)
		if !ok {
			continue
		}
		yield(item{key: "listener/" + l.ARN, deps: []any{l}, draw: func() any {
			return TroubleRow{K: "listener/" + l.ARN, Where: lb.Name, Href: "/balancers/" + lb.Name, Finding: why.Problem(l.Problem)}
		}})
	}
	var failed []*model.Task
	for t := range store.Tasks.By(r, store.ByState, store.TaskEnded) {
		if t.Service == "" && now.Sub(t.Observed.StoppedAt) < time.Hour {
			failed = append(failed, t)
		}
	}
	slices.SortFunc(failed, func(a, b *model.Task) int { return b.Observed.StoppedAt.Compare(a.Observed.StoppedAt) })
	for _, t := range failed[:min(len(failed), 20)] {
		f := why.Explain(why.Of(t, definition(r, t), nil), now)
		if f.Level < why.Warning {
			continue
		}
		yield(item{key: "task/" + t.ID, deps: []any{t}, draw: func() any {
			return TroubleRow{K: "task/" + t.ID, Where: t.Family, Href: "/clusters/" + t.Cluster + "/tasks/" + t.ID, Finding: f}
		}})
	}
}

// images lists repositories.
func (s *Console) images(r store.Reader, _ time.Time, yield func(item)) {
	users := map[string][]string{}
	for svc := range store.Services.Scan(r, "") {
		if svc.Status != "ACTIVE" {
			continue
		}
		for _, image := range imagesOf(r, svc) {
			name, _, _ := strings.Cut(strings.TrimPrefix(image, s.c.Registry+"/"), "@")
			if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
				name = name[:i]
			}
			if !slices.Contains(users[name], svc.Key()) {
				users[name] = append(users[name], svc.Key())
			}
		}
	}
	for repo := range store.Repositories.Scan(r, "") {
		all := slices.Collect(store.Images.By(r, store.ByRepository, repo.Name))
		deps := []any{repo, strings.Join(users[repo.Name], " ")}
		for _, i := range all {
			deps = append(deps, i)
		}
		yield(item{key: repo.Name, deps: deps, draw: func() any { return repoRow(repo, all, users[repo.Name]) }})
	}
}

// shownImages is how many images of a repository are in its row.
const shownImages = 200

func repoRow(repo *model.Repository, all []*model.Image, users []string) RepoRow {
	row := RepoRow{K: repo.Name, Count: len(all), UsedBy: users, Images: []ImageRow{}}
	if repo.Repository.RepositoryUri != nil {
		row.URI = *repo.Repository.RepositoryUri
	}
	slices.SortFunc(all, func(a, b *model.Image) int {
		return cmp.Or(b.PushedAt.Compare(a.PushedAt), cmp.Compare(a.Digest, b.Digest))
	})
	for n, i := range all {
		row.Size += i.Size
		if n < shownImages {
			row.Images = append(row.Images, ImageRow{Digest: i.Digest, Tags: i.Tags, Size: i.Size, Layers: max(0, len(i.Blobs)-1), Pushed: ms(i.PushedAt),
				Pulled: ms(i.PulledAt), Index: len(i.Children) > 0})
		}
	}
	return row
}

func imagesOf(r store.Reader, svc *model.Service) (images []string) {
	rev, ok := store.ServiceRevisions.Get(r, svc.Key()+"/"+svc.RevisionID)
	if !ok {
		return nil
	}
	def := byARN(r, rev.TaskDefinition)
	if def == nil {
		return nil
	}
	for i := range def.Definition.ContainerDefinitions {
		if image := def.Definition.ContainerDefinitions[i].Image; image != nil {
			images = append(images, *image)
		}
	}
	return images
}

// families lists task definitions.
func (s *Console) families(r store.Reader, _ time.Time, yield func(item)) {
	users := map[string][]string{}
	for svc := range store.Services.Scan(r, "") {
		if rev, ok := store.ServiceRevisions.Get(r, svc.Key()+"/"+svc.RevisionID); ok && svc.Status == "ACTIVE" {
			family, revision, _ := strings.Cut(model.ARNTail(rev.TaskDefinition), ":")
			users[family] = append(users[family], svc.Key()+" r"+revision)
		}
	}
	for f := range store.Families.Scan(r, "") {
		var active []*model.TaskDefinition
		deps := []any{f, strings.Join(users[f.Name], " ")}
		for def := range store.TaskDefinitions.By(r, store.ByFamily, f.Name) {
			if def.Definition.Status == types.TaskDefinitionStatusActive {
				active = append(active, def)
				deps = append(deps, def)
			}
		}
		if len(active) == 0 {
			continue
		}
		yield(item{key: f.Name, deps: deps, draw: func() any {
			row := FamilyRow{K: f.Name, UsedBy: users[f.Name]}
			slices.Reverse(active)
			for _, def := range active[:min(50, len(active))] {
				row.Active = append(row.Active, def.Revision)
			}
			newest := &active[0].Definition
			row.Latest = active[0].Revision
			for i := range newest.ContainerDefinitions {
				if image := newest.ContainerDefinitions[i].Image; image != nil {
					row.Images = append(row.Images, *image)
				}
			}
			if newest.Cpu != nil {
				row.CPU = *newest.Cpu
			}
			if newest.Memory != nil {
				row.Memory = *newest.Memory
			}
			return row
		}})
	}
}

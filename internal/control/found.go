package control

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/discovery"
	"github.com/berthdev/berth/internal/store"
)

// find has the tasks of a service found by the names that it has in Cloud Map. It goes before reach: who is to stop is not found any more.
func (p *pass) find(v *scene) {
	in := discovery.Input{Cluster: v.Cluster, Service: v.Name, Region: p.Scope.Region, Now: p.now, Limit: p.bite(v),
		Registries: map[string][]types.ServiceRegistry{}, Names: map[string]*model.DiscoveryService{},
		Instances: slices.Collect(store.DiscoveryInstances.By(p.tx, store.ByOwner, v.Key()))}
	for _, d := range v.deployments {
		r, ok := store.ServiceRevisions.Get(p.tx, v.Key()+"/"+d.RevisionID)
		if !ok || !d.Live() || v.Status == inactive {
			continue
		}
		in.Registries[d.ID] = r.ServiceRegistries
		for _, reg := range r.ServiceRegistries {
			if s, ok := store.DiscoveryServices.Get(p.tx, model.ARNTail(text(reg.RegistryArn))); ok {
				in.Names[*reg.RegistryArn] = s
			}
		}
	}
	if len(in.Names) == 0 && len(in.Instances) == 0 {
		return
	}
	for _, t := range v.tasks {
		if t.Ended() {
			continue
		}
		_, checks := p.definition(t.Family, t.Revision)
		one := discovery.Task{Task: t, ContainerChecks: checks, Lost: p.machine(t).Lost()}
		if n := p.machine(t); n != nil {
			one.Zone, one.NodeAddress = n.Attributes["ecs.availability-zone"], n.Address
		}
		in.Tasks = append(in.Tasks, one)
	}
	v.found = map[string]int{}
	for _, i := range in.Instances {
		v.found[i.ID]++
	}
	for _, a := range discovery.Plan(in) {
		switch a := a.(type) {
		case discovery.Register:
			store.PutInstance(p.tx, a.Instance)
			p.say("registered instance", "instance", a.Instance.Key(), "reason", a.Reason)
		case discovery.Deregister:
			store.DeleteInstance(p.tx, a.Instance)
			v.found[a.Instance.ID]--
			p.say("deregistered instance", "instance", a.Instance.Key(), "reason", a.Reason)
		}
	}
}

package ecs

import (
	"strings"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Statuses of clusters, services and container instances.
const (
	active   = "ACTIVE"
	draining = "DRAINING"
	inactive = "INACTIVE"
)

// resource cuts an ARN of this account's ECS down to what follows "<kind>/". Another string comes back as it is.
// ok is false for an ARN of another service, region, account or kind.
func (a *api) resource(kind, ref string) (rest string, ok bool) {
	if !strings.HasPrefix(ref, "arn:") {
		return ref, true
	}
	return strings.CutPrefix(ref, a.scope.ARN("ecs", kind+"/"))
}

// member reads a reference to something of a cluster: an id, <cluster>/<id> or an ARN with or without the cluster's name.
// ok is false when it names another cluster, region, account or kind.
func (a *api) member(kind, cluster, ref string) (id string, ok bool) {
	rest, ok := a.resource(kind, ref)
	if !ok {
		return "", false
	}
	if of, id, found := strings.Cut(rest, "/"); found {
		return id, of == cluster
	}
	return rest, true
}

// clusterName reads a cluster parameter; an omitted one means the default cluster. ok is false for a foreign ARN.
func (a *api) clusterName(ref *string) (name string, ok bool) {
	if value(ref) == "" {
		return model.DefaultCluster, true
	}
	return a.resource("cluster", *ref)
}

// anyCluster finds a cluster, whatever its status.
func (a *api) anyCluster(r store.Reader, ref *string) (*model.Cluster, error) {
	if name, ok := a.clusterName(ref); ok {
		if c, ok := store.Clusters.Get(r, name); ok {
			return c, nil
		}
	}
	return nil, model.Errorf("ClusterNotFoundException", "Cluster not found.")
}

// cluster finds a cluster that is ACTIVE.
func (a *api) cluster(r store.Reader, ref *string) (*model.Cluster, error) {
	c, err := a.anyCluster(r, ref)
	if err == nil && c.Status != active {
		return nil, model.Errorf("ClusterNotFoundException", "The referenced cluster was inactive.")
	}
	return c, err
}

// viewCluster calls f with the cluster that find finds, in one snapshot.
func (a *api) viewCluster(
	find func(store.Reader, *string) (*model.Cluster, error), ref *string, f func(store.Reader, *model.Cluster) error,
) (err error) {
	a.store.View(func(r store.Reader) {
		var c *model.Cluster
		if c, err = find(r, ref); err == nil {
			err = f(r, c)
		}
	})
	return err
}

// service finds a service of a cluster, whatever its status.
func (a *api) service(r store.Reader, cluster, ref string) (*model.Service, error) {
	if name, ok := a.member("service", cluster, ref); ok && name != "" {
		if s, ok := store.Services.Get(r, cluster+"/"+name); ok {
			return s, nil
		}
	}
	return nil, model.Errorf("ServiceNotFoundException", "Service not found.")
}

// task finds a task of a cluster.
func (a *api) task(r store.Reader, cluster, ref string) (*model.Task, bool) {
	id, ok := a.member("task", cluster, ref)
	if !ok {
		return nil, false
	}
	t, ok := store.Tasks.Get(r, id)
	return t, ok && t.Cluster == cluster
}

// instance finds a container instance of a cluster, whatever its status.
func (a *api) instance(r store.Reader, cluster, ref string) (*model.Instance, bool) {
	id, ok := a.member("container-instance", cluster, ref)
	if !ok {
		return nil, false
	}
	return store.InstanceByID(r, cluster, id)
}

// arnOf is the ARN that a missing resource would have had: ref itself when it is one already.
func arnOf(ref string, make func(id string) string) string {
	if strings.HasPrefix(ref, "arn:") {
		return ref
	}
	return make(model.ARNTail(ref))
}

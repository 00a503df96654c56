package agent

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// View is a task as its agent sees it now, for those who describe it: the metadata endpoint. It never changes.
type View struct {
	Task       *model.Task // as assigned; Observed is newer
	Definition types.TaskDefinition
	// Containers are the definitions after overrides, in order.
	Containers []types.ContainerDefinition
	Observed   model.Observed
	Stopping   bool // desired: STOPPED
	// RoleARN and CredentialsID are "" when the task has no role. The id is a secret that only the task's containers know.
	RoleARN       string
	CredentialsID string
	Networks      map[string]NetworkInfo // by container name; none in host mode
	Restarts      map[string]int         // by container name, of those with a restart policy
}

// Addresses are the IPv4 addresses of the task's own namespaces.
func (v *View) Addresses() []string {
	var all []string
	for _, n := range v.Networks {
		if n.IPv4 != "" {
			all = append(all, n.IPv4)
		}
	}
	return all
}

// Container returns the task and the name of the container with this runtime id.
func (a *Agent) Container(runtimeID string) (view *View, name string, ok bool) {
	a.mu.Lock()
	t := a.tasks[taskOf(runtimeID, "")]
	a.mu.Unlock()
	if t == nil {
		return nil, "", false
	}
	v := t.view.Load()
	for i := range v.Containers {
		if name := deref(v.Containers[i].Name); runtimeID == v.runtimeID(name) {
			return v, name, true
		}
	}
	return nil, "", false
}

func (v *View) runtimeID(name string) string { return runtimeID(v.Task.ID, name) }

// Credentials returns the task that the credentials of this id are for.
func (a *Agent) Credentials(id string) (*View, bool) {
	a.mu.Lock()
	t := a.credentials[id]
	a.mu.Unlock()
	if id == "" || t == nil {
		return nil, false
	}
	return t.view.Load(), true
}

// publish makes the task's view that of now.
func (t *task) publish() {
	v := &View{
		Task: t.as.Task, Definition: t.as.Definition, Observed: cloneObserved(t.obs), Stopping: t.ending || t.as.Stop || t.dismissed,
		RoleARN: t.role(), CredentialsID: t.rec.CredentialsID, Networks: map[string]NetworkInfo{}, Restarts: map[string]int{},
	}
	for _, c := range t.containers {
		v.Containers = append(v.Containers, c.def)
		if info := t.netInfo(c); info != nil {
			v.Networks[c.name()] = *info
		}
		if c.def.RestartPolicy != nil && deref(c.def.RestartPolicy.Enabled) {
			v.Restarts[c.name()] = c.rec.Restarts
		}
	}
	t.view.Store(v)
}

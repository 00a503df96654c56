package containerd

import (
	"context"
	"encoding/json"
	"maps"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/snapshots"

	"github.com/berthdev/berth/internal/node/agent"
)

// labels are what a container was created with and its state repeats.
type labels struct {
	taskID, name, boot, run string
	own                     map[string]string
}

func (r *Runtime) remember(spec agent.ContainerSpec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.labels[spec.ID] = labels{spec.TaskID, spec.Name, r.limits.bootID, spec.Run, spec.Labels}
}

func (r *Runtime) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.labels, id)
	delete(r.ended, id)
	delete(r.lost, id)
	delete(r.pids, id)
}

// labelsOf finds a container's labels, asking containerd for one that an earlier process created.
func (r *Runtime) labelsOf(ctx context.Context, id string) (labels, error) {
	r.mu.Lock()
	l, ok := r.labels[id]
	r.mu.Unlock()
	if ok {
		return l, nil
	}
	c, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return labels{}, err
	}
	l = labelsFrom(c)
	r.mu.Lock()
	r.labels[id] = l
	r.mu.Unlock()
	return l, nil
}

func labelsFrom(c containers.Container) labels {
	l := labels{taskID: c.Labels[labelTask], name: c.Labels[labelName], boot: c.Labels[labelBoot], run: c.Labels[labelRun]}
	if ext, ok := c.Extensions[extLabels]; ok {
		// What Create wrote is an object; anything else is no labels.
		_ = json.Unmarshal(ext.GetValue(), &l.own)
	}
	return l
}

// rawJSON is a document that containerd keeps and does not look into.
type rawJSON []byte

// GetTypeUrl implements typeurl.Any.
func (rawJSON) GetTypeUrl() string { return "berth.dev/json" }

// GetValue implements typeurl.Any.
func (j rawJSON) GetValue() []byte { return j }

func withLabels(l map[string]string) snapshots.Opt {
	return func(info *snapshots.Info) error {
		if info.Labels == nil {
			info.Labels = map[string]string{}
		}
		maps.Copy(info.Labels, l)
		return nil
	}
}

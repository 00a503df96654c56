package agent

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// perContainer tells whether each container of a task has its own namespace.
func perContainer(mode types.NetworkMode) bool {
	return mode == types.NetworkModeBridge || mode == types.NetworkModeNone
}

// connect makes the task's namespace or those of its containers.
func (t *task) connect() {
	switch {
	case t.mode == types.NetworkModeAwsvpc:
		t.connectTask()
	case perContainer(t.mode):
		for _, c := range t.containers {
			t.connectContainer(c)
		}
	}
}

func (t *task) connectTask() {
	if t.network != todo {
		return
	}
	spec := NetworkSpec{ID: t.id, TaskID: t.id, Mode: t.mode}
	if t.rec.Network != nil && slices.ContainsFunc(t.containers, func(c *container) bool { return c.ran }) {
		t.network = done
		t.connectAgain(spec, func(info NetworkInfo) { t.rec.Network, t.dirty = &info, true })
		return
	}
	t.network = busy
	t.setup(spec, func(info NetworkInfo, err error) {
		t.network = done
		if t.ending {
			return
		}
		if err != nil {
			t.failed(asError(err, "ResourceInitializationError", "connect the task's network"))
			return
		}
		t.rec.Network = &info
		if i := t.obs.Interface; i != nil {
			i.MAC, i.IPv4, i.Status = info.MAC, info.IPv4, "ATTACHED"
		}
	})
}

func (t *task) connectContainer(c *container) {
	if c.network != todo || c.phase == exited {
		return
	}
	spec := NetworkSpec{ID: c.id, TaskID: t.id, Mode: t.mode}
	if t.mode == types.NetworkModeBridge {
		spec.Ports = portsOf(c)
	}
	if c.rec.Network != nil {
		spec.Ports = c.rec.Network.Ports // those that were chosen before
	}
	if c.rec.Network != nil && c.ran {
		c.network = done
		t.connectAgain(spec, func(info NetworkInfo) { c.rec.Network, t.dirty = &info, true })
		return
	}
	c.network = busy
	t.setup(spec, func(info NetworkInfo, err error) {
		c.network = done
		if t.ending {
			return
		}
		if err != nil {
			t.startFailed(c, asError(err, "ContainerNetworkingError", "connect the network of container "+c.name()))
			return
		}
		c.rec.Network = &info
		c.obs.NetworkBindings = bindings(info.Ports)
	})
}

func (t *task) setup(spec NetworkSpec, then func(NetworkInfo, error)) {
	var info NetworkInfo
	t.async(t.ctx, func(ctx context.Context) error {
		return attempt(ctx, func() (err error) {
			info, err = t.agent.cfg.Network.Setup(ctx, spec)
			return err
		})
	}, func(err error) { then(info, err) })
}

// connected tells whether c may be created as far as the network goes: its own is there, and those that its links name.
func (t *task) connected(c *container) bool {
	switch {
	case t.mode == types.NetworkModeAwsvpc:
		return t.network == done
	case !perContainer(t.mode):
		if t.mode == types.NetworkModeHost && c.obs.NetworkBindings == nil {
			c.obs.NetworkBindings = bindings(portsOf(c))
		}
		return true
	}
	for _, l := range c.def.Links {
		if other := t.byName(linked(l)); other == nil || other.rec.Network == nil {
			return false
		}
	}
	return c.network == done && c.rec.Network != nil
}

// netInfo is the network that c is in; nil in host mode.
func (t *task) netInfo(c *container) *NetworkInfo {
	if t.mode == types.NetworkModeAwsvpc {
		return t.rec.Network
	}
	return c.rec.Network
}

// portsOf are the ports that the container publishes. In host mode they are the machine's own.
func portsOf(c *container) []PortMapping {
	var ports []PortMapping
	for _, m := range c.def.PortMappings {
		p := PortMapping{ContainerPort: deref(m.ContainerPort), HostPort: deref(m.HostPort), Protocol: string(m.Protocol)}
		if p.Protocol == "" {
			p.Protocol = string(types.TransportProtocolTcp)
		}
		ports = append(ports, p)
	}
	return ports
}

// bindings are ports as clients see them.
func bindings(ports []PortMapping) []types.NetworkBinding {
	var all []types.NetworkBinding
	for _, p := range ports {
		host := p.HostPort
		if host == 0 {
			host = p.ContainerPort
		}
		all = append(all, types.NetworkBinding{
			BindIP: new("0.0.0.0"), ContainerPort: new(p.ContainerPort), HostPort: new(host), Protocol: types.TransportProtocol(p.Protocol),
		})
	}
	return all
}

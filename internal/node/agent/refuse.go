package agent

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// refuse names what the task asks for and this node cannot do. A task that asked for it must not run without it.
func refuse(task *model.Task, def *types.TaskDefinition, all []*container) *Error {
	cannot := func(format string, args ...any) *Error {
		return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(format, args...)}
	}
	if def.ProxyConfiguration != nil {
		return cannot("the task asks for a proxyConfiguration (App Mesh), which Berth does not support; remove it")
	}
	if len(task.VolumeConfigurations) > 0 {
		return cannot("the task asks for a volume configured at launch (Amazon EBS), which Berth does not support; use a host volume")
	}
	for _, v := range def.Volumes {
		if err := refuseVolume(v); err != nil {
			return err
		}
	}
	for _, c := range all {
		if !safeName(c.name()) {
			return cannot("%q cannot be the name of a container", c.name())
		}
		if err := refuseContainer(task, c); err != nil {
			return err
		}
		if err := refuseMounts(def, c, all); err != nil {
			return err
		}
	}
	if err := refuseFirelens(all); err != nil {
		return err
	}
	return checkOrder(all)
}

func refuseContainer(task *model.Task, c *container) *Error {
	d := &c.def
	unsupported := []struct {
		asked      bool
		what, cure string
	}{
		{asksFor(d, types.ResourceTypeNeuronDevice), "Neuron devices", "remove them"},
		{asksFor(d, types.ResourceTypeInferenceAccelerator), "inference accelerators", "remove them"},
		{len(d.CredentialSpecs) > 0, "credentialSpecs", "remove them"},
		{deref(d.DisableNetworking) && task.NetworkMode != types.NetworkModeNone, "disableNetworking", "use the network mode none"},
	}
	for _, u := range unsupported {
		if u.asked {
			return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(
				"container %s asks for %s, which Berth does not support yet; %s", c.name(), u.what, u.cure)}
		}
	}
	for _, m := range d.PortMappings {
		if deref(m.ContainerPortRange) != "" {
			return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(
				"container %s asks for the containerPortRange %s, which Berth does not support yet; list its ports one by one",
				c.name(), *m.ContainerPortRange)}
		}
	}
	return nil
}

func refuseVolume(v types.Volume) *Error {
	name, docker := deref(v.Name), v.DockerVolumeConfiguration
	kind, cure := "", "use a host volume with a sourcePath on shared storage"
	switch {
	case v.FsxWindowsFileServerVolumeConfiguration != nil:
		kind = "fsxWindowsFileServerVolumeConfiguration"
	case v.S3filesVolumeConfiguration != nil:
		kind = "s3filesVolumeConfiguration"
	case deref(v.ConfiguredAtLaunch):
		kind = "configuredAtLaunch (Amazon EBS)"
	case docker != nil && deref(docker.Driver) != "" && *docker.Driver != "local":
		kind, cure = "the docker volume driver "+*docker.Driver, "use the driver local"
	case docker != nil && len(docker.DriverOpts) > 0:
		kind, cure = "driverOpts", "remove them"
	case !safeName(name):
		return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf("%q cannot be the name of a volume", name)}
	default:
		return nil
	}
	return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(
		"volume %s asks for %s, which Berth does not support; %s", name, kind, cure)}
}

// refuseMounts checks that what a container mounts is there to be mounted.
func refuseMounts(def *types.TaskDefinition, c *container, all []*container) *Error {
	volumes := map[string]bool{}
	for _, v := range def.Volumes {
		volumes[deref(v.Name)] = true
	}
	for _, m := range c.def.MountPoints {
		if !volumes[deref(m.SourceVolume)] {
			return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(
				"container %s mounts the volume %s, which the task definition does not have", c.name(), deref(m.SourceVolume))}
		}
	}
	for _, from := range c.def.VolumesFrom {
		found := false
		for _, other := range all {
			found = found || other.name() == deref(from.SourceContainer)
		}
		if !found {
			return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(
				"container %s takes the volumes of %s, which the task does not have", c.name(), deref(from.SourceContainer))}
		}
	}
	return nil
}

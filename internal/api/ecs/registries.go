package ecs

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/taskdef"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// checkRegistries checks the service registries (Cloud Map services) of a service that runs def: awsvpc tasks have an A record, or an SRV
// record with a port; others an SRV record with the port of a container (scaling-and-traffic.md 5).
func checkRegistries(r store.Reader, list []types.ServiceRegistry, def *types.TaskDefinition) error {
	if len(list) > 1 {
		return invalid("The maximum number of serviceRegistries is 1.")
	}
	for _, reg := range list {
		if err := checkRegistry(r, reg, def); err != nil {
			return err
		}
	}
	return nil
}

func checkRegistry(r store.Reader, reg types.ServiceRegistry, def *types.TaskDefinition) error {
	arn := value(reg.RegistryArn)
	if arn == "" {
		return invalid("registryArn should not be null or empty.")
	}
	name, ok := store.DiscoveryServices.Get(r, model.ARNTail(arn))
	if !ok {
		return invalid("The service registry with registryArn %s does not exist.", arn)
	}
	container, port := value(reg.ContainerName), reg.ContainerPort
	if (container == "") != (port == nil) {
		return invalid("containerName and containerPort of a service registry go together.")
	}
	if container != "" && reg.Port != nil {
		return invalid("A service registry has either port or containerName and containerPort.")
	}
	if container != "" {
		c := taskdef.Container(def, container)
		if c == nil {
			return invalid("The container %s does not exist in the task definition.", container)
		}
		if !slices.ContainsFunc(c.PortMappings, func(p types.PortMapping) bool { return number(p.ContainerPort) == *port }) {
			return invalid("The container %s did not have a container port %d defined.", container, *port)
		}
	}
	srv := slices.ContainsFunc(name.Records, func(d model.DiscoveryRecord) bool { return d.Type == "SRV" })
	switch {
	case def.NetworkMode == types.NetworkModeNone:
		return invalid("Service discovery is not supported for tasks that use the network mode none.")
	case def.NetworkMode != types.NetworkModeAwsvpc && len(name.Records) > 0 && !srv:
		return invalid("Service registries of tasks that use the bridge or host network mode need an SRV record.")
	case def.NetworkMode != types.NetworkModeAwsvpc && container == "":
		return invalid("Service registries of tasks that use the bridge or host network mode need a containerName and a containerPort.")
	case srv && container == "" && reg.Port == nil:
		return invalid("A service registry with an SRV record needs a port, or a containerName and a containerPort.")
	case slices.ContainsFunc(name.Records, func(d model.DiscoveryRecord) bool { return d.Type == "AAAA" || d.Type == "CNAME" }):
		return invalid("Tasks have no %s records: give the service registry A or SRV records.", name.Records[0].Type)
	}
	return nil
}

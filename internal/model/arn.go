package model

import (
	"fmt"
	"strings"
)

// Partition of every ARN that Berth makes.
const Partition = "aws"

// Scope is what ARNs are made from: the account and the region that an instance of Berth speaks for.
type Scope struct {
	Account string // 12 digits
	Region  string // such as "us-east-1"
}

// ARN returns arn:aws:<service>:<region>:<account>:<resource>.
func (s Scope) ARN(service, resource string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", Partition, service, s.Region, s.Account, resource)
}

// The ARNs of ECS (ecs.md 0.6).

// ClusterARN names a cluster.
func (s Scope) ClusterARN(cluster string) string { return s.ARN("ecs", "cluster/"+cluster) }

// ServiceARN names a service of a cluster.
func (s Scope) ServiceARN(cluster, service string) string {
	return s.ARN("ecs", "service/"+cluster+"/"+service)
}

// TaskARN names a task; id is 32 hexadecimal digits.
func (s Scope) TaskARN(cluster, id string) string { return s.ARN("ecs", "task/"+cluster+"/"+id) }

// ContainerARN names one container of a task; id is a UUID.
func (s Scope) ContainerARN(cluster, task, id string) string {
	return s.ARN("ecs", "container/"+cluster+"/"+task+"/"+id)
}

// InstanceARN names a container instance; id is 32 hexadecimal digits.
func (s Scope) InstanceARN(cluster, id string) string {
	return s.ARN("ecs", "container-instance/"+cluster+"/"+id)
}

// TaskDefinitionARN names a revision of a task definition.
func (s Scope) TaskDefinitionARN(family string, revision int) string {
	return s.ARN("ecs", fmt.Sprintf("task-definition/%s:%d", family, revision))
}

// ServiceDeploymentARN names a service deployment; id is 21 characters.
func (s Scope) ServiceDeploymentARN(cluster, service, id string) string {
	return s.ARN("ecs", "service-deployment/"+cluster+"/"+service+"/"+id)
}

// ServiceRevisionARN names a service revision; digits are those of a deployment id.
func (s Scope) ServiceRevisionARN(cluster, service, digits string) string {
	return s.ARN("ecs", "service-revision/"+cluster+"/"+service+"/"+digits)
}

// CapacityProviderARN names a capacity provider.
func (s Scope) CapacityProviderARN(name string) string {
	return s.ARN("ecs", "capacity-provider/"+name)
}

// ARNTail returns what follows the last "/" of an ARN, or the whole string when it has none: the id or short name.
func ARNTail(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

package taskdef

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	capability = "ecs.capability."
	legacy     = "com.amazonaws.ecs.capability."
)

// attributes derives requiresAttributes, each name once, in order of their names.
func attributes(def *types.TaskDefinition) []types.Attribute {
	if windows(def) {
		return []types.Attribute{} // AWS derives none
	}
	set := map[string]bool{}
	add := func(names ...string) {
		for _, n := range names {
			set[n] = true
		}
	}
	if def.NetworkMode == types.NetworkModeAwsvpc {
		add(capability+"task-eni", legacy+"docker-remote-api.1.18")
	}
	if value(def.TaskRoleArn) != "" {
		if def.NetworkMode == types.NetworkModeHost {
			add(legacy + "task-iam-role-network-host")
		} else {
			add(legacy + "task-iam-role")
		}
		add(legacy + "docker-remote-api.1.17")
	}
	if def.PidMode != "" || def.IpcMode != "" {
		add(capability + "pid-ipc-namespace-sharing")
	}
	if def.EphemeralStorage != nil {
		add(capability + "extensible-ephemeral-storage")
	}
	if def.ProxyConfiguration != nil {
		add(capability + "aws-appmesh")
	}
	for _, v := range def.Volumes {
		add(volumeAttributes(v)...)
	}
	for i := range def.ContainerDefinitions {
		add(containerAttributes(&def.ContainerDefinitions[i], value(def.ExecutionRoleArn) != "")...)
	}
	list := []types.Attribute{}
	for name := range set {
		list = append(list, types.Attribute{Name: new(name)})
	}
	slices.SortFunc(list, func(a, b types.Attribute) int { return strings.Compare(*a.Name, *b.Name) })
	return list
}

func volumeAttributes(v types.Volume) []string {
	switch {
	case v.DockerVolumeConfiguration != nil:
		driver := value(v.DockerVolumeConfiguration.Driver)
		if driver == "" {
			driver = "local"
		}
		return []string{capability + "docker-plugin." + driver, legacy + "docker-remote-api.1.25"}
	case v.EfsVolumeConfiguration != nil:
		if v.EfsVolumeConfiguration.AuthorizationConfig != nil {
			return []string{capability + "efs", capability + "efsAuth", legacy + "docker-remote-api.1.25"}
		}
		return []string{capability + "efs", legacy + "docker-remote-api.1.25"}
	}
	return nil
}

func containerAttributes(c *types.ContainerDefinition, executionRole bool) []string {
	var names []string
	if log := c.LogConfiguration; log != nil && log.LogDriver != "" {
		names = append(names, legacy+"logging-driver."+string(log.LogDriver), legacy+"docker-remote-api.1.18")
		if log.LogDriver == types.LogDriverAwslogs {
			names = append(names, legacy+"docker-remote-api.1.19")
			if executionRole {
				names = append(names, capability+"execution-role-awslogs")
			}
		}
	}
	if ecrImage.MatchString(value(c.Image)) {
		names = append(names, legacy+"ecr-auth", legacy+"docker-remote-api.1.19")
		if executionRole {
			names = append(names, capability+"execution-role-ecr-pull")
		}
	}
	if strings.Contains(value(c.Image), "@sha256:") {
		names = append(names, legacy+"docker-remote-api.1.21")
	}
	if truth(c.Privileged) {
		names = append(names, legacy+"privileged-container")
	}
	if c.MemoryReservation != nil {
		names = append(names, legacy+"docker-remote-api.1.21")
	}
	if c.HealthCheck != nil {
		names = append(names, capability+"container-health-check", legacy+"docker-remote-api.1.29")
	}
	if len(c.DependsOn) > 0 || c.StartTimeout != nil || c.StopTimeout != nil {
		names = append(names, capability+"container-ordering")
	}
	if c.RestartPolicy != nil && truth(c.RestartPolicy.Enabled) {
		names = append(names, capability+"container-restart-policy")
	}
	if len(c.EnvironmentFiles) > 0 {
		names = append(names, capability+"env-files.s3")
	}
	if c.RepositoryCredentials != nil {
		names = append(names, capability+"private-registry-authentication.secretsmanager")
	}
	for _, s := range c.Secrets {
		if strings.Contains(value(s.ValueFrom), ":secretsmanager:") {
			names = append(names, capability+"secrets.asm.environment-variables")
		} else {
			names = append(names, capability+"secrets.ssm.environment-variables")
		}
	}
	if f := c.FirelensConfiguration; f != nil {
		names = append(names, capability+"firelens."+string(f.Type))
	}
	return names
}

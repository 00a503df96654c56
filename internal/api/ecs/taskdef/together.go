package taskdef

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// checkTogether checks what containers say of each other and of the task.
func checkTogether(def *types.TaskDefinition) error {
	volumes := map[string]bool{}
	for _, v := range def.Volumes {
		volumes[value(v.Name)] = true
	}
	seen := map[string]bool{}
	essential := false
	var cpu int64
	for i := range def.ContainerDefinitions {
		c := &def.ContainerDefinitions[i]
		if seen[*c.Name] {
			return refuse("Container name '%s' is used more than once.", *c.Name)
		}
		seen[*c.Name] = true
		essential = essential || *c.Essential
		cpu += int64(c.Cpu)
		for _, m := range c.MountPoints {
			if !volumes[value(m.SourceVolume)] {
				return refuse("Unknown volume '%s'.", value(m.SourceVolume))
			}
			if value(m.ContainerPath) == "" {
				return refuse("Mount point of volume '%s' in container '%s' must have a containerPath.", value(m.SourceVolume), *c.Name)
			}
		}
		for _, v := range c.VolumesFrom {
			if from := value(v.SourceContainer); from == *c.Name || Container(def, from) == nil {
				return refuse("Container '%s' cannot use the volumes of container '%s' because it does not exist", *c.Name, from)
			}
		}
	}
	if !essential {
		return refuse("Task definition doesn't have any essential container.")
	}
	if task := amount(def.Cpu); task > 0 && cpu > task {
		return refuse("The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.")
	}
	if err := checkRoles(def); err != nil {
		return err
	}
	return checkDependencies(def)
}

// checkRoles checks that what only an execution role may fetch comes with one.
func checkRoles(def *types.TaskDefinition) error {
	if value(def.ExecutionRoleArn) != "" {
		return nil
	}
	for i := range def.ContainerDefinitions {
		c := &def.ContainerDefinitions[i]
		if len(c.Secrets) > 0 || (c.LogConfiguration != nil && len(c.LogConfiguration.SecretOptions) > 0) {
			return refuse("When you are specifying container secrets, you must also specify a value for 'executionRoleArn'.")
		}
	}
	return nil
}

func checkDependencies(def *types.TaskDefinition) error {
	for i := range def.ContainerDefinitions {
		for _, d := range def.ContainerDefinitions[i].DependsOn {
			name := value(d.ContainerName)
			on := Container(def, name)
			if on == nil {
				return refuse("Cannot depend on container + '%s' because it does not exist", name)
			}
			switch d.Condition {
			case types.ContainerConditionStart:
			case types.ContainerConditionSuccess, types.ContainerConditionComplete:
				if *on.Essential {
					return refuse("A dependency container with SUCCESS or COMPLETE condition cannot be an essential container")
				}
			case types.ContainerConditionHealthy:
				if on.HealthCheck == nil {
					return refuse("A dependency container with HEALTHY condition must have health check configured")
				}
			default:
				return refuse("Invalid dependency condition '%s'. The condition must be one of START, COMPLETE, SUCCESS or HEALTHY.",
					d.Condition)
			}
		}
	}
	if cyclic(def) {
		return refuse("Container dependsOn contains a cycle")
	}
	return nil
}

// cyclic tells whether dependsOn leads from a container back to itself.
func cyclic(def *types.TaskDefinition) bool {
	const (
		open   = 1
		closed = 2
	)
	state := map[string]int{}
	var visit func(name string) bool
	visit = func(name string) bool {
		switch state[name] {
		case open:
			return true
		case closed:
			return false
		}
		state[name] = open
		for _, d := range Container(def, name).DependsOn {
			if visit(value(d.ContainerName)) {
				return true
			}
		}
		state[name] = closed
		return false
	}
	for i := range def.ContainerDefinitions {
		if visit(*def.ContainerDefinitions[i].Name) {
			return true
		}
	}
	return false
}

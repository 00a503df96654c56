package taskdef

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Override checks overrides against their definition and returns them with task sizes normalised.
// Errors: *model.Error with code InvalidParameterException or ClientException.
func Override(def *types.TaskDefinition, asked *types.TaskOverride, launch types.LaunchType) (types.TaskOverride, error) {
	if asked == nil {
		return types.TaskOverride{}, nil
	}
	o := *asked
	for _, c := range o.ContainerOverrides {
		if err := checkOverride(def, c); err != nil {
			return o, err
		}
	}
	if len(o.InferenceAcceleratorOverrides) > 0 {
		return o, model.Errorf("InvalidParameterException", "Berth does not support inferenceAcceleratorOverrides yet.")
	}
	var err error
	if o.Cpu, err = cpuString(o.Cpu); err != nil {
		return o, err
	}
	if o.Memory, err = memoryString(o.Memory); err != nil {
		return o, err
	}
	if launch == types.LaunchTypeFargate && (o.Cpu != nil || o.Memory != nil) {
		cpu, memory := o.Cpu, o.Memory
		if cpu == nil {
			cpu = def.Cpu
		}
		if memory == nil {
			memory = def.Memory
		}
		return o, CheckFargateSize(cpu, memory)
	}
	return o, nil
}

func checkOverride(def *types.TaskDefinition, c types.ContainerOverride) error {
	name := value(c.Name)
	switch {
	case name == "":
		return refuseParameter("Container override must have a name.")
	case Container(def, name) == nil:
		return refuseParameter("Override for container named %s is not a container in the TaskDefinition.", name)
	case len(c.ResourceRequirements) > 0:
		return refuseParameter("Berth does not support resourceRequirements in overrides yet (container '%s').", name)
	case len(c.EnvironmentFiles) > maxEnvFiles:
		return refuseParameter("Override of container '%s' has more than %d environment files.", name, maxEnvFiles)
	case c.Memory != nil && *c.Memory < minMemory:
		return refuseParameter("Invalid override of container '%s'. 'memory' must be at least %d MiB.", name, minMemory)
	case c.MemoryReservation != nil && *c.MemoryReservation < minMemory:
		return refuseParameter("Invalid override of container '%s'. 'memoryReservation' must be at least %d MiB.", name, minMemory)
	case c.Cpu != nil && *c.Cpu < 0:
		return refuseParameter("Invalid override of container '%s'. 'cpu' must not be negative.", name)
	}
	return nil
}

func refuseParameter(format string, args ...any) error {
	return model.Errorf("InvalidParameterException", format, args...)
}

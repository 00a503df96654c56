package taskdef

import (
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// maxFargateStopTimeout is Fargate's bound of stopTimeout, in seconds.
const maxFargateStopTimeout = 120

var ecrImage = regexp.MustCompile(`^\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/`)

// checkCompatibilities checks that the definition can be what requiresCompatibilities says.
func checkCompatibilities(def *types.TaskDefinition) error {
	for _, c := range def.RequiresCompatibilities {
		switch {
		case c == types.CompatibilityFargate:
			if err := fargateProblem(def); err != nil {
				return err
			}
		case c == types.CompatibilityExternal && def.NetworkMode == types.NetworkModeAwsvpc:
			return refuse("External only supports network modes bridge, host and none.")
		}
	}
	return nil
}

// compatibilities lists the launch types that the definition can run on.
func compatibilities(def *types.TaskDefinition) []types.Compatibility {
	if def.NetworkMode != types.NetworkModeAwsvpc {
		return []types.Compatibility{types.CompatibilityExternal, types.CompatibilityEc2}
	}
	if fargateProblem(def) != nil {
		return []types.Compatibility{types.CompatibilityEc2}
	}
	if windows(def) {
		return []types.Compatibility{types.CompatibilityEc2, types.CompatibilityFargate}
	}
	return []types.Compatibility{types.CompatibilityEc2, types.CompatibilityFargate, types.CompatibilityManagedInstances}
}

func windows(def *types.TaskDefinition) bool {
	return def.RuntimePlatform != nil && strings.HasPrefix(string(def.RuntimePlatform.OperatingSystemFamily), "WINDOWS_")
}

// Supports tells whether tasks of the definition may have the launch type. A definition that was checked for Fargate may run on
// EC2 too, but one that was checked for others only may not run on Fargate.
func Supports(def *types.TaskDefinition, launch types.LaunchType) bool {
	c := types.Compatibility(launch)
	if c == types.CompatibilityFargate && len(def.RequiresCompatibilities) > 0 && !slices.Contains(def.RequiresCompatibilities, c) {
		return false
	}
	return slices.Contains(def.Compatibilities, c)
}

// CheckFargateSize checks a task's normalised cpu and memory, either of which may be missing.
func CheckFargateSize(cpu, memory *string) error {
	if cpu == nil {
		return refuse("Fargate requires that 'cpu' be defined at the task level.")
	}
	if memory == nil {
		return refuse("Fargate requires that 'memory' be defined at the task level.")
	}
	if !FargateSize(amount(cpu), amount(memory)) {
		return refuse("No Fargate configuration exists for given values: %s CPU, %s memory. "+
			"See the Amazon ECS documentation for the valid values.", *cpu, *memory)
	}
	return nil
}

// fargateProblem says why the definition cannot run on Fargate, nil when it can.
func fargateProblem(def *types.TaskDefinition) error {
	if def.NetworkMode != types.NetworkModeAwsvpc {
		return refuse("Fargate only supports network mode ‘awsvpc’.")
	}
	if err := CheckFargateSize(def.Cpu, def.Memory); err != nil {
		return err
	}
	switch {
	case def.PidMode == types.PidModeHost:
		return refuse("Fargate does not support the 'pidMode' host.")
	case def.IpcMode != "":
		return refuse("Fargate does not support 'ipcMode'.")
	case len(def.PlacementConstraints) > 0:
		return refuse("Fargate does not support placement constraints in task definitions.")
	case len(def.InferenceAccelerators) > 0:
		return refuse("Fargate does not support inference accelerators.")
	}
	for _, v := range def.Volumes {
		if v.Host != nil && value(v.Host.SourcePath) != "" {
			return refuse("Fargate does not support 'host.sourcePath' of volume '%s'.", value(v.Name))
		}
		if v.DockerVolumeConfiguration != nil {
			return refuse("Fargate does not support 'dockerVolumeConfiguration' of volume '%s'.", value(v.Name))
		}
	}
	for i := range def.ContainerDefinitions {
		if err := fargateContainer(&def.ContainerDefinitions[i], value(def.ExecutionRoleArn) != ""); err != nil {
			return err
		}
	}
	return nil
}

func fargateContainer(c *types.ContainerDefinition, executionRole bool) error {
	name := value(c.Name)
	if log := c.LogConfiguration; log != nil {
		switch log.LogDriver {
		case types.LogDriverAwslogs:
			if !executionRole {
				return refuse("Fargate requires task definition to have execution role ARN to support log driver awslogs.")
			}
		case types.LogDriverSplunk, types.LogDriverAwsfirelens:
		default:
			return refuse("%s is not a valid log driver. Must be one of [awslogs,splunk,awsfirelens]", log.LogDriver)
		}
	}
	if !executionRole && ecrImage.MatchString(value(c.Image)) {
		return refuse("Fargate requires task definition to have execution role ARN to support ECR images.")
	}
	switch {
	case truth(c.Privileged):
		return refuse("Fargate does not support 'privileged' of container '%s'.", name)
	case number(c.StopTimeout) > maxFargateStopTimeout:
		return refuse("Fargate supports a 'stopTimeout' of at most %d seconds, container '%s' has %d.",
			maxFargateStopTimeout, name, *c.StopTimeout)
	case len(c.DockerSecurityOptions) > 0:
		return refuse("Fargate does not support 'dockerSecurityOptions' of container '%s'.", name)
	case len(c.ResourceRequirements) > 0:
		return refuse("Fargate does not support 'resourceRequirements' of container '%s'.", name)
	}
	return fargateLinux(c)
}

func fargateLinux(c *types.ContainerDefinition) error {
	l := c.LinuxParameters
	if l == nil {
		return nil
	}
	switch name := value(c.Name); {
	case len(l.Devices) > 0:
		return refuse("Fargate does not support 'linuxParameters.devices' of container '%s'.", name)
	case l.SharedMemorySize != nil:
		return refuse("Fargate does not support 'linuxParameters.sharedMemorySize' of container '%s'.", name)
	case len(l.Tmpfs) > 0:
		return refuse("Fargate does not support 'linuxParameters.tmpfs' of container '%s'.", name)
	case l.MaxSwap != nil || l.Swappiness != nil:
		return refuse("Fargate does not support 'linuxParameters.maxSwap' and 'swappiness' of container '%s'.", name)
	case l.Capabilities != nil && slices.ContainsFunc(l.Capabilities.Add, func(s string) bool { return s != "SYS_PTRACE" }):
		return refuse("Fargate does not support adding Linux capabilities other than SYS_PTRACE to container '%s'.", name)
	}
	return nil
}

// Runnable says which part of a definition Berth cannot act on, nil when it can run all of it. Such definitions are kept, but
// neither run nor made a service of.
func Runnable(def *types.TaskDefinition) error {
	if def.ProxyConfiguration != nil {
		return unsupported("proxyConfiguration", "task definition", value(def.Family))
	}
	if len(def.InferenceAccelerators) > 0 {
		return unsupported("inferenceAccelerators", "task definition", value(def.Family))
	}
	if p := def.RuntimePlatform; p != nil && p.OperatingSystemFamily != "" && p.OperatingSystemFamily != types.OSFamilyLinux {
		return unsupported("the operating system family "+string(p.OperatingSystemFamily), "task definition", value(def.Family))
	}
	for _, v := range def.Volumes {
		switch {
		case v.FsxWindowsFileServerVolumeConfiguration != nil:
			return unsupported("fsxWindowsFileServerVolumeConfiguration", "volume", value(v.Name))
		case v.S3filesVolumeConfiguration != nil:
			return unsupported("s3filesVolumeConfiguration", "volume", value(v.Name))
		case truth(v.ConfiguredAtLaunch):
			return unsupported("configuredAtLaunch (EBS volumes)", "volume", value(v.Name))
		}
	}
	for i := range def.ContainerDefinitions {
		if err := runnableContainer(&def.ContainerDefinitions[i]); err != nil {
			return err
		}
	}
	return nil
}

func runnableContainer(c *types.ContainerDefinition) error {
	var what string
	switch log := c.LogConfiguration; {
	case len(c.CredentialSpecs) > 0:
		what = "credentialSpecs"
	case log != nil && log.LogDriver != types.LogDriverAwslogs && log.LogDriver != types.LogDriverJsonFile && log.LogDriver != types.LogDriverAwsfirelens:
		what = "the log driver " + string(log.LogDriver)
	default:
		return nil
	}
	return unsupported(what, "container", value(c.Name))
}

func unsupported(what, kind, name string) error {
	return model.Errorf("InvalidParameterException", "Berth does not support %s yet (%s '%s').", what, kind, name)
}

// NeedsNeuron tells whether a container asks for Neuron devices, which no node of Berth offers.
func NeedsNeuron(def *types.TaskDefinition) bool {
	return slices.ContainsFunc(def.ContainerDefinitions, func(c types.ContainerDefinition) bool {
		return slices.ContainsFunc(c.ResourceRequirements, func(r types.ResourceRequirement) bool {
			return r.Type == types.ResourceTypeNeuronDevice
		})
	})
}

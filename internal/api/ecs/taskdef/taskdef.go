// Package taskdef turns a request to register a task definition into the definition that ECS keeps: it checks every rule,
// fills in the defaults and derives compatibilities and required attributes. It is pure.
package taskdef

import (
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/model"
)

// Bounds of a definition (ecs.md 1.2).
const (
	maxConstraints = 10
	maxVolumes     = 256
)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

// Normalise returns the definition that in asks for, without ARN, revision, status and times. in is not changed.
// Errors: *model.Error with code ClientException (ecs.md 1.10), or InvalidParameterException for what Berth cannot keep.
func Normalise(in *ecs.RegisterTaskDefinitionInput) (types.TaskDefinition, error) {
	var def types.TaskDefinition
	if !ValidFamily(value(in.Family)) {
		return def, refuse("Family contains invalid characters.")
	}
	def = types.TaskDefinition{
		Family: in.Family, Cpu: in.Cpu, Memory: in.Memory, NetworkMode: in.NetworkMode, PidMode: in.PidMode, IpcMode: in.IpcMode,
		TaskRoleArn: in.TaskRoleArn, ExecutionRoleArn: in.ExecutionRoleArn, RuntimePlatform: in.RuntimePlatform,
		EnableFaultInjection: in.EnableFaultInjection, EphemeralStorage: in.EphemeralStorage,
		InferenceAccelerators: in.InferenceAccelerators, ProxyConfiguration: in.ProxyConfiguration,
		RequiresCompatibilities: slices.Clone(in.RequiresCompatibilities),
		Volumes:                 filled(in.Volumes), PlacementConstraints: filled(in.PlacementConstraints),
	}
	if err := normaliseTask(&def); err != nil {
		return def, err
	}
	if len(in.ContainerDefinitions) == 0 {
		return def, refuse("Container list cannot be empty.")
	}
	if err := quota.Containers.Admit(len(in.ContainerDefinitions)); err != nil {
		return def, err
	}
	for i := range in.ContainerDefinitions {
		c := in.ContainerDefinitions[i]
		if err := normaliseContainer(&c, &def); err != nil {
			return def, err
		}
		def.ContainerDefinitions = append(def.ContainerDefinitions, c)
	}
	if err := checkTogether(&def); err != nil {
		return def, err
	}
	if err := checkCompatibilities(&def); err != nil {
		return def, err
	}
	def.Compatibilities = compatibilities(&def)
	def.RequiresAttributes = attributes(&def)
	return def, nil
}

// ValidFamily tells whether s can name a family.
func ValidFamily(s string) bool { return namePattern.MatchString(s) }

// Container returns the definition's container of that name, or nil.
func Container(def *types.TaskDefinition, name string) *types.ContainerDefinition {
	for i := range def.ContainerDefinitions {
		if value(def.ContainerDefinitions[i].Name) == name {
			return &def.ContainerDefinitions[i]
		}
	}
	return nil
}

// normaliseTask checks and rewrites what is said of the task as a whole.
func normaliseTask(def *types.TaskDefinition) error {
	if err := checkEnums(def); err != nil {
		return err
	}
	var err error
	if def.Cpu, err = cpuString(def.Cpu); err != nil {
		return err
	}
	if def.Memory, err = memoryString(def.Memory); err != nil {
		return err
	}
	if s := def.EphemeralStorage; s != nil && (s.SizeInGiB < 21 || s.SizeInGiB > 200) {
		return refuse("Invalid ephemeral storage size: %d GiB. The size must be between 21 and 200 GiB.", s.SizeInGiB)
	}
	if len(def.PlacementConstraints) > maxConstraints {
		return refuse("Too many placement constraints: a task definition can have at most %d.", maxConstraints)
	}
	for _, c := range def.PlacementConstraints {
		if c.Type != types.TaskDefinitionPlacementConstraintTypeMemberOf {
			return refuse("Invalid placement constraint type '%s' in task definition. The type must be memberOf.", c.Type)
		}
		if value(c.Expression) == "" {
			return refuse("Placement constraint of type memberOf must have an expression.")
		}
	}
	return checkVolumes(def.Volumes)
}

func checkEnums(def *types.TaskDefinition) error {
	if def.NetworkMode != "" && !slices.Contains(def.NetworkMode.Values(), def.NetworkMode) {
		return refuse("Invalid network mode '%s'. The network mode must be one of bridge, host, awsvpc or none.", def.NetworkMode)
	}
	if def.PidMode != "" && !slices.Contains(def.PidMode.Values(), def.PidMode) {
		return refuse("Invalid 'pidMode' setting '%s' for task. The pidMode must be host or task.", def.PidMode)
	}
	if def.IpcMode != "" && !slices.Contains(def.IpcMode.Values(), def.IpcMode) {
		return refuse("Invalid 'ipcMode' setting '%s' for task. The ipcMode must be host, task or none.", def.IpcMode)
	}
	for _, c := range def.RequiresCompatibilities {
		if !slices.Contains(c.Values(), c) {
			return refuse("Invalid value '%s' in requiresCompatibilities. The value must be one of EC2, FARGATE, EXTERNAL or "+
				"MANAGED_INSTANCES.", c)
		}
	}
	return nil
}

func checkVolumes(volumes []types.Volume) error {
	if len(volumes) > maxVolumes {
		return refuse("Too many volumes: a task definition can have at most %d.", maxVolumes)
	}
	seen := map[string]bool{}
	for _, v := range volumes {
		name := value(v.Name)
		if !namePattern.MatchString(name) {
			return refuse("Volume name '%s' contains invalid characters.", name)
		}
		if seen[name] {
			return refuse("Volume name '%s' is used more than once.", name)
		}
		seen[name] = true
		kinds := 0
		for _, set := range []bool{v.Host != nil && value(v.Host.SourcePath) != "", v.DockerVolumeConfiguration != nil,
			v.EfsVolumeConfiguration != nil, v.FsxWindowsFileServerVolumeConfiguration != nil,
			v.S3filesVolumeConfiguration != nil} {
			if set {
				kinds++
			}
		}
		if kinds > 1 {
			return refuse("Volume '%s' must have at most one of host, dockerVolumeConfiguration, efsVolumeConfiguration, "+
				"fsxWindowsFileServerVolumeConfiguration and s3filesVolumeConfiguration.", name)
		}
	}
	return nil
}

// filled returns a copy of s that is never nil: ECS returns such lists as [].
func filled[T any](s []T) []T { return append([]T{}, s...) }

func refuse(format string, args ...any) error {
	return model.Errorf("ClientException", format, args...)
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func number(p *int32) int32 {
	if p == nil {
		return 0
	}
	return *p
}

func truth(p *bool) bool { return p != nil && *p }

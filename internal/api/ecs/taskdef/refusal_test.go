package taskdef

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// TestNormaliseRefusesMore: the rules whose texts are Berth's own, since AWS's are not known.
func TestNormaliseRefusesMore(t *testing.T) {
	mapping := func(p types.PortMapping) []types.PortMapping { return []types.PortMapping{p} }
	volume := func(v types.Volume) []types.Volume { return []types.Volume{v} }
	for _, tt := range []struct {
		name string
		in   in
		want string
	}{
		{"network mode", input(func(i in, c ct) { i.NetworkMode = "overlay" }),
			"Invalid network mode 'overlay'. The network mode must be one of bridge, host, awsvpc or none."},
		{"pid mode", input(func(i in, c ct) { i.PidMode = "x" }),
			"Invalid 'pidMode' setting 'x' for task. The pidMode must be host or task."},
		{"ipc mode", input(func(i in, c ct) { i.IpcMode = "x" }),
			"Invalid 'ipcMode' setting 'x' for task. The ipcMode must be host, task or none."},
		{"compatibility", input(func(i in, c ct) { i.RequiresCompatibilities = []types.Compatibility{"LAMBDA"} }),
			"Invalid value 'LAMBDA' in requiresCompatibilities. The value must be one of EC2, FARGATE, EXTERNAL or MANAGED_INSTANCES."},
		{"external awsvpc", input(func(i in, c ct) {
			i.RequiresCompatibilities, i.NetworkMode = []types.Compatibility{"EXTERNAL"}, "awsvpc"
		}),
			"External only supports network modes bridge, host and none."},
		{"ephemeral", input(func(i in, c ct) { i.EphemeralStorage = &types.EphemeralStorage{SizeInGiB: 20} }),
			"Invalid ephemeral storage size: 20 GiB. The size must be between 21 and 200 GiB."},
		{"constraint type", input(func(i in, c ct) {
			i.PlacementConstraints = []types.TaskDefinitionPlacementConstraint{{Type: "distinctInstance"}}
		}), "Invalid placement constraint type 'distinctInstance' in task definition. The type must be memberOf."},
		{"constraint expression", input(func(i in, c ct) {
			i.PlacementConstraints = []types.TaskDefinitionPlacementConstraint{{Type: "memberOf"}}
		}), "Placement constraint of type memberOf must have an expression."},
		{"volume name", input(func(i in, c ct) { i.Volumes = volume(types.Volume{Name: new("a b")}) }),
			"Volume name 'a b' contains invalid characters."},
		{"volume twice", input(func(i in, c ct) { i.Volumes = []types.Volume{{Name: new("v")}, {Name: new("v")}} }),
			"Volume name 'v' is used more than once."},
		{"volume of two kinds", input(func(i in, c ct) {
			i.Volumes = volume(types.Volume{Name: new("v"), Host: &types.HostVolumeProperties{SourcePath: new("/a")},
				DockerVolumeConfiguration: &types.DockerVolumeConfiguration{}})
		}), "Volume 'v' must have at most one of host, dockerVolumeConfiguration, efsVolumeConfiguration, " +
			"fsxWindowsFileServerVolumeConfiguration and s3filesVolumeConfiguration."},
		{"ports of none", input(func(i in, c ct) { i.NetworkMode, c.PortMappings = "none", ports(80, 0) }),
			"When networkMode=none, port mappings are not supported."},
		{"protocol", input(func(i in, c ct) {
			c.PortMappings = mapping(types.PortMapping{ContainerPort: new(int32(1)), Protocol: "sctp"})
		}),
			"Invalid protocol 'sctp' in the port mappings of container 'web'. The protocol must be tcp or udp."},
		{"host port", input(func(i in, c ct) { c.PortMappings = ports(80, 65536) }),
			"Invalid 'hostPort' setting for container 'web'. The port must be between 0 and 65535."},
		{"port name twice", input(func(i in, c ct) {
			c.PortMappings = []types.PortMapping{{ContainerPort: new(int32(1)), Name: new("p")}, {ContainerPort: new(int32(2)),
				Name: new("p")}}
		}), "Port mapping name 'p' is used more than once in container 'web'."},
		{"range", input(func(i in, c ct) { c.PortMappings = mapping(types.PortMapping{ContainerPortRange: new("80")}) }),
			"Invalid containerPortRange '80' for container 'web'. Write it as first-last."},
		{"range backwards", input(func(i in, c ct) { c.PortMappings = mapping(types.PortMapping{ContainerPortRange: new("90-80")}) }),
			"Invalid containerPortRange '90-80' for container 'web'. Ports are between 1 and 65535."},
		{"range and port", input(func(i in, c ct) {
			c.PortMappings = mapping(types.PortMapping{ContainerPortRange: new("80-90"), ContainerPort: new(int32(80))})
		}), "A port mapping of container 'web' has both containerPortRange and containerPort or hostPort."},
		{"hostname", input(func(i in, c ct) { i.NetworkMode, c.Hostname = "awsvpc", new("h") }),
			"Hostname is not supported on container when networkMode=awsvpc."},
		{"memory", input(func(i in, c ct) { c.Memory = new(int32(5)) }),
			"Invalid setting for container 'web'. 'memory' must be at least 6 MiB."},
		{"no health command", input(func(i in, c ct) { c.HealthCheck = &types.HealthCheck{} }),
			"Health check of container 'web' must have a command."},
		{"health command", input(func(i in, c ct) { c.HealthCheck = &types.HealthCheck{Command: []string{"CMD"}} }),
			"Health check command of container 'web' must not be empty."},
		{"stop timeout", input(func(i in, c ct) { c.StopTimeout = new(int32(1)) }),
			"Granular stop timeout on container 'web' must be at least 2 seconds."},
		{"environment", input(func(i in, c ct) { c.Environment = []types.KeyValuePair{{Name: new("A=B")}} }),
			"Environment variable name 'A=B' of container 'web' is not valid."},
		{"restart period", input(func(i in, c ct) {
			c.RestartPolicy = &types.ContainerRestartPolicy{Enabled: new(true), RestartAttemptPeriod: new(int32(59))}
		}), "Restart attempt period of container 'web' must be between 60 and 1800 seconds."},
		{"volumes from", input(func(i in, c ct) { c.VolumesFrom = []types.VolumeFrom{{SourceContainer: new("x")}} }),
			"Container 'web' cannot use the volumes of container 'x' because it does not exist"},
		{"condition", input(func(i in, c ct) {
			c.DependsOn = depends("s", "SOON")
			i.ContainerDefinitions = []types.ContainerDefinition{side("s", func(ct) {})}
		}), "Invalid dependency condition 'SOON'. The condition must be one of START, COMPLETE, SUCCESS or HEALTHY."},
		{"Fargate json-file", fargate(func(i in, c ct) { c.LogConfiguration = &types.LogConfiguration{LogDriver: "json-file"} }),
			"json-file is not a valid log driver. Must be one of [awslogs,splunk,awsfirelens]"},
		{"Fargate host path", fargate(func(i in, c ct) {
			i.Volumes = volume(types.Volume{Name: new("v"), Host: &types.HostVolumeProperties{SourcePath: new("/a")}})
		}), "Fargate does not support 'host.sourcePath' of volume 'v'."},
		{"Fargate tmpfs", fargate(func(i in, c ct) {
			c.LinuxParameters = &types.LinuxParameters{Tmpfs: []types.Tmpfs{{ContainerPath: new("/t"), Size: 1}}}
		}), "Fargate does not support 'linuxParameters.tmpfs' of container 'web'."},
		{"Fargate capability", fargate(func(i in, c ct) {
			c.LinuxParameters = &types.LinuxParameters{Capabilities: &types.KernelCapabilities{Add: []string{"NET_ADMIN"}}}
		}), "Fargate does not support adding Linux capabilities other than SYS_PTRACE to container 'web'."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Normalise(tt.in)
			if model.ErrorCode(err) != "ClientException" || err.Error() != "ClientException: "+tt.want {
				t.Errorf("got  %v\nwant ClientException: %s", err, tt.want)
			}
		})
	}
}

func TestTooManyContainers(t *testing.T) {
	_, err := Normalise(input(func(i in, c ct) {
		for n := range 10 {
			i.ContainerDefinitions = append(i.ContainerDefinitions, side(fmt.Sprint("s", n), func(ct) {}))
		}
	}))
	if err == nil || err.Error() != "ClientException: Too many containers." {
		t.Errorf("eleven containers: %v", err)
	}
}

// TestCompatibilities: what is not for Fargate is accepted, and only drops Fargate, unless Fargate was required.
func TestCompatibilities(t *testing.T) {
	everywhere := []types.Compatibility{"EC2", "FARGATE", "MANAGED_INSTANCES"}
	for _, tt := range []struct {
		name   string
		change func(in, ct)
		want   []types.Compatibility
	}{
		{"bridge", func(i in, c ct) {}, []types.Compatibility{"EXTERNAL", "EC2"}},
		{"awsvpc without sizes", func(i in, c ct) { i.NetworkMode = "awsvpc" }, []types.Compatibility{"EC2"}},
		{"awsvpc with sizes", func(i in, c ct) { i.NetworkMode, i.Cpu, i.Memory = "awsvpc", new("256"), new("512") }, everywhere},
		{"stopTimeout 121", func(i in, c ct) {
			i.NetworkMode, i.Cpu, i.Memory, c.StopTimeout = "awsvpc", new("256"), new("512"), new(int32(121))
		}, []types.Compatibility{"EC2"}},
		{"startTimeout 121", func(i in, c ct) {
			i.NetworkMode, i.Cpu, i.Memory, c.StartTimeout = "awsvpc", new("256"), new("512"), new(int32(121))
		}, everywhere},
	} {
		def, err := Normalise(input(tt.change))
		if err != nil || !slices.Equal(def.Compatibilities, tt.want) {
			t.Errorf("%s: %v %v, want %v", tt.name, def.Compatibilities, err, tt.want)
		}
	}
}

func TestSupports(t *testing.T) {
	def := &types.TaskDefinition{Compatibilities: []types.Compatibility{"EC2", "FARGATE"}}
	for _, tt := range []struct {
		requires []types.Compatibility
		launch   types.LaunchType
		want     bool
	}{
		{nil, "FARGATE", true}, {nil, "EC2", true}, {nil, "EXTERNAL", false},
		{[]types.Compatibility{"FARGATE"}, "EC2", true}, {[]types.Compatibility{"EC2"}, "FARGATE", false},
	} {
		def.RequiresCompatibilities = tt.requires
		if got := Supports(def, tt.launch); got != tt.want {
			t.Errorf("required %v, launch type %s: %v", tt.requires, tt.launch, got)
		}
	}
}

func TestNeedsNeuron(t *testing.T) {
	def := &types.TaskDefinition{ContainerDefinitions: []types.ContainerDefinition{{}, {
		ResourceRequirements: []types.ResourceRequirement{{Type: types.ResourceTypeNeuronDevice, Value: new("1")}}}}}
	if !NeedsNeuron(def) {
		t.Error("a container asks for a device")
	}
	if def.ContainerDefinitions = def.ContainerDefinitions[:1]; NeedsNeuron(def) {
		t.Error("none asks for a device")
	}
}

// TestAttributes: the attributes that a definition with everything requires, in order.
func TestAttributes(t *testing.T) {
	def, err := Normalise(fargate(func(i in, c ct) {
		i.TaskRoleArn, i.ExecutionRoleArn = new("t"), new("e")
		i.EphemeralStorage = &types.EphemeralStorage{SizeInGiB: 30}
		i.Volumes = []types.Volume{{Name: new("v"), EfsVolumeConfiguration: &types.EFSVolumeConfiguration{FileSystemId: new("fs")}}}
		c.Image = new("123456789012.dkr.ecr.us-east-1.amazonaws.com/web:1")
		c.LogConfiguration = &types.LogConfiguration{LogDriver: "awslogs", Options: map[string]string{"awslogs-group": "g", "awslogs-region": "r"}}
		c.Secrets = []types.Secret{{Name: new("A"), ValueFrom: new("arn:aws:secretsmanager:us-east-1:0:secret:a")},
			{Name: new("B"), ValueFrom: new("parameter")}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"com.amazonaws.ecs.capability.docker-remote-api.1.17", "com.amazonaws.ecs.capability.docker-remote-api.1.18",
		"com.amazonaws.ecs.capability.docker-remote-api.1.19", "com.amazonaws.ecs.capability.docker-remote-api.1.25",
		"com.amazonaws.ecs.capability.ecr-auth", "com.amazonaws.ecs.capability.logging-driver.awslogs",
		"com.amazonaws.ecs.capability.task-iam-role", "ecs.capability.efs", "ecs.capability.execution-role-awslogs",
		"ecs.capability.execution-role-ecr-pull", "ecs.capability.extensible-ephemeral-storage",
		"ecs.capability.secrets.asm.environment-variables", "ecs.capability.secrets.ssm.environment-variables",
		"ecs.capability.task-eni",
	}
	var got []string
	for _, a := range def.RequiresAttributes {
		got = append(got, *a.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("attributes\n got %q\nwant %q", got, want)
	}
}

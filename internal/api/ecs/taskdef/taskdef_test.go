package taskdef

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// input is a definition that is right in every way; each test breaks one thing.
func input(change func(in *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition)) *ecs.RegisterTaskDefinitionInput {
	in := &ecs.RegisterTaskDefinitionInput{Family: new("web")}
	c := types.ContainerDefinition{Name: new("web"), Image: new("nginx"), Memory: new(int32(100))}
	change(in, &c)
	in.ContainerDefinitions = append([]types.ContainerDefinition{c}, in.ContainerDefinitions...)
	return in
}

func fargate(change func(in *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition)) *ecs.RegisterTaskDefinitionInput {
	return input(func(in *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
		in.RequiresCompatibilities = []types.Compatibility{types.CompatibilityFargate}
		in.NetworkMode, in.Cpu, in.Memory = types.NetworkModeAwsvpc, new("256"), new("512")
		change(in, c)
	})
}

type (
	in = *ecs.RegisterTaskDefinitionInput
	ct = *types.ContainerDefinition
)

func depends(on string, condition types.ContainerCondition) []types.ContainerDependency {
	return []types.ContainerDependency{{ContainerName: new(on), Condition: condition}}
}

func side(name string, change func(ct)) types.ContainerDefinition {
	c := types.ContainerDefinition{Name: new(name), Image: new("side"), Memory: new(int32(10)), Essential: new(false)}
	change(&c)
	return c
}

func ports(container, host int32) []types.PortMapping {
	return []types.PortMapping{{ContainerPort: new(container), HostPort: new(host)}}
}

func TestNormaliseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   in
		want string
	}{
		{"no family", input(func(i in, c ct) { i.Family = nil }), "Family contains invalid characters."},
		{"bad family", input(func(i in, c ct) { i.Family = new("a b") }), "Family contains invalid characters."},
		{"no containers", &ecs.RegisterTaskDefinitionInput{Family: new("a")}, "Container list cannot be empty."},
		{"no name", input(func(i in, c ct) { c.Name = nil }), "Container.name should not be null or empty."},
		{"no image", input(func(i in, c ct) { c.Image = new("") }), "Container.image should not be null or empty."},
		{"bad image", input(func(i in, c ct) { c.Image = new("a b") }), "Container.image contains invalid characters."},
		{"no memory", input(func(i in, c ct) { c.Memory = nil }),
			"Invalid setting for container 'web'. At least one of 'memory' or 'memoryReservation' must be specified."},
		{"no essential", input(func(i in, c ct) { c.Essential = new(false) }), "Task definition doesn't have any essential container."},
		{"little cpu", input(func(i in, c ct) { i.Cpu = new("127") }), "Invalid 'cpu' setting for task. For more information, see " +
			"the Troubleshooting section of the Amazon ECS Developer Guide."},
		{"Fargate without cpu", fargate(func(i in, c ct) { i.Cpu = nil }),
			"Fargate requires that 'cpu' be defined at the task level."},
		{"Fargate without memory", fargate(func(i in, c ct) { i.Memory = nil }),
			"Fargate requires that 'memory' be defined at the task level."},
		{"Fargate pair", fargate(func(i in, c ct) { i.Memory = new("4 GB") }), "No Fargate configuration exists for given values: " +
			"256 CPU, 4096 memory. See the Amazon ECS documentation for the valid values."},
		{"Fargate bridge", fargate(func(i in, c ct) { i.NetworkMode = types.NetworkModeBridge }),
			"Fargate only supports network mode ‘awsvpc’."},
		{"Fargate awslogs", fargate(func(i in, c ct) {
			c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverAwslogs,
				Options: map[string]string{"awslogs-group": "g", "awslogs-region": "r"}}
		}), "Fargate requires task definition to have execution role ARN to support log driver awslogs."},
		{"Fargate ECR", fargate(func(i in, c ct) { c.Image = new("123456789012.dkr.ecr.us-east-1.amazonaws.com/a:b") }),
			"Fargate requires task definition to have execution role ARN to support ECR images."},
		{"Fargate privileged", fargate(func(i in, c ct) { c.Privileged = new(true) }),
			"Fargate does not support 'privileged' of container 'web'."},
		{"Fargate stopTimeout", fargate(func(i in, c ct) { c.StopTimeout = new(int32(121)) }),
			"Fargate supports a 'stopTimeout' of at most 120 seconds, container 'web' has 121."},
		{"awsvpc ports", input(func(i in, c ct) { i.NetworkMode, c.PortMappings = "awsvpc", ports(80, 8080) }),
			"When networkMode=awsvpc, the host ports and container ports in port mappings must match."},
		{"host ports", input(func(i in, c ct) { i.NetworkMode, c.PortMappings = "host", ports(80, 8080) }),
			"When networkMode=host, the host ports and container ports in port mappings must match."},
		{"container port", input(func(i in, c ct) { c.PortMappings = ports(0, 80) }),
			"Invalid 'containerPort' setting for container 'web'. The port must be between 1 and 65535."},
		{"container over task", input(func(i in, c ct) { i.Memory, c.Memory = new("512"), new(int32(513)) }),
			"The 'memory' setting for container is greater than for the task"},
		{"cpu over task", input(func(i in, c ct) { i.Cpu, c.Cpu = new("256"), 257 }),
			"The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'."},
		{"reservation over memory", input(func(i in, c ct) { c.MemoryReservation = new(int32(101)) }),
			"Invalid setting for container 'web'. 'memoryReservation' must not be greater than 'memory'."},
		{"depends on nothing", input(func(i in, c ct) { c.DependsOn = depends("x", "START") }),
			"Cannot depend on container + 'x' because it does not exist"},
		{"success of essential", input(func(i in, c ct) {
			c.DependsOn = depends("s", "SUCCESS")
			i.ContainerDefinitions = []types.ContainerDefinition{side("s", func(s ct) { s.Essential = nil })}
		}), "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container"},
		{"healthy without check", input(func(i in, c ct) {
			c.DependsOn = depends("s", "HEALTHY")
			i.ContainerDefinitions = []types.ContainerDefinition{side("s", func(s ct) {})}
		}), "A dependency container with HEALTHY condition must have health check configured"},
		{"cycle", input(func(i in, c ct) {
			c.DependsOn = depends("s", "START")
			i.ContainerDefinitions = []types.ContainerDefinition{side("s", func(s ct) { s.DependsOn = depends("web", "START") })}
		}), "Container dependsOn contains a cycle"},
		{"unknown volume", input(func(i in, c ct) {
			c.MountPoints = []types.MountPoint{{SourceVolume: new("v"), ContainerPath: new("/v")}}
		}), "Unknown volume 'v'."},
		{"health interval", input(func(i in, c ct) {
			c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "true"}, Interval: new(int32(4))}
		}), "Health check interval of container 'web' must be between 5 and 300."},
		{"twice", input(func(i in, c ct) { i.ContainerDefinitions = []types.ContainerDefinition{side("web", func(ct) {})} }),
			"Container name 'web' is used more than once."},
		{"secrets without role", input(func(i in, c ct) { c.Secrets = []types.Secret{{Name: new("A"), ValueFrom: new("b")}} }),
			"When you are specifying container secrets, you must also specify a value for 'executionRoleArn'."},
		{"links", input(func(i in, c ct) { i.NetworkMode, c.Links = "awsvpc", []string{"a"} }),
			"Links are not supported when networkMode=awsvpc."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Normalise(tt.in)
			if model.ErrorCode(err) != "ClientException" || err.Error() != "ClientException: "+tt.want {
				t.Errorf("got  %v\nwant ClientException: %s", err, tt.want)
			}
		})
	}
}

// TestNormaliseSeed is the issue's own example, as it stands.
func TestNormaliseSeed(t *testing.T) {
	def, err := Normalise(&ecs.RegisterTaskDefinitionInput{
		Family: new("webserver"), NetworkMode: "awsvpc", Memory: new("512"), Cpu: new("256"),
		RequiresCompatibilities: []types.Compatibility{"FARGATE"},
		ContainerDefinitions:    []types.ContainerDefinition{{Name: new("web"), Image: new("nginx"), Memory: new(int32(100)), Cpu: 99}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := types.TaskDefinition{
		Family: new("webserver"), NetworkMode: "awsvpc", Memory: new("512"), Cpu: new("256"),
		RequiresCompatibilities: []types.Compatibility{"FARGATE"},
		Compatibilities:         []types.Compatibility{"EC2", "FARGATE", "MANAGED_INSTANCES"},
		RequiresAttributes: []types.Attribute{
			{Name: new("com.amazonaws.ecs.capability.docker-remote-api.1.18")}, {Name: new("ecs.capability.task-eni")}},
		Volumes: []types.Volume{}, PlacementConstraints: []types.TaskDefinitionPlacementConstraint{},
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: new("web"), Image: new("nginx"), Memory: new(int32(100)), Cpu: 99, Essential: new(true),
			Environment: []types.KeyValuePair{}, MountPoints: []types.MountPoint{}, PortMappings: []types.PortMapping{},
			VolumesFrom: []types.VolumeFrom{}, SystemControls: []types.SystemControl{},
		}},
	}
	if !reflect.DeepEqual(def, want) {
		t.Errorf("got  %s\nwant %s", pretty(def), pretty(want))
	}
}

func pretty(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestNormaliseDefaults(t *testing.T) {
	def, err := Normalise(input(func(i in, c ct) {
		i.Cpu, i.Memory = new("1 vCPU"), new("2 GB")
		c.PortMappings = []types.PortMapping{{ContainerPort: new(int32(80))}}
		c.HealthCheck = &types.HealthCheck{Command: []string{"CMD-SHELL", "true"}}
		c.StopTimeout = new(int32(300))
		c.RestartPolicy = &types.ContainerRestartPolicy{Enabled: new(true)}
	}))
	if err != nil {
		t.Fatal(err)
	}
	c := def.ContainerDefinitions[0]
	if *def.Cpu != "1024" || *def.Memory != "2048" {
		t.Errorf("task size %s, %s; want 1024, 2048", *def.Cpu, *def.Memory)
	}
	if p := c.PortMappings[0]; *p.HostPort != 0 || p.Protocol != "tcp" {
		t.Errorf("bridge port: %s", pretty(p))
	}
	if h := c.HealthCheck; *h.Interval != 30 || *h.Timeout != 5 || *h.Retries != 3 || h.StartPeriod != nil {
		t.Errorf("health check: %s", pretty(h))
	}
	if *c.RestartPolicy.RestartAttemptPeriod != 300 {
		t.Errorf("restart policy: %s", pretty(c.RestartPolicy))
	}
	if want := []types.Compatibility{"EXTERNAL", "EC2"}; !slices.Equal(def.Compatibilities, want) {
		t.Errorf("compatibilities %v, want %v", def.Compatibilities, want)
	}
	names := map[string]bool{}
	for _, a := range def.RequiresAttributes {
		names[*a.Name] = true
	}
	for _, n := range []string{"ecs.capability.container-health-check", "ecs.capability.container-ordering"} {
		if !names[n] {
			t.Errorf("requiresAttributes lacks %s: %s", n, pretty(def.RequiresAttributes))
		}
	}
}

func TestNormaliseHostPorts(t *testing.T) {
	for mode, want := range map[types.NetworkMode]int32{"awsvpc": 80, "host": 80, "bridge": 0, "": 0} {
		def, err := Normalise(input(func(i in, c ct) {
			i.NetworkMode, c.PortMappings = mode, []types.PortMapping{{ContainerPort: new(int32(80))}}
		}))
		if err != nil {
			t.Fatal(err)
		}
		if got := *def.ContainerDefinitions[0].PortMappings[0].HostPort; got != want {
			t.Errorf("mode %q: host port %d, want %d", mode, got, want)
		}
	}
}

// TestNormaliseLeavesInput: what the caller passed is not changed, also behind pointers and in slices.
func TestNormaliseLeavesInput(t *testing.T) {
	make := func() in {
		return input(func(i in, c ct) {
			i.Cpu = new(".5 vCPU")
			c.PortMappings = []types.PortMapping{{ContainerPort: new(int32(80))}}
			c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "true"}}
		})
	}
	request, before := make(), make()
	if _, err := Normalise(request); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(request, before) {
		t.Errorf("the request changed:\n%s\n%s", pretty(request), pretty(before))
	}
}

// TestNormaliseIsStable: a normalised definition registers again as itself (terraform plan after apply).
func TestNormaliseIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]types.NetworkMode{"", "bridge", "host", "awsvpc"}).Draw(t, "mode")
		request := input(func(i in, c ct) {
			i.NetworkMode = mode
			i.Cpu = rapid.SampledFrom([]*string{nil, new("256"), new("1 vCPU"), new(".25 vcpu")}).Draw(t, "cpu")
			i.Memory = rapid.SampledFrom([]*string{nil, new("512"), new("2GB"), new("0.5 gb")}).Draw(t, "memory")
			for _, p := range rapid.SliceOfN(rapid.Int32Range(1, 65535), 0, 3).Draw(t, "ports") {
				c.PortMappings = append(c.PortMappings, types.PortMapping{ContainerPort: &p})
			}
			if rapid.Bool().Draw(t, "check") {
				c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "true"}}
			}
		})
		first, err := Normalise(request)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Normalise(&ecs.RegisterTaskDefinitionInput{
			Family: first.Family, NetworkMode: first.NetworkMode, Cpu: first.Cpu, Memory: first.Memory,
			ContainerDefinitions: first.ContainerDefinitions, Volumes: first.Volumes,
			PlacementConstraints: first.PlacementConstraints,
		})
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Fatalf("%v\nfirst %s\nagain %s", err, pretty(first), pretty(again))
		}
	})
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{"1024": 1024, "1 vCPU": 1024, ".5vcpu": 512, "0.25 VCPU": 256, "x": 0, "1 GB": 0, "-1": 0,
		"": 0, "1e3": 0, "0.3": 0, "99999999999999999999": 0} {
		if got, ok := ParseCPU(s); got != want || ok != (want > 0) {
			t.Errorf("ParseCPU(%q) = %d, %v; want %d", s, got, ok, want)
		}
	}
	for s, want := range map[string]int64{"512": 512, "2 GB": 2048, "0.5gb": 512, "512 MB": 512, "1 vCPU": 0} {
		if got, ok := ParseMemory(s); got != want || ok != (want > 0) {
			t.Errorf("ParseMemory(%q) = %d, %v; want %d", s, got, ok, want)
		}
	}
}

func TestFargateSize(t *testing.T) {
	good := [][2]int64{{256, 512}, {256, 2048}, {512, 1024}, {1024, 8192}, {4096, 30720}, {8192, 16384}, {8192, 20480},
		{16384, 122880}, {32768, 122880}}
	bad := [][2]int64{{256, 4096}, {256, 513}, {512, 512}, {8192, 17408}, {16384, 33792}, {128, 512}, {32768, 61441}, {0, 0}}
	for _, p := range good {
		if !FargateSize(p[0], p[1]) {
			t.Errorf("%v must be a Fargate size", p)
		}
	}
	for _, p := range bad {
		if FargateSize(p[0], p[1]) {
			t.Errorf("%v must be no Fargate size", p)
		}
	}
}

func TestRunnable(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   in
		want string // "" when it runs
	}{
		{"plain", input(func(in, ct) {}), ""},
		{"json-file", input(func(i in, c ct) { c.LogConfiguration = &types.LogConfiguration{LogDriver: "json-file"} }), ""},
		{"syslog", input(func(i in, c ct) { c.LogConfiguration = &types.LogConfiguration{LogDriver: "syslog"} }),
			"Berth does not support the log driver syslog yet (container 'web')."},
		{"secrets", input(func(i in, c ct) {
			i.ExecutionRoleArn, c.Secrets = new("r"), []types.Secret{{Name: new("A"), ValueFrom: new("b")}}
		}), ""},
		{"efs", input(func(i in, c ct) {
			i.Volumes = []types.Volume{{Name: new("v"), EfsVolumeConfiguration: &types.EFSVolumeConfiguration{FileSystemId: new("f")}}}
		}), ""}, // what a machine does not know, its task says
	} {
		t.Run(tt.name, func(t *testing.T) {
			def, err := Normalise(tt.in)
			if err != nil {
				t.Fatalf("it must register: %v", err)
			}
			got := Runnable(&def)
			if (tt.want == "") != (got == nil) || (got != nil && got.Error() != "InvalidParameterException: "+tt.want) {
				t.Errorf("Runnable: %v, want %q", got, tt.want)
			}
		})
	}
}

func TestOverride(t *testing.T) {
	def, err := Normalise(fargate(func(in, ct) {}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Override(&def, &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{{Name: new("x")}}},
		"FARGATE"); err == nil ||
		err.Error() != "InvalidParameterException: Override for container named x is not a container in the TaskDefinition." {
		t.Errorf("unknown container: %v", err)
	}
	o, err := Override(&def, &types.TaskOverride{Cpu: new("1 vCPU"), Memory: new("2 GB")}, "FARGATE")
	if err != nil || *o.Cpu != "1024" || *o.Memory != "2048" {
		t.Errorf("sizes are normalised: %v %s", err, pretty(o))
	}
	if _, err := Override(&def, &types.TaskOverride{Memory: new("8 GB")}, "FARGATE"); model.ErrorCode(err) != "ClientException" {
		t.Errorf("a size that Fargate does not have: %v", err)
	}
}

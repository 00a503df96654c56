package taskdef

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Bounds of a container (ecs.md 1.2 and the SDK's model).
const (
	minMemory        = 6 // MiB
	maxEnvFiles      = 10
	maxPortRanges    = 100
	maxIgnoredCodes  = 50
	minStopTimeout   = 2
	minStartTimeout  = 2
	defaultInterval  = 30
	defaultTimeout   = 5
	defaultRetries   = 3
	defaultRestart   = 300
	minRestartPeriod = 60
	maxRestartPeriod = 1800
)

var (
	imagePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_:./@#-]{0,254}$`)
	rangePattern = regexp.MustCompile(`^(\d{1,5})-(\d{1,5})$`)
)

// normaliseContainer checks c on its own and fills in its defaults. c's slices are replaced, never changed in place.
func normaliseContainer(c *types.ContainerDefinition, def *types.TaskDefinition) error {
	if err := checkIdentity(c); err != nil {
		return err
	}
	if err := checkContainerSize(c, def); err != nil {
		return err
	}
	if log := c.LogConfiguration; log != nil && log.LogDriver == types.LogDriverAwslogs &&
		(log.Options["awslogs-region"] == "" || log.Options["awslogs-group"] == "") {
		return refuse("Log driver awslogs requires options: awslogs-region, awslogs-group")
	}
	if c.Essential == nil {
		c.Essential = new(true)
	}
	c.Environment = filled(c.Environment)
	c.MountPoints = filled(c.MountPoints)
	c.VolumesFrom = filled(c.VolumesFrom)
	c.SystemControls = filled(c.SystemControls)
	if err := normalisePorts(c, def.NetworkMode); err != nil {
		return err
	}
	if err := checkNetworkFields(c, def.NetworkMode); err != nil {
		return err
	}
	if err := normaliseHealthCheck(c); err != nil {
		return err
	}
	return normaliseLifecycle(c)
}

func checkIdentity(c *types.ContainerDefinition) error {
	switch {
	case value(c.Name) == "":
		return refuse("Container.name should not be null or empty.")
	case !namePattern.MatchString(*c.Name):
		return refuse("Container.name contains invalid characters.")
	case value(c.Image) == "":
		return refuse("Container.image should not be null or empty.")
	case !imagePattern.MatchString(*c.Image):
		return refuse("Container.image contains invalid characters.")
	}
	return nil
}

func checkContainerSize(c *types.ContainerDefinition, def *types.TaskDefinition) error {
	name := *c.Name
	if c.Memory == nil && c.MemoryReservation == nil && def.Memory == nil {
		return refuse("Invalid setting for container '%s'. At least one of 'memory' or 'memoryReservation' must be specified.", name)
	}
	if c.Memory != nil && *c.Memory < minMemory {
		return refuse("Invalid setting for container '%s'. 'memory' must be at least %d MiB.", name, minMemory)
	}
	if c.MemoryReservation != nil && *c.MemoryReservation < minMemory {
		return refuse("Invalid setting for container '%s'. 'memoryReservation' must be at least %d MiB.", name, minMemory)
	}
	if c.Memory != nil && c.MemoryReservation != nil && *c.MemoryReservation > *c.Memory {
		return refuse("Invalid setting for container '%s'. 'memoryReservation' must not be greater than 'memory'.", name)
	}
	if c.Cpu < 0 {
		return refuse("Invalid setting for container '%s'. 'cpu' must not be negative.", name)
	}
	if memory := amount(def.Memory); memory > 0 {
		if int64(number(c.Memory)) > memory {
			return refuse("The 'memory' setting for container is greater than for the task")
		}
		if int64(number(c.MemoryReservation)) > memory {
			return refuse("The 'memoryReservation' setting for container is greater than the 'memory' setting for the task")
		}
	}
	return nil
}

func normalisePorts(c *types.ContainerDefinition, mode types.NetworkMode) error {
	c.PortMappings = filled(c.PortMappings)
	if mode == types.NetworkModeNone && len(c.PortMappings) > 0 {
		return refuse("When networkMode=none, port mappings are not supported.")
	}
	ranges, named := 0, map[string]bool{}
	for i := range c.PortMappings {
		p := &c.PortMappings[i]
		if p.ContainerPortRange != nil {
			ranges++
		}
		if err := normalisePort(p, value(c.Name), mode); err != nil {
			return err
		}
		if name := value(p.Name); name != "" {
			if named[name] {
				return refuse("Port mapping name '%s' is used more than once in container '%s'.", name, value(c.Name))
			}
			named[name] = true
		}
	}
	if ranges > maxPortRanges {
		return refuse("Container '%s' has more than %d port ranges.", value(c.Name), maxPortRanges)
	}
	return nil
}

func normalisePort(p *types.PortMapping, container string, mode types.NetworkMode) error {
	switch p.Protocol {
	case "":
		p.Protocol = types.TransportProtocolTcp
	case types.TransportProtocolTcp, types.TransportProtocolUdp:
	default:
		return refuse("Invalid protocol '%s' in the port mappings of container '%s'. The protocol must be tcp or udp.", p.Protocol,
			container)
	}
	if p.ContainerPortRange != nil {
		return checkPortRange(p, container, mode)
	}
	port := number(p.ContainerPort)
	if port < 1 || port > 65535 {
		return refuse("Invalid 'containerPort' setting for container '%s'. The port must be between 1 and 65535.", container)
	}
	host := number(p.HostPort)
	if host < 0 || host > 65535 {
		return refuse("Invalid 'hostPort' setting for container '%s'. The port must be between 0 and 65535.", container)
	}
	switch mode {
	case types.NetworkModeAwsvpc, types.NetworkModeHost:
		if host != 0 && host != port {
			return refuse("When networkMode=%s, the host ports and container ports in port mappings must match.", mode)
		}
		host = port
	}
	p.HostPort = new(host)
	return nil
}

func checkPortRange(p *types.PortMapping, container string, mode types.NetworkMode) error {
	if p.ContainerPort != nil || p.HostPort != nil {
		return refuse("A port mapping of container '%s' has both containerPortRange and containerPort or hostPort.", container)
	}
	if mode == types.NetworkModeHost {
		return refuse("containerPortRange of container '%s' needs the network mode bridge or awsvpc.", container)
	}
	m := rangePattern.FindStringSubmatch(*p.ContainerPortRange)
	if m == nil {
		return refuse("Invalid containerPortRange '%s' for container '%s'. Write it as first-last.", *p.ContainerPortRange, container)
	}
	first, _ := strconv.Atoi(m[1]) // five digits at most
	last, _ := strconv.Atoi(m[2])
	if first < 1 || last > 65535 || first > last {
		return refuse("Invalid containerPortRange '%s' for container '%s'. Ports are between 1 and 65535.", *p.ContainerPortRange,
			container)
	}
	return nil
}

// checkNetworkFields refuses what a task with its own network interface cannot have.
func checkNetworkFields(c *types.ContainerDefinition, mode types.NetworkMode) error {
	switch {
	case len(c.Links) > 0 && mode != "" && mode != types.NetworkModeBridge:
		return refuse("Links are not supported when networkMode=%s.", mode)
	case mode != types.NetworkModeAwsvpc:
		return nil
	case value(c.Hostname) != "":
		return refuse("Hostname is not supported on container when networkMode=awsvpc.")
	case len(c.ExtraHosts) > 0:
		return refuse("Extra hosts are not supported on container when networkMode=awsvpc.")
	case truth(c.DisableNetworking):
		return refuse("Disable networking is not supported on container when networkMode=awsvpc.")
	}
	return nil
}

func normaliseHealthCheck(c *types.ContainerDefinition) error {
	if c.HealthCheck == nil {
		return nil
	}
	h := *c.HealthCheck
	name := value(c.Name)
	if len(h.Command) == 0 {
		return refuse("Health check of container '%s' must have a command.", name)
	}
	switch first := h.Command[0]; {
	case first != "CMD" && first != "CMD-SHELL" && first != "NONE":
		// A bare command is what the console sends; Docker and ECS read it as CMD-SHELL.
		if len(h.Command) > 1 {
			return refuse("Health check command of container '%s' must start with CMD or CMD-SHELL.", name)
		}
	case first != "NONE" && len(h.Command) == 1:
		return refuse("Health check command of container '%s' must not be empty.", name)
	}
	fields := []struct {
		name     string
		p        **int32
		min, max int32
		def      int32 // 0: left out
	}{
		{"interval", &h.Interval, 5, 300, defaultInterval},
		{"timeout", &h.Timeout, 2, 60, defaultTimeout},
		{"retries", &h.Retries, 1, 10, defaultRetries},
		{"startPeriod", &h.StartPeriod, 0, 300, 0},
	}
	for _, f := range fields {
		if *f.p == nil {
			if f.def != 0 {
				*f.p = new(f.def)
			}
			continue
		}
		if n := **f.p; n < f.min || n > f.max {
			return refuse("Health check %s of container '%s' must be between %d and %d.", f.name, name, f.min, f.max)
		}
	}
	c.HealthCheck = &h
	return nil
}

func normaliseLifecycle(c *types.ContainerDefinition) error {
	name := value(c.Name)
	if c.StopTimeout != nil && *c.StopTimeout < minStopTimeout {
		return refuse("Granular stop timeout on container '%s' must be at least %d seconds.", name, minStopTimeout)
	}
	if c.StartTimeout != nil && *c.StartTimeout < minStartTimeout {
		return refuse("Granular start timeout on container '%s' must be at least %d seconds.", name, minStartTimeout)
	}
	if len(c.EnvironmentFiles) > maxEnvFiles {
		return refuse("Container '%s' has more than %d environment files.", name, maxEnvFiles)
	}
	for _, e := range c.Environment {
		if n := value(e.Name); n == "" || strings.ContainsAny(n, "=\x00") {
			return refuse("Environment variable name '%s' of container '%s' is not valid.", n, name)
		}
	}
	return normaliseRestart(c)
}

func normaliseRestart(c *types.ContainerDefinition) error {
	if c.RestartPolicy == nil {
		return nil
	}
	r := *c.RestartPolicy
	if r.Enabled == nil {
		return refuse("Restart policy of container '%s' must have 'enabled'.", value(c.Name))
	}
	if len(r.IgnoredExitCodes) > maxIgnoredCodes {
		return refuse("Restart policy of container '%s' has more than %d ignored exit codes.", value(c.Name), maxIgnoredCodes)
	}
	if r.RestartAttemptPeriod == nil {
		if *r.Enabled {
			r.RestartAttemptPeriod = new(int32(defaultRestart))
		}
	} else if n := *r.RestartAttemptPeriod; n < minRestartPeriod || n > maxRestartPeriod {
		return refuse("Restart attempt period of container '%s' must be between %d and %d seconds.",
			value(c.Name), minRestartPeriod, maxRestartPeriod)
	}
	c.RestartPolicy = &r
	return nil
}

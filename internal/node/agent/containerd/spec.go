package containerd

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
	"github.com/berthdev/berth/internal/node/recovery/note"
)

// blueprint is what an OCI spec is made from.
type blueprint struct {
	spec    agent.ContainerSpec
	image   imageConfig
	user    execUser
	machine machine
	cgroup  string // of the container
	pids    int64
	bounded bool   // its disk is
	note    string // the file in which its run is noted
	init    string // the program that initProcessEnabled puts before the container's own
}

// ociSpec draws the OCI spec. warnings name what was asked for and is given in a weaker form, because this machine lacks
// something. Errors: *agent.Error named CannotCreateContainerError.
func ociSpec(b blueprint) (spec *specs.Spec, warnings []string, err error) {
	d := &b.spec.Definition
	if err := refuse(b.spec); err != nil {
		return nil, nil, err
	}
	spec = &specs.Spec{
		Version:     "1.2.0",
		Root:        &specs.Root{Path: "rootfs", Readonly: deref(d.ReadonlyRootFilesystem)},
		Hostname:    b.spec.Hostname,
		Annotations: annotations(b),
		Linux: &specs.Linux{
			CgroupsPath:   b.cgroup,
			Namespaces:    namespacesOf(b.spec),
			Sysctl:        sysctls(b.spec),
			Resources:     resources(b, &warnings),
			MaskedPaths:   slices.Clone(maskedPaths),
			ReadonlyPaths: slices.Clone(readonlyPaths),
		},
	}
	if spec.Process, err = process(b, &warnings); err != nil {
		return nil, nil, err
	}
	if spec.Mounts, err = mounts(b.spec, b.machine); err != nil {
		return nil, nil, err
	}
	if err := addDevices(spec, b.spec); err != nil {
		return nil, nil, err
	}
	if initEnabled(d) {
		if b.init == "" {
			return nil, nil, cannotCreate("container %s asks for initProcessEnabled, and this berth was built without its init "+
				"program; build it with: make build", b.spec.Name)
		}
		addInit(spec, b.init)
	}
	if deref(d.Privileged) {
		return spec, warnings, privileged(spec)
	}
	b.machine.confine(spec)
	spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
	if b.bounded {
		holdProject(spec.Linux.Seccomp)
	}
	return spec, warnings, nil
}

// annotations are for the shim.
func annotations(b blueprint) map[string]string {
	limit, _ := json.Marshal(b.spec.LogBound) // numbers and flags always can be
	return map[string]string{groupKey: b.spec.TaskID, note.Annotation: b.note, bound.Annotation: string(limit)}
}

func cannotCreate(format string, args ...any) *agent.Error {
	return &agent.Error{Name: "CannotCreateContainerError", Message: fmt.Sprintf(format, args...)}
}

// refuse names what the definition asks for and this runtime cannot do.
func refuse(spec agent.ContainerSpec) error {
	d := &spec.Definition
	for _, option := range d.DockerSecurityOptions {
		if option != "no-new-privileges" && option != "no-new-privileges:true" {
			return cannotCreate("container %s asks for the dockerSecurityOption %q, which Berth does not support; only "+
				"no-new-privileges is", spec.Name, option)
		}
	}
	if spec.PIDMode == types.PidModeTask {
		return cannotCreate("the task asks for pidMode task, which Berth does not support; remove it, or use host")
	}
	if spec.IPCMode == types.IpcModeTask {
		return cannotCreate("the task asks for ipcMode task, which Berth does not support; remove it, or use host")
	}
	return nil
}

func namespacesOf(spec agent.ContainerSpec) []specs.LinuxNamespace {
	all := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}}
	if spec.PIDMode != types.PidModeHost {
		all = append(all, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if spec.IPCMode != types.IpcModeHost {
		all = append(all, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	if spec.NetnsPath != "" {
		all = append(all, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: spec.NetnsPath})
	}
	if !deref(spec.Definition.Privileged) {
		all = append(all, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return all
}

// sysctls are the definition's systemControls over Docker's defaults, which let a process without privileges listen below
// port 1024 and ping, in its own network namespace only.
func sysctls(spec agent.ContainerSpec) map[string]string {
	all := map[string]string{}
	if spec.NetnsPath != "" {
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
		all["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	for _, s := range spec.Definition.SystemControls {
		all[deref(s.Namespace)] = deref(s.Value)
	}
	return all
}

func process(b blueprint, warnings *[]string) (*specs.Process, error) {
	d := &b.spec.Definition
	args := arguments(d, b.image)
	if len(args) == 0 {
		return nil, cannotCreate("no command specified: neither the definition of container %s nor its image %s has a command; "+
			"set command", b.spec.Name, b.spec.Image.Ref)
	}
	caps, err := capabilities(d, b.user, b.machine, warnings)
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(d, b.machine, warnings)
	if err != nil {
		return nil, err
	}
	zero := 0
	return &specs.Process{
		Terminal:        deref(d.PseudoTerminal),
		User:            specs.User{UID: b.user.uid, GID: b.user.gid, AdditionalGids: b.user.groups},
		Args:            args,
		Env:             environment(b),
		Cwd:             firstOf(deref(d.WorkingDirectory), b.image.WorkingDir, "/"),
		Capabilities:    caps,
		Rlimits:         limits,
		NoNewPrivileges: len(d.DockerSecurityOptions) > 0,
		OOMScoreAdj:     &zero,
	}, nil
}

// arguments are entryPoint and command; an entryPoint of the definition makes the image's command void, as in Docker.
func arguments(d *types.ContainerDefinition, image imageConfig) []string {
	entry, command := d.EntryPoint, d.Command
	if len(entry) == 0 {
		entry = image.Entrypoint
		if len(command) == 0 {
			command = image.Cmd
		}
	}
	return append(slices.Clone(entry), command...)
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is defaults, the image's variables and the container's; of equal names the later one counts.
func environment(b blueprint) []string {
	all := []string{defaultPath}
	if b.spec.Hostname != "" {
		all = append(all, "HOSTNAME="+b.spec.Hostname)
	}
	if deref(b.spec.Definition.PseudoTerminal) {
		all = append(all, "TERM=xterm")
	}
	if b.user.home != "" {
		all = append(all, "HOME="+b.user.home)
	}
	all = append(append(all, b.image.Env...), b.spec.Env...)
	at := map[string]int{}
	var result []string
	for _, kv := range all {
		name, _, _ := strings.Cut(kv, "=")
		if i, ok := at[name]; ok {
			result[i] = kv
			continue
		}
		at[name] = len(result)
		result = append(result, kv)
	}
	return result
}

func initEnabled(d *types.ContainerDefinition) bool {
	return d.LinuxParameters != nil && deref(d.LinuxParameters.InitProcessEnabled)
}

// initPath is where the init program appears in a container, as with docker run --init.
const initPath = "/sbin/docker-init"

// addInit puts an init before the container's own program; it reaps orphans and passes signals on.
func addInit(spec *specs.Spec, program string) {
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: initPath, Type: "bind", Source: program,
		Options: []string{"bind", "ro", "nosuid"}})
	spec.Process.Args = append([]string{initPath, "--"}, spec.Process.Args...)
}

func firstOf(candidates ...string) string {
	for _, s := range candidates {
		if s != "" {
			return s
		}
	}
	return ""
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func absolute(p string) bool { return path.IsAbs(p) && !slices.Contains(strings.Split(p, "/"), "..") }

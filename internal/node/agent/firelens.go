package agent

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// FirelensSpec is how a container's lines reach its task's log router.
type FirelensSpec struct {
	Dir string // of the router's socket, fluent.sock; the router can write it
	Tag string
}

// The names that FireLens gives to what a router finds.
const (
	firelensSocket = "/var/run/fluent.sock"
	firelensPort   = "24224"
)

// firelensFiles are where routers look for their configuration.
var firelensFiles = map[types.FirelensConfigurationType]string{
	types.FirelensConfigurationTypeFluentbit: "/fluent-bit/etc/fluent-bit.conf",
	types.FirelensConfigurationTypeFluentd:   "/fluentd/etc/fluent.conf",
}

// router is the task's log router; nil when it has none.
func router(all []*container) *container {
	i := slices.IndexFunc(all, func(c *container) bool { return c.def.FirelensConfiguration != nil })
	if i < 0 {
		return nil
	}
	return all[i]
}

// routed tells whether the container's lines go to the task's log router.
func (c *container) routed() bool {
	return c.def.LogConfiguration != nil && c.def.LogConfiguration.LogDriver == types.LogDriverAwsfirelens
}

// refuseFirelens names what of a task's FireLens cannot be.
func refuseFirelens(all []*container) *Error {
	cannot := func(format string, args ...any) *Error {
		return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(format, args...)}
	}
	r := router(all)
	for _, c := range all {
		switch f := c.def.FirelensConfiguration; {
		case f != nil && c != r:
			return cannot("containers %s and %s both have a firelensConfiguration; a task has one log router", r.name(), c.name())
		case f != nil && firelensFiles[f.Type] == "":
			return cannot("container %s asks for the firelensConfiguration type %q; fluentbit and fluentd are supported", c.name(), f.Type)
		case f != nil && f.Options["config-file-type"] != "" && f.Options["config-file-type"] != "file":
			return cannot("container %s asks for a log router's configuration from %s; put it into the image, with config-file-type file", c.name(),
				f.Options["config-file-type"])
		case c.routed() && r == nil:
			return cannot("container %s has the log driver awsfirelens, and no container of the task has a firelensConfiguration", c.name())
		case c.routed() && c == r:
			return cannot("container %s is the task's log router: its own lines need another log driver", c.name())
		}
		if c.routed() {
			for name, value := range c.def.LogConfiguration.Options {
				if strings.ContainsAny(name+value, "\r\n") {
					return cannot("the log option %q of container %s has several lines", name, c.name())
				}
			}
		}
	}
	return nil
}

// afterRouter has those whose lines go to the router start after it and stop before it.
func afterRouter(all []*container) {
	r := router(all)
	if r == nil {
		return
	}
	for _, c := range all {
		if c != r && c.routed() && !dependsOn(c, r.name()) {
			c.def.DependsOn = append(slices.Clone(c.def.DependsOn), types.ContainerDependency{ContainerName: new(r.name()), Condition: types.ContainerConditionStart})
		}
	}
}

// firelensDir is the folder of the router's socket.
func (t *task) firelensDir() string { return filepath.Join(t.dir, "firelens") }

// firelens is how the container's lines reach the router; nil when they go elsewhere.
func (t *task) firelens(c *container) *FirelensSpec {
	if !c.routed() {
		return nil
	}
	return &FirelensSpec{Dir: t.firelensDir(), Tag: c.name() + "-firelens-" + t.id}
}

// routerMount is the folder in which the router makes its socket.
func (t *task) routerMount(c *container) (folder, Mount, bool) {
	if c.def.FirelensConfiguration == nil {
		return folder{}, Mount{}, false
	}
	return folder{path: t.firelensDir(), mode: 0o777, scoped: true}, Mount{Type: "bind", Source: t.firelensDir(), Destination: filepath.Dir(firelensSocket), TaskScoped: true}, true
}

// routerFile is the router's configuration.
func (t *task) routerFile(c *container) (generated, bool) {
	f := c.def.FirelensConfiguration
	if f == nil {
		return generated{}, false
	}
	text := fluentBit(t.as.Task, c, t.containers, t.mode)
	if f.Type == types.FirelensConfigurationTypeFluentd {
		text = fluentd(t.as.Task, c, t.containers, t.mode)
	}
	return generated{file{filepath.Join(t.filesDir(), c.name()+".firelens.conf"), []byte(text)}, firelensFiles[f.Type]}, true
}

// firelensEnv tells a routed container where the router listens for programs that speak to it themselves.
func (t *task) firelensEnv(env *environ, c *container) {
	r := router(t.containers)
	if r == nil || !c.routed() {
		return
	}
	host := "127.0.0.1"
	if t.mode == types.NetworkModeBridge {
		host = ""
		if info := t.netInfo(r); info != nil {
			host = info.IPv4
		}
	}
	if host != "" && t.mode != types.NetworkModeNone {
		env.set("FLUENT_HOST", host)
		env.set("FLUENT_PORT", firelensPort)
	}
}

// listens is where a router listens for its task.
func listens(mode types.NetworkMode) string {
	if mode == types.NetworkModeBridge {
		return "0.0.0.0"
	}
	return "127.0.0.1"
}

// marks are what enable-ecs-log-metadata adds to each record.
func marks(task *model.Task, c *container) [][2]string {
	if v := c.def.FirelensConfiguration.Options["enable-ecs-log-metadata"]; v != "" {
		if on, err := strconv.ParseBool(v); err == nil && !on {
			return nil
		}
	}
	return [][2]string{{"ecs_cluster", task.Cluster}, {"ecs_task_arn", task.ARN}, {"ecs_task_definition", task.Family + ":" + strconv.Itoa(task.Revision)}}
}

// The options of awsfirelens that are not the output's.
var ownOptions = []string{"include-pattern", "exclude-pattern", "log-driver-buffer-limit"}

// fluentBit is Fluent Bit's configuration, as the ECS agent writes it.
func fluentBit(task *model.Task, router *container, all []*container, mode types.NetworkMode) string {
	var b strings.Builder
	section := func(name string, lines ...[2]string) {
		fmt.Fprintf(&b, "[%s]\n", name)
		for _, l := range lines {
			fmt.Fprintf(&b, "    %s %s\n", l[0], l[1])
		}
		b.WriteByte('\n')
	}
	section("INPUT", [2]string{"Name", "tcp"}, [2]string{"Listen", "127.0.0.1"}, [2]string{"Port", "8877"}, [2]string{"Tag", "firelens-healthcheck"})
	section("INPUT", [2]string{"Name", "forward"}, [2]string{"unix_path", firelensSocket})
	section("INPUT", [2]string{"Name", "forward"}, [2]string{"Listen", listens(mode)}, [2]string{"Port", firelensPort})
	for _, c := range all {
		if !c.routed() {
			continue
		}
		for _, f := range [][2]string{{"include-pattern", "Regex"}, {"exclude-pattern", "Exclude"}} {
			if p := c.def.LogConfiguration.Options[f[0]]; p != "" {
				section("FILTER", [2]string{"Name", "grep"}, [2]string{"Match", c.name() + "-firelens*"}, [2]string{f[1], "log " + p})
			}
		}
	}
	if m := marks(task, router); len(m) > 0 {
		lines := [][2]string{{"Name", "record_modifier"}, {"Match", "*"}}
		for _, kv := range m {
			lines = append(lines, [2]string{"Record", kv[0] + " " + kv[1]})
		}
		section("FILTER", lines...)
	}
	if file := router.def.FirelensConfiguration.Options["config-file-value"]; file != "" {
		fmt.Fprintf(&b, "@INCLUDE %s\n\n", file)
	}
	section("OUTPUT", [2]string{"Name", "null"}, [2]string{"Match", "firelens-healthcheck"})
	for _, c := range all {
		if lines := outputOptions(c); len(lines) > 0 {
			section("OUTPUT", append(lines, [2]string{"Match", c.name() + "-firelens*"})...)
		}
	}
	return b.String()
}

// fluentd is Fluentd's configuration.
func fluentd(task *model.Task, router *container, all []*container, mode types.NetworkMode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<source>\n    @type unix\n    path %s\n</source>\n\n<source>\n    @type forward\n    bind %s\n    port %s\n</source>\n\n", firelensSocket,
		listens(mode), firelensPort)
	for _, c := range all {
		if !c.routed() {
			continue
		}
		for _, f := range [][2]string{{"include-pattern", "regexp"}, {"exclude-pattern", "exclude"}} {
			if p := c.def.LogConfiguration.Options[f[0]]; p != "" {
				fmt.Fprintf(&b, "<filter %s-firelens**>\n    @type grep\n    <%s>\n        key log\n        pattern /%s/\n    </%s>\n</filter>\n\n", c.name(), f[1],
					strings.ReplaceAll(p, "/", `\/`), f[1])
			}
		}
	}
	if m := marks(task, router); len(m) > 0 {
		b.WriteString("<filter **>\n    @type record_transformer\n    <record>\n")
		for _, kv := range m {
			fmt.Fprintf(&b, "        %s %s\n", kv[0], kv[1])
		}
		b.WriteString("    </record>\n</filter>\n\n")
	}
	if file := router.def.FirelensConfiguration.Options["config-file-value"]; file != "" {
		fmt.Fprintf(&b, "@include %s\n\n", file)
	}
	for _, c := range all {
		lines := outputOptions(c)
		if len(lines) == 0 {
			continue
		}
		fmt.Fprintf(&b, "<match %s-firelens**>\n", c.name())
		for _, l := range lines {
			fmt.Fprintf(&b, "    %s %s\n", l[0], l[1])
		}
		b.WriteString("</match>\n\n")
	}
	return b.String()
}

// outputOptions are those that a routed container gives to its output, in their order.
func outputOptions(c *container) (lines [][2]string) {
	if !c.routed() {
		return nil
	}
	options := c.def.LogConfiguration.Options
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if !slices.Contains(ownOptions, name) {
			lines = append(lines, [2]string{name, options[name]})
		}
	}
	return lines
}

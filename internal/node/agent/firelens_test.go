package agent_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

func routedTo(options map[string]string) func(*types.ContainerDefinition) {
	return func(c *types.ContainerDefinition) {
		c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverAwsfirelens, Options: options}
	}
}

func routing(kind types.FirelensConfigurationType, options map[string]string) func(*types.ContainerDefinition) {
	return func(c *types.ContainerDefinition) {
		c.FirelensConfiguration = &types.FirelensConfiguration{Type: kind, Options: options}
	}
}

const wantFluentBit = `[INPUT]
    Name tcp
    Listen 127.0.0.1
    Port 8877
    Tag firelens-healthcheck

[INPUT]
    Name forward
    unix_path /var/run/fluent.sock

[INPUT]
    Name forward
    Listen 127.0.0.1
    Port 24224

[FILTER]
    Name grep
    Match app-firelens*
    Exclude log ^DEBUG

[FILTER]
    Name record_modifier
    Match *
    Record ecs_cluster default
    Record ecs_task_arn ARN
    Record ecs_task_definition FAMILY

@INCLUDE /extra.conf

[OUTPUT]
    Name null
    Match firelens-healthcheck

[OUTPUT]
    Format json
    Name stdout
    Match app-firelens*

`

// TestFirelens: the router starts first with its configuration and a folder for its socket, and the others are told where it listens.
func TestFirelens(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(types.NetworkModeAwsvpc,
			container("app", "serve", routedTo(map[string]string{"Name": "stdout", "Format": "json", "exclude-pattern": "^DEBUG"})),
			container("router", "serve", routing(types.FirelensConfigurationTypeFluentbit, map[string]string{"config-file-type": "file", "config-file-value": "/extra.conf"}))))
		o := r.reach(id, model.Running)
		if named(o, "app").StartedAt.Before(named(o, "router").StartedAt) {
			t.Error("the router started last")
		}
		spec, _ := r.machine.Runtime.Spec(id + "-router")
		mount := func(at string) agent.Mount {
			i := slices.IndexFunc(spec.Mounts, func(m agent.Mount) bool { return m.Destination == at })
			if i < 0 {
				t.Fatalf("nothing is mounted at %s: %+v", at, spec.Mounts)
			}
			return spec.Mounts[i]
		}
		if m := mount("/var/run"); m.ReadOnly || !m.TaskScoped {
			t.Errorf("%+v", m)
		}
		text, err := os.ReadFile(mount("/fluent-bit/etc/fluent-bit.conf").Source)
		if err != nil {
			t.Fatal(err)
		}
		task := r.set[id].Task
		got := strings.NewReplacer(task.ARN, "ARN", fmt.Sprint(task.Family, ":", task.Revision), "FAMILY").Replace(string(text))
		if got != wantFluentBit {
			t.Errorf("configuration\n%s", got)
		}
		app, _ := r.machine.Runtime.Spec(id + "-app")
		if !slices.Contains(app.Env, "FLUENT_HOST=127.0.0.1") || !slices.Contains(app.Env, "FLUENT_PORT=24224") {
			t.Errorf("environment %q", app.Env)
		}
		for name, c := range map[string]struct {
			def  types.TaskDefinition
			says string
		}{
			"no router": {define(types.NetworkModeNone, container("app", "serve", routedTo(nil))), "no container of the task has a firelensConfiguration"},
			"two": {define(types.NetworkModeNone, container("a", "serve", routing("fluentbit", nil)), container("b", "serve", routing("fluentd", nil))),
				"both have a firelensConfiguration"},
			"s3": {define(types.NetworkModeNone, container("a", "serve", routing("fluentbit", map[string]string{"config-file-type": "s3"}))), "from s3"},
			"lines": {define(types.NetworkModeNone, container("a", "serve", routing("fluentbit", nil)), container("b", "serve", routedTo(map[string]string{"Name": "x\n[OUTPUT]"}))),
				"several lines"},
		} {
			id := r.add(c.def)
			if o := r.reach(id, model.Stopped); !strings.Contains(o.StoppedReason, c.says) {
				t.Errorf("%s: %q", name, o.StoppedReason)
			}
		}
	})
}

package agent

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// environment is the container's complete environment, as KEY=value in the order of first mention. What the definition and its
// overrides say beats what Berth says, and of several mentions the last one counts.
func (t *task) environment(c *container, hostname string) []string {
	env := newEnviron()
	env.set("HOSTNAME", hostname)
	if t.agent.cfg.Region != "" {
		env.set("AWS_REGION", t.agent.cfg.Region)
		env.set("AWS_DEFAULT_REGION", t.agent.cfg.Region)
	}
	if t.as.Task.LaunchType == types.LaunchTypeFargate {
		env.set("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE")
	} else {
		env.set("AWS_EXECUTION_ENV", "AWS_ECS_EC2")
	}
	t.metadata(env, c)
	t.firelensEnv(env, c)
	if len(c.rec.GPUs) > 0 {
		env.set("NVIDIA_VISIBLE_DEVICES", strings.Join(c.rec.GPUs, ","))
	}
	for _, kv := range t.agent.cfg.Env {
		if key, value, ok := strings.Cut(kv, "="); ok {
			env.set(key, value)
		}
	}
	given := t.given(c)
	setFiles(env, given.Files)
	for _, kv := range c.def.Environment {
		if name := deref(kv.Name); name != "" {
			env.set(name, deref(kv.Value))
		}
	}
	for _, s := range given.Secrets {
		env.set(s.Name, s.Value)
	}
	return env.list()
}

// metadata tells the container where its metadata and its role's credentials are. A container without a network cannot reach them.
func (t *task) metadata(env *environ, c *container) {
	base := t.agent.cfg.MetadataURL
	switch t.mode {
	case types.NetworkModeHost:
		base = t.agent.cfg.HostMetadataURL
	case types.NetworkModeNone:
		base = ""
	}
	if base == "" {
		return
	}
	env.set("ECS_CONTAINER_METADATA_URI", base+"/v3/"+c.id)
	env.set("ECS_CONTAINER_METADATA_URI_V4", base+"/v4/"+c.id)
	env.set("ECS_AGENT_URI", base+"/api/"+c.id)
	if t.rec.CredentialsID == "" {
		return
	}
	path := "/v2/credentials/" + t.rec.CredentialsID
	if t.mode == types.NetworkModeHost { // SDKs look for a relative URI at 169.254.170.2, which is not ours in the machine's network
		env.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", base+path)
	} else {
		env.set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", path)
	}
}

// role is the ARN of the role whose credentials the task's containers get, "" for none.
func (t *task) role() string {
	if r := deref(t.as.Task.Overrides.TaskRoleArn); r != "" {
		return r
	}
	return deref(t.def.TaskRoleArn)
}

// environ is a set of variables that remembers the order in which they were first set.
type environ struct {
	order  []string
	values map[string]string
}

func newEnviron() *environ { return &environ{values: map[string]string{}} }

func (e *environ) set(key, value string) {
	if _, ok := e.values[key]; !ok {
		e.order = append(e.order, key)
	}
	e.values[key] = value
}

func (e *environ) list() []string {
	all := make([]string, len(e.order))
	for i, k := range e.order {
		all[i] = k + "=" + e.values[k]
	}
	return all
}

// Package handout gathers what a task's containers are given at their start: secrets of the Secrets Manager and the Parameter Store,
// environment files, passwords of registries. It asks the APIs for them as the task's execution role, once, in the order in which they
// stand in the task definition, and says in Amazon's words what cannot be had.
package handout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Source is where the values are. Its calls are allowed or refused as the execution role's.
type Source struct {
	Region string // the task's
	// Invoke calls an operation of a service in a region, JSON in and out.
	Invoke func(ctx context.Context, region, service, operation string, in []byte) ([]byte, error)
	// Object reads a file of at most limit bytes by its S3 ARN.
	Object func(ctx context.Context, arn string, limit int64) ([]byte, error)
}

// Needed tells whether a container is given anything at its start.
func Needed(c *types.ContainerDefinition) bool {
	return len(c.Secrets) > 0 || len(c.EnvironmentFiles) > 0 || Login(c) != "" || c.LogConfiguration != nil && len(c.LogConfiguration.SecretOptions) > 0
}

// Login is the secret with the container's password for its image's registry; "" for none.
func Login(c *types.ContainerDefinition) string {
	if c.RepositoryCredentials == nil {
		return ""
	}
	return value(c.RepositoryCredentials.CredentialsParameter)
}

// Gather fetches what the containers are given. fargate chooses the words. An error of *model.TaskError is the task's end; others pass.
func Gather(ctx context.Context, from Source, containers []types.ContainerDefinition, fargate bool) (*model.Handout, error) {
	g := &gatherer{Source: from, fargate: fargate, parameters: map[string]string{}, secrets: map[string]secretValue{}}
	if err := g.fetchParameters(ctx, containers); err != nil {
		return nil, err
	}
	out := &model.Handout{Containers: map[string]model.ContainerHandout{}}
	for i := range containers {
		c := &containers[i]
		if !Needed(c) {
			continue
		}
		h, err := g.container(ctx, c)
		if err != nil {
			return nil, err
		}
		out.Containers[value(c.Name)] = h
	}
	return out, nil
}

type gatherer struct {
	Source
	fargate    bool
	parameters map[string]string      // by valueFrom
	secrets    map[string]secretValue // by what was asked for
}

func (g *gatherer) container(ctx context.Context, c *types.ContainerDefinition) (h model.ContainerHandout, err error) {
	for _, s := range c.Secrets {
		v, err := g.value(ctx, value(s.ValueFrom))
		if err != nil {
			return h, err
		}
		h.Secrets = append(h.Secrets, model.Variable{Name: value(s.Name), Value: v})
	}
	if c.LogConfiguration != nil && len(c.LogConfiguration.SecretOptions) > 0 {
		h.LogOptions = map[string]string{}
		for _, s := range c.LogConfiguration.SecretOptions {
			if h.LogOptions[value(s.Name)], err = g.value(ctx, value(s.ValueFrom)); err != nil {
				return h, err
			}
		}
	}
	if id := Login(c); id != "" {
		if h.Registry, err = g.login(ctx, id); err != nil {
			return h, err
		}
	}
	for _, f := range c.EnvironmentFiles {
		more, err := g.file(ctx, f)
		if err != nil {
			return h, err
		}
		h.Files = append(h.Files, more...)
	}
	return h, nil
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// value is what a valueFrom stands for.
func (g *gatherer) value(ctx context.Context, from string) (string, error) {
	if !isSecret(from) {
		return g.parameters[from], nil
	}
	ref, err := ParseSecretARN(from)
	if err != nil {
		return "", g.failed("unable to retrieve secret from asm: " + err.Error())
	}
	return g.secret(ctx, ref)
}

// failed is the task's end for a sentence of the agent's.
func (g *gatherer) failed(sentence string) error {
	return &model.TaskError{Name: "ResourceInitializationError", Message: "unable to pull secrets or registry auth: execution resource retrieval failed: " + sentence}
}

// passes tells whether an error is of the moment.
func passes(err error) bool {
	code := model.ErrorCode(err)
	return code == "" || code == "ServiceUnavailable" || code == "ThrottlingException" || code == "InternalFailure"
}

const retried = "service call has been retried 1 time(s): "

// noSecret says that a secret was not to be had.
func (g *gatherer) noSecret(id, region string, err error) error {
	if passes(err) {
		return err
	}
	if g.fargate {
		return g.failed("unable to retrieve secret from asm: " + retried + "failed to fetch secret " + id + " from secrets manager: " + err.Error())
	}
	return &model.TaskError{Name: "ResourceInitializationError", Message: fmt.Sprintf("fetching secret data from AWS Secrets Manager in region %s: secret %s: %v", region, id, err)}
}

// noParameters says that parameters were not to be had.
func (g *gatherer) noParameters(region string, invalid []string, err error) error {
	if err != nil && passes(err) {
		return err
	}
	what := "invalid parameters: " + strings.Join(invalid, ",")
	if err != nil {
		what = err.Error()
	}
	if g.fargate {
		if err == nil {
			what = "invalid ssm parameters: " + strings.Join(invalid, ", ")
		}
		return g.failed("unable to retrieve secrets from ssm: " + retried + what)
	}
	return &model.TaskError{Name: "ResourceInitializationError", Message: fmt.Sprintf("fetching secret data from SSM Parameter Store in %s: %s", region, what)}
}

// batch is how many parameters one request names.
const batch = 10

// fetchParameters fetches all parameters that the containers name, a region after another.
func (g *gatherer) fetchParameters(ctx context.Context, containers []types.ContainerDefinition) error {
	byRegion := map[string][]string{}
	note := func(all []types.Secret) {
		for _, s := range all {
			from := value(s.ValueFrom)
			region := g.regionOf(from)
			if !isSecret(from) && !slices.Contains(byRegion[region], from) {
				byRegion[region] = append(byRegion[region], from)
			}
		}
	}
	for _, c := range containers {
		note(c.Secrets)
		if c.LogConfiguration != nil {
			note(c.LogConfiguration.SecretOptions)
		}
	}
	for _, region := range slices.Sorted(maps.Keys(byRegion)) {
		for names := range slices.Chunk(byRegion[region], batch) {
			if err := g.parametersOf(ctx, region, names); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *gatherer) parametersOf(ctx context.Context, region string, names []string) error {
	var out struct {
		Parameters []struct {
			Name, ARN, Value string
			Selector         string
		}
		InvalidParameters []string
	}
	if err := g.call(ctx, region, "ssm", "GetParameters", map[string]any{"Names": names, "WithDecryption": true}, &out); err != nil {
		return g.noParameters(region, nil, err)
	}
	var missing []string
	for _, name := range names {
		found := false
		for _, p := range out.Parameters {
			if sameParameter(name, p.Name+p.Selector) || name == p.ARN+p.Selector {
				g.parameters[name], found = p.Value, true
			}
		}
		if !found {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return g.noParameters(region, missing, nil)
	}
	return nil
}

// sameParameter: /x and x are one at the top level.
func sameParameter(a, b string) bool { return strings.TrimPrefix(a, "/") == strings.TrimPrefix(b, "/") }

// call invokes an operation and reads its answer into out.
func (g *gatherer) call(ctx context.Context, region, service, op string, in map[string]any, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := g.Invoke(ctx, region, service, op, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return errors.New("the answer of " + service + " cannot be read") // and not be shown
	}
	return nil
}

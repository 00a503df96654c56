package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// What the task's containers are given at their start (secrets, environment files, registries' passwords) is asked of a server when a
// container is to be made, held in memory as long as the task is managed, and written nowhere: after a restart of the agent it is asked
// again, when a container is made again.

func loginSecret(d *types.ContainerDefinition) bool {
	return d.RepositoryCredentials != nil && deref(d.RepositoryCredentials.CredentialsParameter) != ""
}

func logSecrets(d *types.ContainerDefinition) bool {
	return d.LogConfiguration != nil && len(d.LogConfiguration.SecretOptions) > 0
}

func handed(d *types.ContainerDefinition) bool {
	return len(d.Secrets) > 0 || len(d.EnvironmentFiles) > 0 || loginSecret(d) || logSecrets(d)
}

// fetchHandout asks for the handout when a container that is to be made needs something of it.
func (t *task) fetchHandout() {
	if t.handing != todo || !slices.ContainsFunc(t.containers, func(c *container) bool { return c.phase == waiting && handed(&c.def) }) {
		return
	}
	t.handing = busy
	var got *model.Handout
	t.async(t.starts, func(ctx context.Context) error {
		return attempt(ctx, func() (err error) {
			if t.agent.cfg.Handout == nil {
				return &Error{Name: "ResourceInitializationError", Message: "this node has nobody to ask for the secrets that the task's containers are given"}
			}
			got, err = t.agent.cfg.Handout(ctx, t.id)
			return err
		})
	}, func(err error) {
		if t.ending {
			return
		}
		if _, final := errors.AsType[*Error](err); err != nil && !final {
			// No server answers: it is tried until one does, and says whether the task may have them.
			t.log.Warn("what the task's containers are given at their start was not to be had; it is asked for again", "error", err)
			t.after(timeouts.AttemptLast, func() { t.handing = todo })
			return
		}
		t.handing = done
		if err != nil {
			t.failed(asError(err, "ResourceInitializationError", "fetch the secrets of the task"))
			return
		}
		t.handout = got
	})
}

// given is what the handout has for a container.
func (t *task) given(c *container) (h model.ContainerHandout) {
	if t.handout != nil {
		h = t.handout.Containers[c.name()]
	}
	return h
}

// hasHandout tells whether the container has what it is given, if it is given anything.
func (t *task) hasHandout(c *container) bool { return t.handing == done || !handed(&c.def) }

// setFiles sets the variables of environment files: of a name that stands in several, or twice in one, the first counts.
func setFiles(env *environ, files []model.Variable) {
	seen := map[string]bool{}
	for _, v := range files {
		if !seen[v.Name] {
			seen[v.Name] = true
			env.set(v.Name, v.Value)
		}
	}
}

// logConfig is the container's log configuration with the options whose values are secrets.
func (t *task) logConfig(c *container) *types.LogConfiguration {
	secret := t.given(c).LogOptions
	if len(secret) == 0 {
		return c.def.LogConfiguration
	}
	l := *c.def.LogConfiguration
	l.Options = maps.Clone(l.Options)
	if l.Options == nil {
		l.Options = map[string]string{}
	}
	maps.Copy(l.Options, secret)
	return &l
}

// pullKey tells pulls apart: one with a password is nobody else's.
func pullKey(ref string, as *model.RegistryLogin) string {
	if as == nil {
		return ref
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(as.Username), as.Username, as.Password))
	return ref + "\x00" + hex.EncodeToString(sum[:])
}

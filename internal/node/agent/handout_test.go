package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

const secretText = "correct horse battery staple"

// withSecrets is a container that is given everything that one can be given.
func withSecrets(d *types.ContainerDefinition) {
	d.Secrets = []types.Secret{{Name: new("PASSWORD"), ValueFrom: new("/p")}, {Name: new("BOTH"), ValueFrom: new("/b")}}
	d.Environment = []types.KeyValuePair{{Name: new("BOTH"), Value: new("plain")}, {Name: new("FROM"), Value: new("environment")}}
	d.EnvironmentFiles = []types.EnvironmentFile{{Value: new("arn:aws:s3:::b/a.env")}}
	d.RepositoryCredentials = &types.RepositoryCredentials{CredentialsParameter: new("registry")}
	d.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverJsonFile, SecretOptions: []types.Secret{{Name: new("max-file"), ValueFrom: new("/n")}}}
}

func handout() *model.Handout {
	return &model.Handout{Containers: map[string]model.ContainerHandout{"web": {
		Secrets:    []model.Variable{{Name: "PASSWORD", Value: secretText}, {Name: "BOTH", Value: "secret"}},
		Files:      []model.Variable{{Name: "FROM", Value: "file"}, {Name: "ONE", Value: "first"}, {Name: "ONE", Value: "second"}},
		LogOptions: map[string]string{"max-file": "3"}, Registry: &model.RegistryLogin{Username: "me", Password: secretText},
	}}}
}

// TestSecretsReachTheContainerAndNothingElse: the container's environment has them; reports and the agent's files do not.
func TestSecretsReachTheContainerAndNothingElse(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		asked := 0
		r.kill()
		r.cfg.Handout = func(context.Context, string) (*model.Handout, error) { asked++; return handout(), nil }
		r.boot()
		id := r.add(define(bridge, container("web", "nginx", withSecrets)))
		o := r.reach(id, model.Running)
		spec, _ := r.machine.Runtime.Spec(o.Containers[0].RuntimeID)
		for _, want := range []string{"PASSWORD=" + secretText, "BOTH=secret", "FROM=environment", "ONE=first"} {
			if !slices.Contains(spec.Env, want) {
				t.Errorf("the environment lacks %s: %q", want, spec.Env)
			}
		}
		if l := r.machine.Images.Login("nginx"); l.Username != "me" || l.Password != secretText {
			t.Errorf("pulled as %q", l.Username)
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		for k, v := range spec.Labels {
			if strings.Contains(v, secretText) {
				t.Errorf("label %s", k)
			}
		}
		for _, seen := range r.reports[id] {
			if text, _ := model.EncodeJSON(seen); strings.Contains(string(text), secretText) {
				t.Errorf("a report: %s", text)
			}
		}
		files := 0
		err := filepath.WalkDir(r.cfg.StateDir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			text, err := os.ReadFile(path)
			if strings.Contains(string(text), secretText) {
				t.Errorf("%s holds it", path)
			}
			return err
		})
		if err != nil || files == 0 {
			t.Errorf("%d files, %v", files, err)
		}
		// An agent that takes the task over needs nothing of it as long as the container runs.
		r.kill()
		r.boot()
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked != 1 || r.seen(id).Status != model.Running {
			t.Errorf("asked %d times, %s", asked, r.seen(id).Status)
		}
	})
}

// TestARefusedSecretEndsTheTask: with the server's sentence, and nothing was created.
func TestARefusedSecretEndsTheTask(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		r.kill()
		r.cfg.Handout = func(context.Context, string) (*model.Handout, error) {
			return nil, &agent.Error{Name: "ResourceInitializationError", Message: "unable to pull secrets or registry auth: it is not yours"}
		}
		r.boot()
		o := r.reach(r.add(define(awsvpc, container("web", "nginx", withSecrets))), model.Stopped)
		if o.StopCode != types.TaskStopCodeTaskFailedToStart || o.StoppedReason != "ResourceInitializationError: unable to pull secrets or registry auth: it is not yours" {
			t.Errorf("%s %q", o.StopCode, o.StoppedReason)
		}
		r.empty()
	})
}

// TestSecretsAreAskedForAgain: while no server answers, a task waits.
func TestSecretsAreAskedForAgain(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		away := time.Now().Add(time.Minute)
		r.kill()
		r.cfg.Handout = func(context.Context, string) (*model.Handout, error) {
			if time.Now().Before(away) {
				return nil, errors.New("no server of the cluster answers")
			}
			return handout(), nil
		}
		r.boot()
		id := r.add(define(bridge, container("web", "nginx", withSecrets)))
		time.Sleep(50 * time.Second)
		if o := r.seen(id); !o.Status.Before(model.Running) {
			t.Errorf("it is %s without its secrets", o.Status)
		}
		time.Sleep(30 * time.Second)
		r.reach(id, model.Running)
	})
}

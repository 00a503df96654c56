package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/s3"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/serve/handout"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// pathHandout is where a node asks for what a task's containers are given at their start.
const pathHandout = "/v1/task-handout"

// handoutRequest asks for a task's.
type handoutRequest struct{ Task string }

// handoutAnswer is one of the two.
type handoutAnswer struct {
	Handout *model.Handout   `json:",omitempty"`
	Refused *model.TaskError `json:",omitempty"` // the task's end
}

// handoutOf gathers a task's handout as its execution role, for the node that has the task and no other.
func (s *server) handoutOf(ctx context.Context, node, id string) (*model.Handout, error) {
	var t *model.Task
	var def *model.TaskDefinition
	s.store.View(func(r store.Reader) {
		if t, _ = store.Tasks.Get(r, id); t != nil {
			def, _ = store.TaskDefinitions.Get(r, model.TaskDefinitionKey(t.Family, t.Revision))
		}
	})
	if t == nil || def == nil || t.NodeID != node || t.Ended() {
		return nil, fmt.Errorf("task %s does not run on this node", id)
	}
	role := ""
	for _, arn := range []*string{t.Overrides.ExecutionRoleArn, def.Definition.ExecutionRoleArn} {
		if role == "" && arn != nil {
			role = *arn
		}
	}
	if role == "" {
		return nil, &model.TaskError{Name: "ResourceInitializationError", Message: "unable to pull secrets or registry auth: execution resource retrieval failed: " +
			"unable to retrieve credentials: the task definition has no executionRoleArn"}
	}
	as, err := s.executionRole(role, id)
	if err != nil {
		return nil, err
	}
	from := handout.Source{Region: s.in.Region, Object: s.objectAs(as), Invoke: func(ctx context.Context, region, service, op string, in []byte) ([]byte, error) {
		caller := as
		caller.Region = region
		return s.endpoint.Invoke(ctx, caller, service, op, in)
	}}
	return handout.Gather(ctx, from, withOverrides(def.Definition.ContainerDefinitions, t.Overrides), t.LaunchType == types.LaunchTypeFargate)
}

// executionRole is who a task's execution role is when it acts for the task.
func (s *server) executionRole(role, task string) (wire.Caller, error) {
	c, err := issueRole(s.keys, role, task)
	if refused, ok := errors.AsType[*model.Error](err); ok {
		return wire.Caller{}, &model.TaskError{Name: "ResourceInitializationError", Message: "unable to pull secrets or registry auth: execution resource " +
			"retrieval failed: unable to retrieve credentials: " + refused.Message}
	} else if err != nil {
		return wire.Caller{}, err
	}
	_, caller, err := s.keys.Secret(c.AccessKeyID, c.Token)
	return caller, err
}

// noS3 is why there is no S3: objects are on this machine alone.
func (s *server) noS3() string {
	if s.several.Load() {
		return "Berth's S3 keeps its files on one server, and this cluster has several: use another S3"
	}
	return ""
}

// objectAs reads a file of S3 by its ARN, as somebody.
func (s *server) objectAs(as wire.Caller) func(context.Context, string, int64) ([]byte, error) {
	return func(ctx context.Context, arn string, limit int64) ([]byte, error) {
		if why := s.noS3(); why != "" {
			return nil, model.Errorf("NotImplemented", "%s", why)
		}
		bucket, name, ok := strings.Cut(strings.TrimPrefix(arn, s3.ARN("")), "/")
		if !ok || !strings.HasPrefix(arn, s3.ARN("")) || name == "" {
			return nil, model.Errorf("InvalidArgument", "%q is not the ARN of an object, such as arn:aws:s3:::bucket/name.env", arn)
		}
		if err := s.keys.Allow(as, wire.Ask{Action: "s3:GetObject", Resources: []string{arn}}); err != nil {
			return nil, err
		}
		data, err := s.files.Read(ctx, bucket, name, limit)
		if err != nil {
			err = model.Errorf("NotFound", "%v", err)
		}
		return data, err
	}
}

// withOverrides are the definitions with what a task's start added to what is handed out.
func withOverrides(all []types.ContainerDefinition, o types.TaskOverride) []types.ContainerDefinition {
	all = slices.Clone(all)
	for i := range all {
		for _, c := range o.ContainerOverrides {
			if c.Name != nil && all[i].Name != nil && *c.Name == *all[i].Name {
				all[i].EnvironmentFiles = append(slices.Clone(all[i].EnvironmentFiles), c.EnvironmentFiles...)
			}
		}
	}
	return all
}

// serveHandout answers a node on another machine.
func (s *server) serveHandout(w http.ResponseWriter, r *http.Request) {
	var ask handoutRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&ask); err != nil {
		peer.WriteError(w, http.StatusBadRequest, fmt.Errorf("the request for a task's secrets cannot be read: %w", err))
		return
	}
	var answer handoutAnswer
	got, err := s.handoutOf(r.Context(), callerID(r.Context()), ask.Task)
	if refused, ok := errors.AsType[*model.TaskError](err); ok {
		answer.Refused = refused
	} else if err != nil {
		peer.WriteError(w, http.StatusServiceUnavailable, err)
		return
	}
	answer.Handout = got
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(answer) // who has gone asks again
}

// handout is the node's, when a server on this machine is in its process.
func (i *inside) handout(ctx context.Context, task string) (*model.Handout, error) {
	s, err := i.wait(ctx)
	if err != nil {
		return nil, err
	}
	return s.handoutOf(ctx, i.node, task)
}

// handout is the node's, from any server of the cluster.
func (r *remote) handout(ctx context.Context, task string) (*model.Handout, error) {
	var a handoutAnswer
	err := join.Post(ctx, &http.Client{Transport: r.servers, Timeout: timeouts.UpstreamAnswer}, pathHandout, handoutRequest{Task: task}, &a)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask a server for the task's secrets: %w", err)
	case a.Refused != nil:
		return nil, a.Refused
	}
	return a.Handout, nil
}

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/metadata"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/timeouts"
)

// pathProtect is where a server that follows asks for the protection of a task.
const pathProtect = "/v1/task-protection"

// protect asks ECS as the task's role, where the leader is.
func (s *server) protect(ctx context.Context, ask metadata.ProtectionAsk) (answer metadata.ProtectionAnswer, err error) {
	err = s.call(ctx, pathProtect, ask, &answer)
	return answer, err
}

// protectHere answers where this server leads.
func (s *server) protectHere(ctx context.Context, _ string, ask metadata.ProtectionAsk) (answer metadata.ProtectionAnswer, err error) {
	caller, err := s.keys.RoleCaller(ask.Role, ask.Task, "ecs-tasks.amazonaws.com")
	if refusal, ok := errors.AsType[*model.Error](err); ok {
		answer.Code, answer.Message = refusal.Code, refusal.Message
		return answer, nil
	}
	caller.Region = s.in.Region
	op, in := "GetTaskProtection", map[string]any{"cluster": ask.Cluster, "tasks": []string{ask.Task}}
	if ask.Change {
		op, in["protectionEnabled"] = "UpdateTaskProtection", ask.Enabled
		if ask.Minutes != nil {
			in["expiresInMinutes"] = *ask.Minutes
		}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return answer, err
	}
	out, err := s.endpoint.Invoke(ctx, caller, "ecs", op, body)
	if refusal, ok := errors.AsType[*model.Error](err); ok {
		answer.Code, answer.Message = refusal.Code, refusal.Message
		return answer, nil
	}
	if err != nil {
		return answer, err
	}
	var got struct {
		ProtectedTasks []struct {
			ProtectionEnabled bool
			ExpirationDate    float64
		}
		Failures []struct{ Reason string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return answer, err
	}
	switch {
	case len(got.Failures) > 0:
		answer.Failure = got.Failures[0].Reason
	case len(got.ProtectedTasks) > 0 && got.ProtectedTasks[0].ProtectionEnabled:
		answer.Enabled, answer.Until = true, time.UnixMilli(int64(got.ProtectedTasks[0].ExpirationDate*1000))
	}
	return answer, nil
}

// serveProtect answers a node about its own tasks, and no others.
func (s *server) serveProtect(w http.ResponseWriter, r *http.Request) {
	var ask metadata.ProtectionAsk
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&ask); err != nil {
		peer.WriteError(w, http.StatusBadRequest, fmt.Errorf("the question about a task's protection cannot be read: %w", err))
		return
	}
	if from, _ := peer.From(r.Context()); !s.hasRole(from.ID, roleRequest{Role: ask.Role, Task: ask.Task}) {
		peer.WriteError(w, http.StatusForbidden, fmt.Errorf("task %s does not run on this node with the role %s", ask.Task, ask.Role))
		return
	}
	answer, err := s.protect(r.Context(), ask)
	if err != nil {
		peer.WriteError(w, http.StatusServiceUnavailable, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // who has gone asks again
}

// protect asks the server of this process.
func (i *inside) protect(ctx context.Context, ask metadata.ProtectionAsk) (metadata.ProtectionAnswer, error) {
	s, err := i.wait(ctx)
	if err != nil {
		return metadata.ProtectionAnswer{}, err
	}
	return s.protect(ctx, ask)
}

// protect asks a server.
func (r *remote) protect(ctx context.Context, ask metadata.ProtectionAsk) (answer metadata.ProtectionAnswer, err error) {
	err = join.Post(ctx, &http.Client{Transport: r.servers, Timeout: timeouts.UpstreamAnswer}, pathNodeProtect, ask, &answer)
	return answer, err
}

// pathNodeProtect is where a node asks for the protection of its tasks.
const pathNodeProtect = "/v1/node-task-protection"

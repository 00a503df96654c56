package metadata

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
)

// ProtectionAsk asks for the protection of a task, or changes it, as the task's role.
type ProtectionAsk struct {
	Task, Cluster string
	Role          string // "" when the task has none
	Change        bool
	Enabled       bool
	Minutes       *int32 `json:",omitempty"`
}

// ProtectionAnswer is what came of it: a refusal by name, a failure of the task, or the protection.
type ProtectionAnswer struct {
	Code, Message string `json:",omitempty"` // of a refusal
	Failure       string `json:",omitempty"` // TASK_NOT_VALID and the like
	Enabled       bool
	Until         time.Time
}

// protectionBody is what a container says.
type protectionBody struct {
	ProtectionEnabled *bool
	ExpiresInMinutes  *int32
}

type protectionShape struct {
	ExpirationDate    *string
	ProtectionEnabled bool
	TaskArn           string
}

type protectionFailure struct {
	Arn    string
	Detail *string
	Reason string
}

type protectionError struct {
	Arn     string
	Code    string
	Message string
}

// protectionAnswer is the agent's answer: one of its fields.
type protectionAnswer struct {
	Protection *protectionShape   `json:"protection,omitempty"`
	Failure    *protectionFailure `json:"failure,omitempty"`
	Error      *protectionError   `json:"error,omitempty"`
}

// protection serves $ECS_AGENT_URI/task-protection/v1/state.
func (s *Server) protection(w http.ResponseWriter, r *http.Request, guard Guard, id string) {
	view, _, ok := s.cfg.Tasks.Container(id)
	if !ok || !guard(r, view) || s.cfg.Protection == nil {
		http.NotFound(w, r)
		return
	}
	if !s.limits.allow(view.Task.ID, s.cfg.Now()) {
		tooMany(w)
		return
	}
	refuse := func(status int, code, message string) {
		write(w, status, protectionAnswer{Error: &protectionError{view.Task.ARN, code, message}})
	}
	ask := ProtectionAsk{Task: view.Task.ID, Cluster: view.Task.Cluster, Role: view.RoleARN}
	switch r.Method {
	case http.MethodGet:
	case http.MethodPut:
		var body protectionBody
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&body); err != nil {
			refuse(http.StatusBadRequest, "InvalidParameterException", "UpdateTaskProtection: failed to decode request")
			return
		}
		if body.ProtectionEnabled == nil {
			refuse(http.StatusBadRequest, "InvalidParameterException", "Invalid request: does not contain 'ProtectionEnabled' field")
			return
		}
		ask.Change, ask.Enabled, ask.Minutes = true, *body.ProtectionEnabled, body.ExpiresInMinutes
	default:
		w.Header().Set("Allow", "GET, PUT")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	s.answerProtection(w, r.Context(), view, ask, refuse)
}

func (s *Server) answerProtection(w http.ResponseWriter, ctx context.Context, view *agent.View, ask ProtectionAsk, refuse func(status int, code, message string)) {
	if ask.Role == "" {
		refuse(http.StatusForbidden, "AccessDeniedException", "unable to get credentials for task: the task has no task role, as which its protection is asked for")
		return
	}
	got, err := s.cfg.Protection(ctx, ask)
	switch {
	case err != nil:
		s.cfg.Log.Warn("a task's protection cannot be asked for", "task", ask.Task, "error", err)
		refuse(http.StatusInternalServerError, "ServerException", "ecs server error")
	case got.Code != "":
		refuse(http.StatusBadRequest, got.Code, got.Message)
	case got.Failure != "":
		write(w, http.StatusOK, protectionAnswer{Failure: &protectionFailure{Arn: view.Task.ARN, Reason: got.Failure}})
	default:
		shape := &protectionShape{ProtectionEnabled: got.Enabled, TaskArn: view.Task.ARN}
		if got.Enabled {
			shape.ExpirationDate = new(got.Until.UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		write(w, http.StatusOK, protectionAnswer{Protection: shape})
	}
}

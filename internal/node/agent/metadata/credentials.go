package metadata

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// credentialsShape is what SDKs read.
type credentialsShape struct {
	RoleArn         string `json:"RoleArn"`
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string `json:"SecretAccessKey"`
	Token           string `json:"Token"`
	Expiration      string `json:"Expiration"`
}

// errorShape is the ECS agent's error of a credentials request.
type errorShape struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (s *Server) credentials(w http.ResponseWriter, r *http.Request, guard Guard, id string) {
	const prefix = "CredentialsV2Request: "
	if id == "" {
		write(w, http.StatusBadRequest, errorShape{"NoIdInRequest", prefix + "No Credential ID in the request"})
		return
	}
	view, ok := s.cfg.Tasks.Credentials(id)
	if !ok || !guard(r, view) || s.cfg.Credentials == nil {
		write(w, http.StatusBadRequest, errorShape{"InvalidIdInRequest", prefix + "Credentials not found"})
		return
	}
	if !s.limits.allow(view.Task.ID, s.cfg.Now()) {
		tooMany(w)
		return
	}
	c, err := s.issued.get(r.Context(), s.cfg.Credentials, id, view.RoleARN, view.Task.ID, s.cfg.Now())
	if err != nil {
		s.cfg.Log.Warn("a task's role gives no credentials", "task", view.Task.ID, "role", view.RoleARN, "error", err)
		write(w, http.StatusInternalServerError, errorShape{"InternalServerError", prefix + "Internal server error"})
		return
	}
	write(w, http.StatusOK, credentialsShape{
		RoleArn: view.RoleARN, AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, Token: c.Token,
		Expiration: c.Expiration.UTC().Format(time.RFC3339),
	})
}

// renewBefore is how long before their end credentials are no longer given out: longer than any SDK keeps them.
const renewBefore = 15 * time.Minute

// issued remembers the credentials of each task until they are to be renewed.
type issued struct {
	mu  *sync.Mutex
	all map[string]RoleCredentials // by credentials id
}

func newIssued() issued { return issued{mu: &sync.Mutex{}, all: map[string]RoleCredentials{}} }

func (i issued) get(ctx context.Context, from Credentials, id, role, session string, now time.Time) (RoleCredentials, error) {
	i.mu.Lock()
	c, ok := i.all[id]
	i.mu.Unlock()
	if ok && c.Expiration.Sub(now) > renewBefore {
		return c, nil
	}
	c, err := from.Issue(ctx, role, session)
	if err != nil {
		return RoleCredentials{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for old, c := range i.all { // tasks that are gone leave theirs to expire
		if !c.Expiration.After(now) {
			delete(i.all, old)
		}
	}
	i.all[id] = c
	return c, nil
}

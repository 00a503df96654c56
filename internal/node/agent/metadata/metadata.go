// Package metadata serves the task metadata endpoint, versions 3 and 4, and the credentials of task roles: what containers find at
// 169.254.170.2. The shapes are those of amazon-ecs-agent.
package metadata

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
)

// Tasks finds and measures the tasks of this node. agent.Agent is the real one.
type Tasks interface {
	// Container returns the task and the name of the container with this runtime id.
	Container(runtimeID string) (view *agent.View, name string, ok bool)
	// Credentials returns the task that the credentials of this id are for.
	Credentials(id string) (*agent.View, bool)
	// Usage measures the container with this runtime id. Errors: agent.ErrNotRunning.
	Usage(ctx context.Context, runtimeID string) (agent.Usage, error)
}

// Credentials makes temporary credentials of a role.
type Credentials interface {
	Issue(ctx context.Context, roleARN, session string) (RoleCredentials, error)
}

// RoleCredentials are temporary credentials.
type RoleCredentials struct {
	AccessKeyID     string
	SecretAccessKey string
	Token           string
	Expiration      time.Time
}

// Config is what a Server works with. Tasks is required.
type Config struct {
	Tasks       Tasks
	Credentials Credentials // nil: no task has a role's credentials

	// Protection asks for the protection of tasks; nil: tasks cannot.
	Protection func(context.Context, ProtectionAsk) (ProtectionAnswer, error)

	AvailabilityZone string
	Subnet           netip.Prefix // of awsvpc tasks; the zero Prefix leaves it out
	Now              func() time.Time
	Log              *slog.Logger
}

// Server answers containers.
type Server struct {
	cfg    Config
	limits limits
	issued issued
	meter  *meter
}

// New makes a server.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, limits: newLimits(), issued: newIssued(), meter: newMeter(cfg.Tasks)}
}

// Guard decides whether a request may see a task.
type Guard func(r *http.Request, task *agent.View) bool

// FromTask lets a request through that comes from one of the task's own addresses.
func FromTask(r *http.Request, task *agent.View) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && slices.Contains(task.Addresses(), addr.Unmap().String())
}

// Handler serves
//
//	/v4/<container>, /v4/<container>/{task,taskWithTags,stats,task/stats}, the same under /v3, /v2/credentials/<id>, and
//	/api/<container>/task-protection/v1/state
//
// to those whom guard lets through; for everybody else nothing is there. A task is answered at most 40 times a second, with bursts
// of 60.
func (s *Server) Handler(guard Guard) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version, rest, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
		id, what, _ := strings.Cut(rest, "/")
		if version == "api" && what == "task-protection/v1/state" {
			s.protection(w, r, guard, id)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		switch {
		case version == "v2" && id == "credentials":
			s.credentials(w, r, guard, what)
		case (version == "v3" || version == "v4") && id != "":
			s.metadata(w, r, guard, version, id, what)
		default:
			http.NotFound(w, r)
		}
	})
}

func (s *Server) metadata(w http.ResponseWriter, r *http.Request, guard Guard, version, id, what string) {
	subject := strings.ToUpper(version) + " task metadata handler: "
	switch what {
	case "":
		subject = strings.ToUpper(version) + " container metadata handler: "
	case "stats":
		subject = strings.ToUpper(version) + " container stats handler: "
	case "task/stats":
		subject = strings.ToUpper(version) + " task stats handler: "
	}
	view, name, ok := s.cfg.Tasks.Container(id)
	if !ok || !guard(r, view) {
		write(w, http.StatusNotFound, subject+"unable to find the container '"+id+"'")
		return
	}
	if !s.limits.allow(view.Task.ID, s.cfg.Now()) {
		tooMany(w)
		return
	}
	d := drawing{view: view, full: version == "v4", cfg: &s.cfg}
	switch what {
	case "":
		write(w, http.StatusOK, d.container(name))
	case "task":
		write(w, http.StatusOK, d.task(false))
	case "taskWithTags":
		write(w, http.StatusOK, d.task(true))
	case "stats":
		s.stats(w, r, d, subject, []string{name}, false)
	case "task/stats":
		var names []string
		for _, c := range view.Observed.Containers {
			if c.RuntimeID != "" {
				names = append(names, c.Name)
			}
		}
		s.stats(w, r, d, subject, names, true)
	default:
		http.NotFound(w, r)
	}
}

func tooMany(w http.ResponseWriter) {
	http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
}

func write(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "Internal server error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may be gone
}

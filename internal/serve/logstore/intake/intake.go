// Package intake takes the lines of other machines' containers, over the cluster port: what a node's log driver hands to the log store
// when that is in another process. A batch is answered when it is stored; one that is sent again adds nothing, so that whoever got no
// answer sends it again, to this server or another.
package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/timeouts"
)

// Sink is where lines go: the log store, or one that keeps two copies.
type Sink interface {
	Prepare(ctx context.Context, group, stream string, createGroup bool) error
	Position(ctx context.Context, group, stream, source string) (model.LogPosition, error)
	Append(ctx context.Context, batch model.LogBatch) error
}

// Bounds in bytes: of one batch, of what one node has under way, which is a node's own bound (logdriver), and of all nodes' together.
const (
	maxBatch = 2 << 20
	perNode  = 4 << 20
	inAll    = 64 << 20
)

// Config is what an Intake needs.
type Config struct {
	Sink Sink
	// From names the node that a request is from.
	From func(ctx context.Context) string
	Log  *slog.Logger
}

// Intake serves Path.
type Intake struct {
	Config
	memory *gate.Budget
	mux    *http.ServeMux
}

// Path is what an Intake's requests begin with.
const Path = "/logs/"

// New makes an Intake.
func New(c Config) *Intake {
	i := &Intake{Config: c, memory: gate.NewBudget(inAll, perNode, timeouts.LogIntake), mux: http.NewServeMux()}
	i.mux.HandleFunc("POST /logs/append", i.append)
	i.mux.HandleFunc("POST /logs/prepare", i.prepare)
	i.mux.HandleFunc("GET /logs/position", i.position)
	return i
}

// ServeHTTP implements http.Handler.
func (i *Intake) ServeHTTP(w http.ResponseWriter, r *http.Request) { i.mux.ServeHTTP(w, r) }

func (i *Intake) append(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength < 0 || r.ContentLength > maxBatch {
		i.refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("a batch of log lines has a length of at most %d bytes", maxBatch))
		return
	}
	give, err := i.memory.Take(r.Context(), i.From(r.Context()), r.ContentLength)
	if err != nil {
		i.refuse(w, http.StatusTooManyRequests, err)
		return
	}
	defer give()
	data := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(gate.DefaultPace.Body(w, r), data); err != nil {
		i.refuse(w, http.StatusBadRequest, fmt.Errorf("the batch did not arrive whole: %w", err))
		return
	}
	var batch model.LogBatch
	if err := batch.UnmarshalBinary(data); err != nil {
		i.refuse(w, http.StatusBadRequest, err)
		return
	}
	i.answer(w, nil, i.Sink.Append(r.Context(), batch))
}

// preparation is the body of a request to make a stream ready.
type preparation struct {
	Group  string `json:"group"`
	Stream string `json:"stream"`
	Create bool   `json:"create,omitempty"`
}

func (i *Intake) prepare(w http.ResponseWriter, r *http.Request) {
	var p preparation
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&p); err != nil {
		i.refuse(w, http.StatusBadRequest, fmt.Errorf("the request is malformed: %w", err))
		return
	}
	i.answer(w, nil, i.Sink.Prepare(r.Context(), p.Group, p.Stream, p.Create))
}

func (i *Intake) position(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	at, err := i.Sink.Position(r.Context(), q.Get("group"), q.Get("stream"), q.Get("source"))
	i.answer(w, at, err)
}

// answer sends v as JSON, or what err says.
func (i *Intake) answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		i.refuse(w, statusOf(err), err)
		return
	}
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that has gone asks again
}

func statusOf(err error) int {
	switch _, refused := errors.AsType[*model.TaskError](err); {
	case refused:
		return http.StatusUnprocessableEntity
	case errors.Is(err, logstore.ErrNoGroup), errors.Is(err, logstore.ErrNoStream):
		return http.StatusNotFound
	case errors.Is(err, logstore.ErrBadName):
		return http.StatusBadRequest
	case errors.Is(err, logstore.ErrDiskFull):
		return http.StatusInsufficientStorage
	}
	return http.StatusServiceUnavailable // another server may do it
}

// refuse sends err's sentence; its name too, when it has one.
func (i *Intake) refuse(w http.ResponseWriter, status int, err error) {
	refusal, ok := errors.AsType[*model.TaskError](err)
	if !ok {
		refusal = &model.TaskError{Message: err.Error()}
	}
	if status == http.StatusServiceUnavailable {
		i.Log.Debug("lines of a container were not stored", "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"name": refusal.Name, "message": refusal.Message})
}

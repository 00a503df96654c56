package copies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/timeouts"
)

// maxMessage bounds what one server sends another.
const maxMessage = 16 << 20

// ServeHTTP serves the other servers, and nobody else.
func (l *Logs) ServeHTTP(w http.ResponseWriter, r *http.Request) { l.mux.ServeHTTP(w, r) }

func (l *Logs) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(method, name string, f func(r *http.Request, body []byte) (any, error)) {
		mux.HandleFunc(method+" "+l.c.Path+name, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
			var answer any
			if err == nil {
				answer, err = f(r, body)
			}
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				w.WriteHeader(statusOf(err))
				answer = err.Error()
			}
			_ = json.NewEncoder(w).Encode(answer) // a server that has gone asks again
		})
	}
	handle("POST", "append", func(r *http.Request, body []byte) (any, error) {
		var batch model.LogBatch
		if err := batch.UnmarshalBinary(body); err != nil {
			return nil, err
		}
		return nil, l.Store.Append(r.Context(), batch)
	})
	handle("POST", "take", func(r *http.Request, body []byte) (any, error) {
		var p logstore.Piece
		if err := json.Unmarshal(body, &p); err != nil {
			return nil, err
		}
		return nil, l.Store.Take(r.Context(), p)
	})
	handle("POST", "groups", func(_ *http.Request, body []byte) (any, error) {
		var records []logstore.GroupRecord
		if err := json.Unmarshal(body, &records); err != nil {
			return nil, err
		}
		return nil, l.Store.MergeGroups(records)
	})
	handle("GET", "groups", func(*http.Request, []byte) (any, error) { return l.Store.GroupRecords() })
	handle("GET", "streams", func(r *http.Request, _ []byte) (any, error) {
		q := r.URL.Query()
		streams, err := l.Store.Streams(q.Get("group"), q.Get("prefix"), "", 0)
		if errors.Is(err, logstore.ErrNoGroup) {
			return []logstore.Stream{}, nil
		}
		return streams, err
	})
	handle("GET", "source", func(r *http.Request, _ []byte) (any, error) {
		q := r.URL.Query()
		return l.Store.Source(q.Get("group"), q.Get("stream"), q.Get("source"))
	})
	handle("POST", "scan", func(r *http.Request, body []byte) (any, error) {
		var p page
		if err := json.Unmarshal(body, &p); err != nil {
			return nil, err
		}
		err := l.read(r.Context(), &p)
		return p, err
	})
	return mux
}

// read fills a page.
func (l *Logs) read(ctx context.Context, p *page) error {
	size := 0
	for e, err := range l.Store.Scan(ctx, p.Group, p.Query) {
		if err != nil {
			return err
		}
		if len(p.Events) == pageEvents || size > pageBytes {
			p.More = true
			break
		}
		size += len(e.Message)
		p.Events = append(p.Events, e)
	}
	p.Query = logstore.Query{}
	return nil
}

// statuses are those of errors that the other side must tell apart.
var statuses = map[int]error{http.StatusNotFound: logstore.ErrNoGroup, http.StatusGone: logstore.ErrNoStream, http.StatusBadRequest: logstore.ErrBadName,
	http.StatusInsufficientStorage: logstore.ErrDiskFull}

func statusOf(err error) int {
	for status, known := range statuses {
		if errors.Is(err, known) {
			return status
		}
	}
	return http.StatusInternalServerError
}

// refusal is what another server answered instead of doing what it was asked.
type refusal struct {
	server string
	known  error // of statuses; may be nil
	text   string
}

// Error implements error.
func (r *refusal) Error() string { return fmt.Sprintf("server %s: %s", r.server, r.text) }

// Unwrap implements errors' Unwrap.
func (r *refusal) Unwrap() error { return r.known }

// ask gets something of another server.
func (l *Logs) ask(ctx context.Context, at Server, what string, v any) error {
	return l.exchange(ctx, at, http.MethodGet, what, nil, v)
}

// send gives another server something as JSON; v takes the answer unless it is nil.
func (l *Logs) send(ctx context.Context, to Server, what string, body, v any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return l.exchange(ctx, to, http.MethodPost, what, data, v)
}

// call gives another server bytes.
func (l *Logs) call(ctx context.Context, to Server, what string, data []byte, v any) error {
	return l.exchange(ctx, to, http.MethodPost, what, data, v)
}

func (l *Logs) exchange(ctx context.Context, with Server, method, what string, data []byte, v any) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.LogCopy)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://server"+l.c.Path+what, bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header["Idempotency-Key"] = nil // all is: net/http may send it again on a new connection
	answer, err := with.Client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxMessage))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		var text string
		if json.Unmarshal(body, &text) != nil {
			text = answer.Status
		}
		return &refusal{with.ID, statuses[answer.StatusCode], text}
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(body, v)
}

// query encodes names and values of a URL's query.
func query(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return q.Encode()
}

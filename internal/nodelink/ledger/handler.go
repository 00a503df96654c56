package ledger

import (
	"errors"
	"io"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/peer"
)

// The paths of the cluster port.
const (
	pathBegin  = "/v1/ledger/begin"
	pathEnd    = "/v1/ledger/end"
	pathReport = "/v1/ledger/report"
)

// maxMessage bounds a request and an answer, bytes: together reports of tasks with many containers.
const maxMessage = 32 << 20

// beginAnswer answers a Begin.
type beginAnswer struct {
	Now     nodelink.Seen
	Refused *nodelink.Refused
}

// ending is an End.
type ending struct {
	Node  string
	Epoch int64
}

// Mux is a peer.Server's.
type Mux interface {
	Handle(pattern string, who peer.Who, h http.Handler)
}

// Register serves other servers' ledgers from this one's, which is the store's while leads says so.
func Register(s Mux, local nodelink.Ledger, leads func() bool) {
	h := handler{local, leads}
	s.Handle("POST "+pathBegin, peer.Servers, h.only(h.begin))
	s.Handle("POST "+pathEnd, peer.Servers, h.only(h.end))
	s.Handle("POST "+pathReport, peer.Servers, h.only(h.report))
}

type handler struct {
	local nodelink.Ledger
	leads func() bool
}

var errNotLeading = errors.New("this server does not lead")

// only answers as the leader, with what f returns.
func (h handler) only(f func(r *http.Request, body []byte) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.leads() {
			peer.WriteError(w, http.StatusServiceUnavailable, errNotLeading)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		if err != nil {
			peer.WriteError(w, http.StatusBadRequest, err)
			return
		}
		answer, err := f(r, body)
		if bad, ok := errors.AsType[*peer.Refusal](err); ok {
			peer.WriteError(w, bad.Status, bad)
			return
		}
		if err != nil {
			peer.WriteError(w, http.StatusServiceUnavailable, err) // it may be asked again
			return
		}
		data, err := model.EncodeRow(answer)
		if err != nil {
			peer.WriteError(w, http.StatusInternalServerError, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data) // who has gone asks again
	})
}

func read(body []byte, v any) error {
	if err := model.DecodeJSON(body, v); err != nil {
		return &peer.Refusal{Status: http.StatusBadRequest, Message: "what another server's ledger asks cannot be read: " + err.Error()}
	}
	return nil
}

func (h handler) begin(r *http.Request, body []byte) (any, error) {
	var o nodelink.Opening
	if err := read(body, &o); err != nil {
		return nil, err
	}
	who, _ := peer.From(r.Context())
	o.Server = who.ID
	now, err := h.local.Begin(r.Context(), o)
	if said, ok := errors.AsType[*nodelink.Refused](err); ok {
		return beginAnswer{Refused: said}, nil
	}
	return beginAnswer{Now: now}, err
}

func (h handler) end(r *http.Request, body []byte) (any, error) {
	var e ending
	if err := read(body, &e); err != nil {
		return nil, err
	}
	return struct{}{}, h.local.End(r.Context(), e.Node, e.Epoch)
}

// atOnce is how many sessions' reports are stored at a time; the store commits them together.
const atOnce = 64

// report answers with an error's text for each session, "" for none.
func (h handler) report(r *http.Request, body []byte) (any, error) {
	var all []*entry
	if err := read(body, &all); err != nil {
		return nil, err
	}
	answers := make([]string, len(all))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, e := range all {
		if e == nil {
			continue
		}
		g.Go(func() error {
			err := h.local.Report(r.Context(), e.Node, e.Epoch, e.Items)
			if nodelink.IsStale(err) {
				answers[i], err = err.Error(), nil
			}
			return err
		})
	}
	return answers, g.Wait()
}

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/scan"
	"github.com/berthdev/berth/internal/store"
)

// runRules decides which of the registry's images may be run.
type runRules struct {
	store   store.Store
	scanner *scan.Scanner
}

func (s *server) runRules() runRules { return runRules{s.store, s.images.scanner} }

// mayRun refuses an image that a node is going to run.
func (s *server) mayRun(ctx context.Context, img *model.Image) error {
	return s.runRules().mayRun(ctx, img)
}

// rule is the rule; nil: there is none.
func (s runRules) rule() (rule *model.RunRule) {
	s.store.View(func(r store.Reader) {
		if row, ok := store.RegistrySettings.Get(r, model.RegistryKey); ok {
			rule = row.Rule
		}
	})
	return rule
}

// mayRun refuses an image that the rule does not let run. An index is judged by its images, which a node asks for next.
func (s runRules) mayRun(ctx context.Context, img *model.Image) error {
	rule := s.rule()
	if rule == nil || len(img.Children) > 0 {
		return nil
	}
	status, found, err := s.scanner.Findings(ctx, img)
	if refusal, ok := errors.AsType[*model.Error](err); ok && refusal.Code == "ScanNotFoundException" {
		_ = s.scanner.Start(ctx, img) // or somebody else has
		return errors.New("the registry's rule lets only scanned images run, and this one was not: a scan has begun, try again")
	}
	if err != nil {
		return err
	}
	return scan.Judge(*rule, status, found)
}

// serve answers berth registry rule.
func (s runRules) serve(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, rule *model.RunRule) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(rule) // who has gone asks again
	}
	mux.HandleFunc("GET /registry/rule", func(w http.ResponseWriter, r *http.Request) { answer(w, s.rule()) })
	mux.HandleFunc("POST /registry/rule", func(w http.ResponseWriter, r *http.Request) {
		var rule *model.RunRule
		if r.FormValue("off") == "" {
			rule = &model.RunRule{MaxSeverity: r.FormValue("max-severity")}
			if err := scan.CheckRule(*rule); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
		}
		err := s.store.Update(r.Context(), func(tx store.Tx) error {
			next := model.RegistrySettings{}
			if row, ok := store.RegistrySettings.Get(tx, model.RegistryKey); ok {
				next = *row
			}
			next.Rule = rule
			store.RegistrySettings.Put(tx, &next)
			return nil
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		answer(w, rule)
	})
}

// RunRuleChange is what becomes of the rule for images that are to be run.
type RunRuleChange struct {
	RequireScan, Off bool
	MaxSeverity      string
}

// RegistryRule shows the rule for images that are to be run, or changes it.
func RegistryRule(ctx context.Context, dir string, change RunRuleChange, out io.Writer) error {
	method, q := http.MethodGet, url.Values{}
	switch {
	case change.Off && (change.RequireScan || change.MaxSeverity != ""):
		return errors.New("--off is given alone")
	case change.Off:
		method = http.MethodPost
		q.Set("off", "1")
	case change.RequireScan || change.MaxSeverity != "":
		method = http.MethodPost
		q.Set("max-severity", change.MaxSeverity)
	}
	var rule *model.RunRule
	if err := askAdmin(ctx, dir, method, "/registry/rule?"+q.Encode(), &rule); err != nil {
		return err
	}
	text := "images may be run whatever is found in them"
	if rule != nil && rule.MaxSeverity == "" {
		text = "images of the registry may be run once they were scanned"
	} else if rule != nil {
		text = "images of the registry may be run once they were scanned, without findings above " + rule.MaxSeverity
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

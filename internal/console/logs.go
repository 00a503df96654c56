package console

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
)

// Logs is what the console reads of logs: logstore/copies, or logstore.Store.
type Logs interface {
	Scan(ctx context.Context, group string, q logstore.Query) iter.Seq2[logstore.Event, error]
	Follow(ctx context.Context, group string) <-chan struct{}
}

// Bounds of a tail: lines at first and in one message, how much of a line is sent, how many lines a search looks at before it says how far
// it has come, and how often a tail looks.
const (
	pageLines   = 500
	maxLine     = 16 << 10
	maxSearched = 100_000
	tailPause   = 150 * time.Millisecond
	maxGroups   = 20
)

// line is one event of a log.
type line struct {
	ID     string `json:"id"`
	At     int64  `json:"t"`
	Group  string `json:"g"`
	Stream string `json:"s"`
	Text   string `json:"m"`
	Cut    int    `json:"cut,omitempty"` // how long it really is, when it is longer
}

// tail sends the lines of some groups: the newest that fit, and then what comes. With Before or To it sends one page of older ones.
func (s *Console) tail(w want) func(ctx context.Context, send func(message) bool) error {
	switch w.Topic {
	case "metrics":
		return s.chart(w)
	case "logs":
	default:
		return nil
	}
	return func(ctx context.Context, send func(message) bool) error {
		switch {
		case s.c.Logs == nil || len(w.Groups) == 0:
			send(message{Done: true})
			return nil
		case len(w.Groups) > maxGroups:
			return model.Errorf("TooManyGroups", "A view has at most %d log groups.", maxGroups)
		}
		t := &tailing{logs: s.c.Logs, want: w, last: map[string]*logstore.Position{}, fold: strings.ToLower(w.Filter)}
		if w.Before != "" {
			return t.older(ctx, send)
		}
		return t.run(ctx, send, s.c.Now)
	}
}

type tailing struct {
	logs Logs
	want want
	fold string
	last map[string]*logstore.Position // by group
}

func (t *tailing) fits(e *logstore.Event) bool {
	if t.want.Stream != "" && !strings.Contains(e.StreamName, t.want.Stream) {
		return false
	}
	return t.fold == "" || strings.Contains(strings.ToLower(e.Message), t.fold)
}

func lineOf(group string, e logstore.Event) line {
	l := line{ID: e.Position.String(), At: e.At, Group: group, Stream: e.StreamName, Text: e.Message}
	if len(l.Text) > maxLine {
		l.Cut = len(l.Text)
		l.Text = l.Text[:maxLine]
		for len(l.Text) > 0 && !utf8.ValidString(l.Text[max(0, len(l.Text)-4):]) && len(l.Text) > maxLine-4 {
			l.Text = l.Text[:len(l.Text)-1]
		}
	}
	l.Text = strings.ToValidUTF8(l.Text, "\uFFFD")
	return l
}

// page reads lines backward from a place; more: there are older ones.
func (t *tailing) page(ctx context.Context, group string, from *logstore.Position) (lines []line, newest *logstore.Position, more bool, err error) {
	q := logstore.Query{Backward: true, Start: t.want.From, From: from}
	if from == nil && t.want.To > 0 {
		q.End = t.want.To
	}
	searched := 0
	for e, err := range t.logs.Scan(ctx, group, q) {
		if errors.Is(err, logstore.ErrNoGroup) && len(t.want.Groups) > 1 {
			break // the others have lines
		}
		if err != nil {
			return nil, nil, false, missing(group, err)
		}
		if newest == nil {
			p := e.Position
			newest = &p
		}
		if searched++; searched > maxSearched || len(lines) == pageLines {
			more = true
			break
		}
		if t.fits(&e) {
			lines = append(lines, lineOf(group, e))
		}
	}
	return lines, newest, more, nil
}

func missing(group string, err error) error {
	if errors.Is(err, logstore.ErrNoGroup) {
		return model.Errorf("ResourceNotFoundException", "There is no log group %s.", group)
	}
	return err
}

func (t *tailing) older(ctx context.Context, send func(message) bool) error {
	p, ok := logstore.ParsePosition(t.want.Before)
	if !ok {
		return model.Errorf("InvalidParameterException", "%.80q is no place in a log.", t.want.Before)
	}
	var all []line
	more := false
	for _, g := range t.want.Groups {
		lines, _, m, err := t.page(ctx, g, &p)
		if err != nil {
			return err
		}
		all, more = append(all, lines...), more || m
	}
	all, cut := newestOf(all)
	send(message{Lines: all, More: more || cut, Done: true})
	return nil
}

// newestOf sorts lines by time and keeps the newest that fit on a page.
func newestOf(all []line) ([]line, bool) {
	slices.SortStableFunc(all, func(a, b line) int {
		switch {
		case a.At != b.At:
			return int(max(-1, min(1, a.At-b.At)))
		case a.Stream == b.Stream:
			pa, _ := logstore.ParsePosition(a.ID)
			pb, _ := logstore.ParsePosition(b.ID)
			return pa.Compare(pb)
		}
		return strings.Compare(a.Stream, b.Stream)
	})
	if n := len(all) - pageLines; n > 0 {
		return all[n:], true
	}
	return all, false
}

func (t *tailing) run(ctx context.Context, send func(message) bool, now func() time.Time) error {
	notices := make(chan string, len(t.want.Groups))
	for _, g := range t.want.Groups {
		follow := t.logs.Follow(ctx, g) // before the first look, so that nothing is missed
		go func() {
			for range follow {
				select {
				case notices <- g:
				default:
				}
			}
		}()
	}
	var all []line
	more := false
	for _, g := range t.want.Groups {
		lines, newest, m, err := t.page(ctx, g, nil)
		if err != nil {
			return err
		}
		if newest == nil {
			newest = &logstore.Position{At: max(0, now().Add(-time.Minute).UnixMilli())}
		}
		t.last[g], all, more = newest, append(all, lines...), more || m
	}
	all, cut := newestOf(all)
	if !send(message{Snap: true, Lines: all, More: more || cut, Done: t.want.To > 0}) || t.want.To > 0 {
		return nil
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case g := <-notices:
			if err := t.newer(ctx, g, send); err != nil {
				return err
			}
		}
		pause.Reset(tailPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// newer sends what came to a group. While the browser is slow send waits, and what comes meanwhile is read from the store later.
func (t *tailing) newer(ctx context.Context, group string, send func(message) bool) error {
	var lines []line
	for e, err := range t.logs.Scan(ctx, group, logstore.Query{From: t.last[group]}) {
		if err != nil {
			return missing(group, err)
		}
		p := e.Position
		t.last[group] = &p
		if t.fits(&e) {
			lines = append(lines, lineOf(group, e))
		}
		if len(lines) == pageLines {
			if !send(message{Lines: lines}) {
				return nil
			}
			lines = nil
		}
	}
	if len(lines) > 0 {
		send(message{Lines: lines})
	}
	return nil
}

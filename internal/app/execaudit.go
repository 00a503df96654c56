package app

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/session"
	"github.com/berthdev/berth/internal/timeouts"
)

// auditor writes down who ran what in which container: to the log always, and to a log group where the cluster's
// executeCommandConfiguration has one, with what the command said.
type auditor struct {
	s *server

	mu    sync.Mutex
	lines map[string]*strings.Builder // of sessions, by id: what was said and is not a whole line yet
	queue chan entry
}

// entry is a line for a log group.
type entry struct {
	group, stream, text string
	at                  time.Time
}

// queued bounds the lines that wait for the log store; further ones are counted as lost in the log.
const queued = 10_000

func newAuditor(s *server) *auditor {
	return &auditor{s: s, lines: map[string]*strings.Builder{}, queue: make(chan entry, queued)}
}

// note is told of each session's beginning and end.
func (a *auditor) note(r session.Record) {
	attrs := []any{"component", "exec", "session", r.ID, "who", r.Who, "cluster", r.Cluster, "task", r.Task, "container", r.Container,
		"command", withoutSecrets(r.Command)}
	if !r.Ended {
		a.s.log.Info("a session begins in a container", attrs...)
		a.put(r, fmt.Sprintf("session %s: %s runs %s in container %s of task %s", r.ID, r.Who, withoutSecrets(r.Command), r.Container, r.Task))
		return
	}
	attrs = append(attrs, "began", r.Began.UTC().Format(time.RFC3339), "lasted", r.Lasted.Round(time.Millisecond), "code", r.Code)
	end := fmt.Sprintf("exit code %d", r.Code)
	if r.Reason != "" {
		attrs, end = append(attrs, "reason", r.Reason), r.Reason
	}
	a.s.log.Info("a session in a container has ended", attrs...)
	a.mu.Lock()
	rest := a.lines[r.ID]
	delete(a.lines, r.ID)
	a.mu.Unlock()
	if rest != nil && rest.Len() > 0 {
		a.put(r, rest.String())
	}
	a.put(r, fmt.Sprintf("session %s ended after %s: %s", r.ID, r.Lasted.Round(time.Millisecond), end))
}

// said is told of what a session's command says.
func (a *auditor) said(r session.Record, p []byte) {
	if r.Log == "" {
		return
	}
	a.mu.Lock()
	b := a.lines[r.ID]
	if b == nil {
		b = &strings.Builder{}
		a.lines[r.ID] = b
	}
	b.Write(p)
	var whole string
	if at := strings.LastIndexByte(b.String(), '\n'); at >= 0 || b.Len() > 64<<10 {
		text := b.String()
		if at < 0 {
			at = len(text) - 1
		}
		whole = text[:at+1]
		b.Reset()
		b.WriteString(text[at+1:])
	}
	a.mu.Unlock()
	for line := range strings.Lines(whole) {
		a.put(r, strings.TrimRight(line, "\r\n"))
	}
}

func (a *auditor) put(r session.Record, text string) {
	if r.Log == "" || text == "" {
		return
	}
	select {
	case a.queue <- entry{r.Log, r.Stream + r.ID, text, time.Now()}:
	default:
		a.s.log.Warn("a line of a session's record is lost: the log store does not keep up", "session", r.ID)
	}
}

// run writes the lines of log groups until ctx is done.
func (a *auditor) run(ctx context.Context) error {
	prepared := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-a.queue:
			if len(prepared) > 1000 {
				clear(prepared)
			}
			write, cancel := context.WithTimeout(ctx, timeouts.LogSend)
			err := a.write(write, e, prepared)
			cancel()
			if err != nil && ctx.Err() == nil {
				a.s.log.Warn("the record of a session is not written", "group", e.group, "error", err)
			}
		}
	}
}

func (a *auditor) write(ctx context.Context, e entry, prepared map[string]bool) error {
	lines := a.s.homeRegion.lines
	if key := e.group + "\x00" + e.stream; !prepared[key] {
		if err := lines.Prepare(ctx, e.group, e.stream, false); err != nil {
			return err
		}
		prepared[key] = true
	}
	return lines.Write(ctx, e.group, e.stream, []model.LogEvent{{At: e.at, Message: e.text}})
}

// secretive is an assignment, or an option with its value, that seems to carry a secret.
var secretive = regexp.MustCompile(`(?i)([\w-]*(?:password|passwd|secret|token|api_?key|access_?key|credential|private_?key)[\w-]*)(\s*[=:]\s*|\s+)('[^']*'|"[^"]*"|[^\s'"]+)`)

// withoutSecrets is a command line in which what seems to be a secret is left out.
func withoutSecrets(words []string) string {
	return secretive.ReplaceAllString(execstream.Join(words), "$1$2***")
}

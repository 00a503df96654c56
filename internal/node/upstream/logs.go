package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// Logs is the agent's LogSink whose store is the servers'.
type Logs struct{ client *http.Client }

// Logs makes a LogSink. What it is given may have been stored when it returns an error; the log driver asks for the position then.
func (s *Servers) Logs() Logs {
	return Logs{&http.Client{Transport: s, Timeout: timeouts.LogSend}}
}

// Prepare implements agent.LogSink.
func (l Logs) Prepare(ctx context.Context, group, stream string, createGroup bool) error {
	data, err := json.Marshal(map[string]any{"group": group, "stream": stream, "create": createGroup})
	if err != nil {
		return err
	}
	return l.do(ctx, http.MethodPost, "prepare", data, nil)
}

// Position implements agent.LogSink.
func (l Logs) Position(ctx context.Context, group, stream, source string) (at model.LogPosition, err error) {
	q := url.Values{"group": {group}, "stream": {stream}, "source": {source}}
	err = l.do(ctx, http.MethodGet, "position?"+q.Encode(), nil, &at)
	return at, err
}

// Append implements agent.LogSink.
func (l Logs) Append(ctx context.Context, batch model.LogBatch) error {
	data, err := batch.AppendBinary(nil)
	if err != nil {
		return err
	}
	return l.do(ctx, http.MethodPost, "append", data, nil)
}

// do makes a request and decodes its answer into v, unless that is nil.
func (l Logs) do(ctx context.Context, method, what string, body []byte, v any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://server/logs/"+what, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := l.client.Do(r)
	if err != nil {
		return fmt.Errorf("hand log lines to a server: %w", err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, 16<<10))
	if err != nil {
		return fmt.Errorf("hand log lines to a server: %w", err)
	}
	if answer.StatusCode >= 300 {
		refusal := model.TaskError{}
		if json.Unmarshal(data, &refusal) != nil || refusal.Message == "" {
			refusal.Message = fmt.Sprintf("the server answered %s to log lines", answer.Status)
		}
		if refusal.Name == "" {
			return fmt.Errorf("a server refuses log lines: %s", refusal.Message)
		}
		return &refusal
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(data, v)
}

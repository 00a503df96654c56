package outbox

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// Post sends a delivery's body to its target, a URL. Answers of the 400s, but for 408 and 429, are final.
func Post() Handler {
	client := &http.Client{Timeout: timeouts.DeliverCall, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{MaxIdleConns: 64, IdleConnTimeout: timeouts.DeliverLongest, TLSHandshakeTimeout: timeouts.DeliverCall / 3}}
	return func(ctx context.Context, d *model.Delivery) error {
		method := d.Parameters["method"]
		if method == "" {
			method = http.MethodPost
		}
		r, err := http.NewRequestWithContext(ctx, method, d.Target, strings.NewReader(d.Body))
		if err != nil || r.URL.Scheme != "http" && r.URL.Scheme != "https" {
			return fmt.Errorf("%w: %.200q is no URL that can be sent to", ErrNever, d.Target)
		}
		for k, v := range d.Headers {
			r.Header.Set(k, v)
		}
		res, err := client.Do(r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
		switch c := res.StatusCode; {
		case c >= 200 && c < 300:
			return nil
		case c >= 400 && c < 500 && c != http.StatusRequestTimeout && c != http.StatusTooManyRequests:
			return fmt.Errorf("%w: the answer was %s", ErrNever, res.Status)
		}
		return fmt.Errorf("the answer was %s", res.Status)
	}
}

// webhook begins the ARNs that stand for URLs, which AWS does not have.
const webhook = "arn:berth:webhook:::"

// WebhookURL is the URL that a webhook's ARN stands for.
func WebhookURL(arn string) (url string, ok bool) {
	url, ok = strings.CutPrefix(arn, webhook)
	return url, ok && (strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "https://"))
}

// Hook is the delivery of a message to a webhook. at and what are those of its ID.
func Hook(at time.Time, what, url, body, source string) *model.Delivery {
	return &model.Delivery{ID: ID(at, what), Kind: "http", Target: url, Body: body, Headers: map[string]string{"Content-Type": "application/json; charset=UTF-8",
		"User-Agent": "Berth"}, Source: source, Created: at, Until: at.Add(timeouts.DeliverUntil)}
}

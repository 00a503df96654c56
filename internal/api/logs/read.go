package logs

import (
	"context"
	"math"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/berthdev/berth/internal/serve/logstore"
)

// The bounds of one page of events (API reference), and of the search for it: a page ends after maxSearched events were looked
// at, be it empty, so that a rare term does not hold a request for minutes.
const (
	maxPageEvents = 10_000
	maxPageBytes  = 1 << 20
	maxSearched   = 200_000
)

// A token is a direction and the position of the event that it goes on from.
const (
	forward  = "f/"
	backward = "b/"
)

func parseToken(token string) (p logstore.Position, back bool, err error) {
	text, ahead := strings.CutPrefix(token, forward)
	if !ahead {
		text, back = strings.CutPrefix(token, backward)
	}
	p, ok := logstore.ParsePosition(text)
	if !ok || ahead == back {
		return p, back, badToken()
	}
	return p, back, nil
}

// getLogEvents reads one stream. Events are always returned oldest first; without startFromHead the first page is the newest.
// A token that comes back unchanged says that there is nothing further in its direction, for now.
func (a *api) getLogEvents(ctx context.Context, in *sdk.GetLogEventsInput) (*sdk.GetLogEventsOutput, error) {
	group, err := a.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if err := checkStream(in.LogStreamName); err != nil {
		return nil, err
	}
	limit, err := limitOf(in.Limit, maxPageEvents)
	if err != nil {
		return nil, err
	}
	q := logstore.Query{Streams: []string{*in.LogStreamName}, Backward: in.StartFromHead == nil || !*in.StartFromHead}
	if q.Start, q.End, err = window(in.StartTime, in.EndTime, false); err != nil {
		return nil, err
	}
	var at logstore.Position // where the page begins when it turns out empty
	if in.NextToken != nil {
		if at, q.Backward, err = parseToken(*in.NextToken); err != nil {
			return nil, err
		}
		q.From = &at
	}
	events, err := a.page(ctx, group, q, limit)
	if err != nil {
		return nil, err
	}
	first, last := beside(at, q.Backward)
	if len(events) > 0 {
		first, last = events[0].Position, events[len(events)-1].Position
	}
	out := &sdk.GetLogEventsOutput{Events: make([]types.OutputLogEvent, 0, len(events)),
		NextForwardToken: new(forward + last.String()), NextBackwardToken: new(backward + first.String())}
	for _, e := range events {
		out.Events = append(out.Events, types.OutputLogEvent{Timestamp: new(e.At), IngestionTime: new(e.Ingested),
			Message: new(e.Message)})
	}
	return out, nil
}

// beside returns the positions from which an empty page at p goes on: unchanged in the page's own direction, and so that the
// event at p is included in the other.
func beside(p logstore.Position, back bool) (first, last logstore.Position) {
	switch {
	case !back:
		return logstore.Position{At: p.At, Stream: p.Stream, N: p.N + 1}, p
	case p.N > 0:
		return p, logstore.Position{At: p.At, Stream: p.Stream, N: p.N - 1}
	case p.At > 0:
		return p, logstore.Position{At: p.At - 1, Stream: p.Stream, N: math.MaxUint64}
	}
	return p, logstore.Position{}
}

// page reads one page of a query and puts it in the order of time.
func (a *api) page(ctx context.Context, group string, q logstore.Query, limit int) (events []logstore.Event, err error) {
	size := 0
	for e, err := range a.Store.Scan(ctx, group, q) {
		if err != nil {
			return nil, refusal(err)
		}
		if size += len(e.Message) + eventOverhead; size > maxPageBytes && len(events) > 0 {
			break
		}
		if events = append(events, e); len(events) == limit {
			break
		}
	}
	if q.Backward {
		slices.Reverse(events)
	}
	return events, nil
}

// window reads the times of a request, in Unix milliseconds; the store's end is exclusive.
func window(start, end *int64, inclusive bool) (from, to int64, err error) {
	for _, at := range []*int64{start, end} {
		if at != nil && *at < 0 {
			return 0, 0, invalid("startTime and endTime must not be negative.")
		}
	}
	if start != nil {
		from = *start
	}
	if end == nil {
		return from, 0, nil
	}
	if to = *end; inclusive {
		to++
	}
	if to <= from {
		return 0, 0, invalid("The start time must be before the end time.")
	}
	return from, to, nil
}

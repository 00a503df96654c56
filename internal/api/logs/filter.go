package logs

import (
	"context"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/berthdev/berth/internal/serve/logstore"
)

// firstDescending is the earliest startTime with which startFromHead may be false: 2024-01-01 (API reference).
const firstDescending = 1704067200000

// maxNamedStreams is how many streams a request may name.
const maxNamedStreams = 100

// filterLogEvents searches the streams of a group, merged by time. A page may be empty and still have a token.
func (a *api) filterLogEvents(ctx context.Context, in *sdk.FilterLogEventsInput) (*sdk.FilterLogEventsOutput, error) {
	group, err := a.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(in.Limit, maxPageEvents)
	if err != nil {
		return nil, err
	}
	text := ""
	if in.FilterPattern != nil {
		text = *in.FilterPattern
	}
	wanted, err := parsePattern(text)
	if err != nil {
		return nil, err
	}
	q, err := filterQuery(in)
	if err != nil {
		return nil, err
	}
	out := &sdk.FilterLogEventsOutput{Events: []types.FilteredLogEvent{}, SearchedLogStreams: []types.SearchedLogStream{}}
	token := forward
	if q.Backward {
		token = backward
	}
	size, searched := 0, 0
	var last logstore.Position
	for e, err := range a.Store.Scan(ctx, group, q) {
		if err != nil {
			return nil, refusal(err)
		}
		matches := wanted.matches(e.Message)
		if matches {
			size += len(e.Message) + eventOverhead
		}
		full := len(out.Events) == limit || size > maxPageBytes && len(out.Events) > 0
		if full || searched == maxSearched {
			out.NextToken = new(token + last.String())
			break
		}
		if matches {
			out.Events = append(out.Events, drawEvent(e))
		}
		last = e.Position
		searched++
	}
	return out, nil
}

func drawEvent(e logstore.Event) types.FilteredLogEvent {
	return types.FilteredLogEvent{EventId: new(e.ID()), IngestionTime: &e.Ingested, LogStreamName: &e.StreamName,
		Message: &e.Message, Timestamp: new(e.At)}
}

func filterQuery(in *sdk.FilterLogEventsInput) (q logstore.Query, err error) {
	if q.Start, q.End, err = window(in.StartTime, in.EndTime, true); err != nil {
		return q, err
	}
	switch {
	case in.LogStreamNames != nil && in.LogStreamNamePrefix != nil:
		return q, invalid("LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters.")
	case in.LogStreamNames != nil && (len(in.LogStreamNames) == 0 || len(in.LogStreamNames) > maxNamedStreams):
		return q, invalid("1 validation error detected: Value at 'logStreamNames' failed to satisfy constraint: "+
			"Member must have length between 1 and %d", maxNamedStreams)
	case in.LogStreamNames != nil:
		q.Streams = in.LogStreamNames
	case in.LogStreamNamePrefix != nil:
		q.Prefix = *in.LogStreamNamePrefix
	}
	q.Backward = in.StartFromHead != nil && !*in.StartFromHead
	if in.NextToken != nil {
		from, back, err := parseToken(*in.NextToken)
		if err != nil {
			return q, err
		}
		q.From, q.Backward = &from, back
	}
	if q.Backward && q.Start < firstDescending {
		return q, invalid("startFromHead can be false only with a startTime on or after 2024-01-01T00:00:00Z.")
	}
	return q, nil
}

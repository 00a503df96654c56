package logs

import (
	"context"
	"fmt"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
)

// The bounds of PutLogEvents (API reference). An event counts as its UTF-8 bytes and 26 more.
const (
	maxEvents     = 10_000
	maxEventBytes = 1 << 20
	maxBatchBytes = 1 << 20
	eventOverhead = 26
	maxSpan       = 24 * time.Hour
	maxPast       = 14 * 24 * time.Hour
	maxFuture     = 2 * time.Hour
)

func (a *api) putLogEvents(ctx context.Context, in *sdk.PutLogEventsInput) (*sdk.PutLogEventsOutput, error) {
	if err := checkNames(in.LogGroupName, in.LogStreamName); err != nil {
		return nil, err
	}
	if err := checkBatch(in.LogEvents); err != nil {
		return nil, err
	}
	group, err := a.Store.Group(*in.LogGroupName)
	if err != nil {
		return nil, refusal(err)
	}
	from, to, rejected := timely(in.LogEvents, a.Now(), group)
	events := make([]model.LogEvent, 0, to-from)
	for _, e := range in.LogEvents[from:to] {
		events = append(events, model.LogEvent{At: time.UnixMilli(*e.Timestamp), Message: *e.Message})
	}
	if len(events) > 0 {
		if err := a.Store.Write(ctx, *in.LogGroupName, *in.LogStreamName, events); err != nil {
			return nil, refusal(err)
		}
	}
	st, err := a.Store.Stream(*in.LogGroupName, *in.LogStreamName)
	if err != nil {
		return nil, refusal(err)
	}
	return &sdk.PutLogEventsOutput{NextSequenceToken: new(sequenceToken(st)), RejectedLogEventsInfo: rejected}, nil
}

// checkBatch checks what fails the request as a whole.
func checkBatch(events []types.InputLogEvent) error {
	if len(events) == 0 {
		return invalidValue("[]", "logEvents", "Member must have length greater than or equal to 1")
	}
	if len(events) > maxEvents {
		return invalid("1 validation error detected: Value at 'logEvents' failed to satisfy constraint: "+
			"Member must have length less than or equal to %d", maxEvents)
	}
	size := 0
	for i, e := range events {
		member := fmt.Sprintf("logEvents.%d.member", i+1)
		switch {
		case e.Timestamp == nil:
			return missing(member + ".timestamp")
		case *e.Timestamp < 0:
			return invalidValue(fmt.Sprint(*e.Timestamp), member+".timestamp", "Member must have value greater than or equal to 0")
		case e.Message == nil:
			return missing(member + ".message")
		case *e.Message == "":
			return invalidValue("", member+".message", "Member must have length greater than or equal to 1")
		case len(*e.Message)+eventOverhead > maxEventBytes:
			return invalid("Log event too large: %d bytes exceeds limit of %d", len(*e.Message)+eventOverhead, maxEventBytes)
		case i > 0 && *e.Timestamp < *events[i-1].Timestamp:
			return invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
		size += len(*e.Message) + eventOverhead
	}
	if size > maxBatchBytes {
		return invalid("Upload too large: %d bytes exceeds limit of %d", size, maxBatchBytes)
	}
	if *events[len(events)-1].Timestamp-*events[0].Timestamp > maxSpan.Milliseconds() {
		return invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	}
	return nil
}

// timely finds the events [from, to) whose time is acceptable, and tells which are not. events are in chronological order.
func timely(events []types.InputLogEvent, now time.Time,
	group logstore.Group) (from, to int, rejected *types.RejectedLogEventsInfo) {
	count := func(before int64) (n int) {
		for n < len(events) && *events[n].Timestamp < before {
			n++
		}
		return n
	}
	tooOld := count(now.Add(-maxPast).UnixMilli())
	expired := 0
	if group.RetentionDays > 0 {
		expired = count(now.AddDate(0, 0, -group.RetentionDays).UnixMilli())
	}
	to = count(now.Add(maxFuture).UnixMilli() + 1)
	from = max(tooOld, expired)
	info := types.RejectedLogEventsInfo{}
	if tooOld > 0 {
		info.TooOldLogEventEndIndex = new(int32(tooOld))
	}
	if expired > 0 {
		info.ExpiredLogEventEndIndex = new(int32(expired))
	}
	if to < len(events) {
		info.TooNewLogEventStartIndex = new(int32(to))
	}
	if from > 0 || to < len(events) {
		rejected = &info
	}
	return from, to, rejected
}

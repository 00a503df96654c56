package logs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/serve/logstore"
)

func TestGetLogEventsWalksBothWays(t *testing.T) {
	f := setup(t)
	f.put("s", f.now-100, numbers(10)...)
	get := func(in sdk.GetLogEventsInput) *sdk.GetLogEventsOutput {
		t.Helper()
		in.LogGroupName, in.LogStreamName, in.Limit = new(group), new("s"), new(int32(4))
		out, err := f.GetLogEvents(ctx, &in)
		f.ok(err)
		return out
	}
	head := get(sdk.GetLogEventsInput{StartFromHead: new(true)})
	equal(t, "from the head", texts(head.Events), "0", "1", "2", "3")
	next := get(sdk.GetLogEventsInput{NextToken: head.NextForwardToken})
	equal(t, "forward", texts(next.Events), "4", "5", "6", "7")
	equal(t, "and back", texts(get(sdk.GetLogEventsInput{NextToken: next.NextBackwardToken}).Events), "0", "1", "2", "3")
	end := get(sdk.GetLogEventsInput{NextToken: next.NextForwardToken})
	equal(t, "the end", texts(end.Events), "8", "9")
	past := get(sdk.GetLogEventsInput{NextToken: end.NextForwardToken})
	if len(past.Events) != 0 || *past.NextForwardToken != *end.NextForwardToken {
		t.Errorf("past the end: %v, token %s, want %s", texts(past.Events), *past.NextForwardToken, *end.NextForwardToken)
	}
	equal(t, "back from past the end", texts(get(sdk.GetLogEventsInput{NextToken: past.NextBackwardToken}).Events), "6", "7",
		"8", "9")
	tail := get(sdk.GetLogEventsInput{})
	equal(t, "the tail", texts(tail.Events), "6", "7", "8", "9")
	equal(t, "back from the tail", texts(get(sdk.GetLogEventsInput{NextToken: tail.NextBackwardToken}).Events), "2", "3", "4", "5")
	before := get(sdk.GetLogEventsInput{NextToken: head.NextBackwardToken})
	if len(before.Events) != 0 || *before.NextBackwardToken != *head.NextBackwardToken {
		t.Errorf("before the head: %v", texts(before.Events))
	}
	equal(t, "forward from before the head", texts(get(sdk.GetLogEventsInput{NextToken: before.NextForwardToken}).Events),
		"0", "1", "2", "3")
	equal(t, "a window: the end is excluded", texts(get(sdk.GetLogEventsInput{StartTime: new(f.now - 98),
		EndTime: new(f.now - 95)}).Events),
		"2", "3", "4")
	f.put("s", f.now, "late")
	equal(t, "a kept token sees what came later", texts(get(sdk.GetLogEventsInput{NextToken: past.NextForwardToken}).Events), "late")
}

func TestEmptyStreamCanBeFollowed(t *testing.T) {
	f := setup(t)
	f.ok(f.store.CreateStream(group, "s"))
	for _, head := range []bool{true, false} {
		in := &sdk.GetLogEventsInput{LogGroupIdentifier: new("arn:aws:logs:us-east-1:000000000000:log-group:/ecs/web"),
			LogStreamName: new("s"), StartFromHead: &head}
		out, err := f.GetLogEvents(ctx, in)
		if err != nil || out.Events == nil || len(out.Events) != 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		f.put("s", f.now, "x")
		in.NextToken = out.NextForwardToken
		out, err = f.GetLogEvents(ctx, in)
		f.ok(err)
		equal(t, "after the first event", texts(out.Events)[:1], "x")
		f.ok(f.store.DeleteStream(group, "s"))
		f.ok(f.store.CreateStream(group, "s"))
	}
}

func TestPutLogEventsTellsWhatItRejects(t *testing.T) {
	f := setup(t)
	f.ok(f.store.UpdateGroup(group, func(g *logstore.Group) error { g.RetentionDays = 7; return nil }))
	day := (24 * time.Hour).Milliseconds()
	if out := f.put("s", f.now, "fine"); out.RejectedLogEventsInfo != nil || out.NextSequenceToken == nil {
		t.Errorf("a good batch: %+v", out)
	}
	out := f.put("s", f.now-15*day, "a", "b")
	if r := out.RejectedLogEventsInfo; r == nil || *r.TooOldLogEventEndIndex != 2 || *r.ExpiredLogEventEndIndex != 2 ||
		r.TooNewLogEventStartIndex != nil {
		t.Errorf("old: %+v", r)
	}
	out = f.put("s", f.now-7*day-1, "expired", "kept")
	if r := out.RejectedLogEventsInfo; r == nil || *r.ExpiredLogEventEndIndex != 1 || r.TooOldLogEventEndIndex != nil {
		t.Errorf("expired: %+v", r)
	}
	out = f.put("s", f.now+2*time.Hour.Milliseconds(), "just so", "too new")
	if r := out.RejectedLogEventsInfo; r == nil || *r.TooNewLogEventStartIndex != 1 {
		t.Errorf("new: %+v", r)
	}
	all, err := f.GetLogEvents(ctx, &sdk.GetLogEventsInput{LogGroupName: new(group), LogStreamName: new("s")})
	f.ok(err)
	equal(t, "what was stored", texts(all.Events), "kept", "fine", "just so")
}

func TestPutLogEventsRefusals(t *testing.T) {
	f := setup(t)
	f.ok(f.store.CreateStream(group, "s"))
	event := func(at int64, message string) types.InputLogEvent {
		return types.InputLogEvent{Timestamp: &at, Message: &message}
	}
	half := strings.Repeat("x", 600<<10)
	for _, c := range []struct {
		group, stream string
		events        []types.InputLogEvent
		code, message string
	}{
		{"no", "s", []types.InputLogEvent{event(f.now, "x")}, "ResourceNotFoundException", "The specified log group does not exist."},
		{group, "no", []types.InputLogEvent{event(f.now, "x")}, "ResourceNotFoundException",
			"The specified log stream does not exist."},
		{group, "s", []types.InputLogEvent{event(f.now, "x"), event(f.now-1, "y")}, "InvalidParameterException",
			"Log events in a single PutLogEvents request must be in chronological order."},
		{group, "s", []types.InputLogEvent{event(f.now-90_000_000, "x"), event(f.now, "y")}, "InvalidParameterException",
			"The batch of log events in a single PutLogEvents request cannot span more than 24 hours."},
		{group, "s", []types.InputLogEvent{event(f.now, strings.Repeat("x", 1<<20))}, "InvalidParameterException",
			"Log event too large: 1048602 bytes exceeds limit of 1048576"},
		{group, "s", []types.InputLogEvent{event(f.now, half), event(f.now, half)}, "InvalidParameterException",
			"Upload too large: 1228852 bytes exceeds limit of 1048576"},
		{group, "s", []types.InputLogEvent{event(f.now, "")}, "InvalidParameterException", "1 validation error detected: " +
			"Value '' at 'logEvents.1.member.message' failed to satisfy constraint: Member must have length greater than or equal to 1"},
	} {
		_, err := f.PutLogEvents(ctx, &sdk.PutLogEventsInput{LogGroupName: &c.group, LogStreamName: &c.stream, LogEvents: c.events})
		refused(t, err, c.code, c.message)
	}
	for _, token := range []string{"", "x", "f/1", "f/b/1-1-1", "1-1-1"} {
		_, err := f.GetLogEvents(ctx, &sdk.GetLogEventsInput{LogGroupName: new(group), LogStreamName: new("s"), NextToken: &token})
		refused(t, err, "InvalidParameterException", "The specified nextToken is invalid.")
	}
	_, err := f.GetLogEvents(ctx, &sdk.GetLogEventsInput{LogGroupIdentifier: new("arn:aws:logs:us-east-1:000000000000:log-group:/ecs/web:*"),
		LogStreamName: new("s")})
	wiretest.Refused(t, err, "InvalidParameterException", "failed to satisfy constraint")
	_, err = f.GetLogEvents(ctx, &sdk.GetLogEventsInput{LogGroupName: new(group), LogGroupIdentifier: new(group),
		LogStreamName: new("s")})
	refused(t, err, "InvalidParameterException", "LogGroup name and LogGroup ARN are mutually exclusive parameters.")
}

// filtered reads all pages of a search.
func (f *fixture) filtered(in sdk.FilterLogEventsInput) (all []string) {
	f.t.Helper()
	in.LogGroupName = new(group)
	seen := map[string]bool{}
	pages := sdk.NewFilterLogEventsPaginator(f.Client, &in)
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		f.ok(err)
		if in.Limit != nil && len(out.Events) > int(*in.Limit) {
			f.t.Errorf("%d events in a page of %d", len(out.Events), *in.Limit)
		}
		for _, e := range out.Events {
			if len(*e.EventId) != 56 || seen[*e.EventId] || e.IngestionTime == nil {
				f.t.Errorf("event %+v", e)
			}
			seen[*e.EventId] = true
			all = append(all, *e.LogStreamName+":"+*e.Message)
		}
	}
	return all
}

func TestFilterLogEventsMergesStreams(t *testing.T) {
	f := setup(t)
	f.put("web/1", f.now-10, "a", "b", "c")
	f.put("web/2", f.now-9, "A", "B")
	f.put("db", f.now-10, "x")
	equal(t, "all", f.filtered(sdk.FilterLogEventsInput{}), "web/1:a", "db:x", "web/1:b", "web/2:A", "web/1:c", "web/2:B")
	equal(t, "in pages of 2", f.filtered(sdk.FilterLogEventsInput{Limit: new(int32(2))}),
		"web/1:a", "db:x", "web/1:b", "web/2:A", "web/1:c", "web/2:B")
	equal(t, "prefix", f.filtered(sdk.FilterLogEventsInput{LogStreamNamePrefix: new("web/")}),
		"web/1:a", "web/1:b", "web/2:A", "web/1:c", "web/2:B")
	equal(t, "names", f.filtered(sdk.FilterLogEventsInput{LogStreamNames: []string{"db", "web/2"}}), "db:x", "web/2:A", "web/2:B")
	equal(t, "window: the end is included", f.filtered(sdk.FilterLogEventsInput{StartTime: new(f.now - 9), EndTime: new(f.now - 9)}),
		"web/1:b", "web/2:A")
	equal(t, "newest first", f.filtered(sdk.FilterLogEventsInput{StartTime: new(f.now - 9), StartFromHead: new(false),
		Limit: new(int32(1))}),
		"web/2:B", "web/1:c", "web/2:A", "web/1:b")
	equal(t, "pattern", f.filtered(sdk.FilterLogEventsInput{FilterPattern: new("?A ?x"), Limit: new(int32(1))}), "db:x", "web/2:A")
	for _, c := range []struct {
		in      sdk.FilterLogEventsInput
		code    string
		message string
	}{
		{sdk.FilterLogEventsInput{LogStreamNames: []string{"no"}}, "ResourceNotFoundException",
			"The specified log stream does not exist."},
		{sdk.FilterLogEventsInput{LogStreamNames: []string{"db"}, LogStreamNamePrefix: new("d")}, "InvalidParameterException",
			"LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters."},
		{sdk.FilterLogEventsInput{FilterPattern: new("{ $.level = \"ERROR\" }")}, "InvalidParameterException",
			"Invalid filter pattern: JSON filter patterns are not supported by Berth yet; use terms."},
		{sdk.FilterLogEventsInput{StartFromHead: new(false)}, "InvalidParameterException",
			"startFromHead can be false only with a startTime on or after 2024-01-01T00:00:00Z."},
	} {
		c.in.LogGroupName = new(group)
		_, err := f.FilterLogEvents(ctx, &c.in)
		refused(t, err, c.code, c.message)
	}
	_, err := f.FilterLogEvents(ctx, &sdk.FilterLogEventsInput{LogGroupName: new("no")})
	refused(t, err, "ResourceNotFoundException", "The specified log group does not exist.")
}

// TestPagesAreBoundedByBytes stores more than a page may carry.
func TestPagesAreBoundedByBytes(t *testing.T) {
	f := setup(t)
	var want []string
	for i := range 5 {
		m := fmt.Sprint(i, strings.Repeat("x", 700<<10))
		f.put("s", f.now+int64(i), m)
		want = append(want, "s:"+m)
	}
	equal(t, "everything", f.filtered(sdk.FilterLogEventsInput{}), want...)
	out, err := f.GetLogEvents(ctx, &sdk.GetLogEventsInput{LogGroupName: new(group), LogStreamName: new("s")})
	if err != nil || len(out.Events) != 1 || "s:"+*out.Events[0].Message != want[4] {
		t.Errorf("%d events, %v", len(out.Events), err)
	}
}

package logs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/berthdev/berth/internal/serve/logstore"
)

func (a *api) describeLogStreams(_ context.Context, in *sdk.DescribeLogStreamsInput) (*sdk.DescribeLogStreamsOutput, error) {
	group, err := a.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(in.Limit, describePage)
	if err != nil {
		return nil, err
	}
	order, err := streamOrder(in)
	if err != nil {
		return nil, err
	}
	prefix := ""
	if in.LogStreamNamePrefix != nil {
		prefix = *in.LogStreamNamePrefix
	}
	streams, err := a.Store.Streams(group, prefix, "", 0)
	if err != nil {
		return nil, refusal(err)
	}
	slices.SortFunc(streams, order)
	if in.NextToken != nil {
		last, err := parseStreamToken(*in.NextToken)
		if err != nil {
			return nil, err
		}
		streams = slices.DeleteFunc(streams, func(st logstore.Stream) bool { return order(st, last) <= 0 })
	}
	out := &sdk.DescribeLogStreamsOutput{LogStreams: []types.LogStream{}}
	for _, st := range streams[:min(limit, len(streams))] {
		out.LogStreams = append(out.LogStreams, a.drawStream(group, st))
	}
	if len(streams) > limit {
		out.NextToken = new(streamToken(streams[limit-1]))
	}
	return out, nil
}

// streamOrder is the order that a request asks for; no two streams are equal in it.
func streamOrder(in *sdk.DescribeLogStreamsInput) (func(x, y logstore.Stream) int, error) {
	sign := 1
	if in.Descending != nil && *in.Descending {
		sign = -1
	}
	switch in.OrderBy {
	case "", types.OrderByLogStreamName:
		return func(x, y logstore.Stream) int { return sign * cmp.Compare(x.Name, y.Name) }, nil
	case types.OrderByLastEventTime:
		if in.LogStreamNamePrefix != nil {
			return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
		}
		return func(x, y logstore.Stream) int {
			return sign * cmp.Or(cmp.Compare(x.LastAt, y.LastAt), cmp.Compare(x.Name, y.Name))
		}, nil
	}
	return nil, invalidValue(string(in.OrderBy), "orderBy",
		fmt.Sprintf("Member must satisfy enum value set: %v", in.OrderBy.Values()))
}

// A page of streams goes on after the last stream of the page before, by what both orders compare.
func streamToken(last logstore.Stream) string {
	return strconv.FormatInt(last.LastAt, 36) + ":" + last.Name
}

func parseStreamToken(token string) (last logstore.Stream, err error) {
	at, name, found := strings.Cut(token, ":")
	last.Name = name
	if last.LastAt, err = strconv.ParseInt(at, 36, 64); err != nil || !found {
		return last, badToken()
	}
	return last, nil
}

func (a *api) drawStream(group string, st logstore.Stream) types.LogStream {
	out := types.LogStream{
		Arn:           new(a.groupARN(group) + ":log-stream:" + st.Name),
		CreationTime:  &st.CreatedAt,
		LogStreamName: &st.Name,
		StoredBytes:   new(int64(0)), // as AWS has it since 2019: sizes are told of groups only
	}
	if st.HasEvents {
		out.FirstEventTimestamp, out.LastEventTimestamp = &st.FirstAt, &st.LastAt
	}
	if st.LastIngestion > 0 {
		out.LastIngestionTime = &st.LastIngestion
		out.UploadSequenceToken = new(sequenceToken(st))
	}
	return out
}

// sequenceToken is what clients of the time before 2023 pass back; nobody checks it any more.
func sequenceToken(st logstore.Stream) string { return fmt.Sprintf("%056d", st.Next) }

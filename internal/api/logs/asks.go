package logs

import (
	"context"
	"slices"
	"strings"

	"github.com/berthdev/berth/internal/api/wire"
)

// asks names every log group, or its stream, that a request names in any way, as AWS's own refusals do.
func (a *api) asks(_ context.Context, op string, in any) (asks []wire.Ask) {
	var groups []string
	for _, member := range []string{"LogGroupName", "LogGroupIdentifier", "ResourceArn", "ResourceIdentifier", "LogGroupNames", "LogGroupIdentifiers"} {
		for _, id := range wire.Texts(in, member) {
			group := strings.TrimPrefix(strings.TrimSuffix(id, ":*"), a.Scope.ARN("logs", "log-group:"))
			if !slices.Contains(groups, group) {
				groups = append(groups, group)
			}
		}
	}
	if len(groups) == 0 && op == "DescribeLogGroups" {
		groups = []string{""}
	}
	for _, group := range groups {
		ask := wire.Ask{Action: "logs:" + op, Context: wire.RequestTags(in)}
		if g, err := a.Store.Group(group); err == nil {
			for k, v := range g.Tags {
				ask.Context["aws:ResourceTag/"+k] = []string{v}
			}
		}
		bare := a.Scope.ARN("logs", "log-group:"+group)
		ask.Resources = []string{bare + ":log-stream:" + wire.Text(in, "LogStreamName")}
		if op == "TagResource" || op == "UntagResource" || op == "ListTagsForResource" {
			ask.Resources = []string{bare}
		}
		asks = append(asks, ask)
		if op == "CreateLogGroup" && len(ask.Context["aws:TagKeys"]) > 0 {
			asks = append(asks, wire.Ask{Action: "logs:TagResource", Resources: []string{bare}, Context: ask.Context})
		}
	}
	return asks
}

package ecr

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/store"
)

// asks names the repositories that a request is about, each with its tags and its policy.
func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	names := wire.Texts(in, "RepositoryName")
	if len(names) == 0 {
		names = wire.Texts(in, "RepositoryNames")
	}
	if arn := wire.Text(in, "ResourceArn"); arn != "" {
		names = []string{strings.TrimPrefix(arn, a.arn(""))}
	}
	if op == "DescribeRepositories" && len(names) == 0 {
		names = []string{"*"}
	}
	asks := make([]wire.Ask, len(names))
	a.Store.View(func(r store.Reader) {
		for i, name := range names {
			asks[i] = wire.Ask{Action: "ecr:" + op, Resources: []string{a.arn(name)}, Context: wire.RequestTags(in)}
			repo, ok := store.Repositories.Get(r, name)
			if !ok {
				continue
			}
			addTags(asks[i].Context, repo.Tags)
			if repo.Policy != "" {
				asks[i].Policies = []string{repo.Policy}
			}
		}
	})
	if op == "CreateRepository" && len(asks) > 0 && len(asks[0].Context["aws:TagKeys"]) > 0 {
		tagged := asks[0]
		tagged.Action = "ecr:TagResource"
		asks = append(asks, tagged)
	}
	return asks
}

// addTags adds the keys of a repository's tags.
func addTags(keys map[string][]string, tags []types.Tag) {
	for _, t := range tags {
		if t.Key == nil {
			continue
		}
		v := ""
		if t.Value != nil {
			v = *t.Value
		}
		keys["aws:ResourceTag/"+*t.Key], keys["ecr:ResourceTag/"+*t.Key] = []string{v}, []string{v}
	}
}

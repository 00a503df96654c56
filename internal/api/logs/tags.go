package logs

import (
	"context"
	"maps"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
)

// maxTags is how many tags a group may have.
const maxTags = 50

// checkTags checks tags that are to be added to old.
func checkTags(old, tags map[string]string) error {
	for key, value := range tags {
		switch {
		case key == "" || len(key) > 128:
			return invalidValue(key, "tags", "Map keys must satisfy constraint: "+
				"[Member must have length between 1 and 128]")
		case len(value) > 256:
			return invalidValue(value, "tags", "Map values must satisfy constraint: "+
				"[Member must have length less than or equal to 256]")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("aws: prefixed tag key names are not allowed for external use.")
		}
	}
	merged := maps.Clone(old)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, tags)
	if len(merged) > maxTags {
		return model.Errorf("TooManyTagsException", "A resource can have at most %d tags.", maxTags)
	}
	return nil
}

func (a *api) tag(name *string, tags map[string]string) error {
	return a.updateGroup(name, func(g *logstore.Group) error {
		if err := checkTags(g.Tags, tags); err != nil {
			return err
		}
		if g.Tags == nil {
			g.Tags = map[string]string{}
		}
		maps.Copy(g.Tags, tags)
		return nil
	})
}

func (a *api) untag(name *string, keys []string) error {
	return a.updateGroup(name, func(g *logstore.Group) error {
		for _, key := range keys {
			delete(g.Tags, key)
		}
		return nil
	})
}

func (a *api) tagsOf(name *string) (map[string]string, error) {
	if err := checkGroup(name); err != nil {
		return nil, err
	}
	g, err := a.Store.Group(*name)
	if err != nil {
		return nil, refusal(err)
	}
	if g.Tags == nil {
		return map[string]string{}, nil
	}
	return g.Tags, nil
}

// tagged finds the group that a tag operation names. Groups are the only resources with tags here.
func (a *api) tagged(arn *string) (*string, error) {
	if arn == nil {
		return nil, missing("resourceArn")
	}
	if strings.HasPrefix(*arn, a.Scope.ARN("logs", "")) && !strings.HasPrefix(*arn, a.groupARN("")) {
		return nil, model.Errorf("ResourceNotFoundException", "Only log groups have tags in Berth: %s is none.", *arn)
	}
	name, err := a.groupOfARN(*arn)
	return &name, err
}

func (a *api) tagResource(_ context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	name, err := a.tagged(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	if err := a.tag(name, in.Tags); err != nil {
		return nil, err
	}
	return &sdk.TagResourceOutput{}, nil
}

func (a *api) untagResource(_ context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	name, err := a.tagged(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	if err := a.untag(name, in.TagKeys); err != nil {
		return nil, err
	}
	return &sdk.UntagResourceOutput{}, nil
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	name, err := a.tagged(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags, err := a.tagsOf(name)
	if err != nil {
		return nil, err
	}
	return &sdk.ListTagsForResourceOutput{Tags: tags}, nil
}

func (a *api) tagLogGroup(_ context.Context, in *sdk.TagLogGroupInput) (*sdk.TagLogGroupOutput, error) {
	if err := a.tag(in.LogGroupName, in.Tags); err != nil {
		return nil, err
	}
	return &sdk.TagLogGroupOutput{}, nil
}

func (a *api) untagLogGroup(_ context.Context, in *sdk.UntagLogGroupInput) (*sdk.UntagLogGroupOutput, error) {
	if err := a.untag(in.LogGroupName, in.Tags); err != nil {
		return nil, err
	}
	return &sdk.UntagLogGroupOutput{}, nil
}

func (a *api) listTagsLogGroup(_ context.Context, in *sdk.ListTagsLogGroupInput) (*sdk.ListTagsLogGroupOutput, error) {
	tags, err := a.tagsOf(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	return &sdk.ListTagsLogGroupOutput{Tags: tags}, nil
}

package elb

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// retag changes the tags of whatever the ARN names; a nil change only reads them.
func retag(tx store.Reader, arn string, change func([]types.Tag) []types.Tag) ([]types.Tag, error) {
	write, _ := tx.(store.Tx)
	apply := func(old []types.Tag, put func([]types.Tag)) []types.Tag {
		if change == nil {
			return old
		}
		next := change(slices.Clone(old))
		put(next)
		return next
	}
	switch {
	case strings.Contains(arn, ":loadbalancer/"):
		if v, ok := store.LoadBalancers.Get(tx, arn); ok {
			c := *v
			return apply(v.Tags, func(t []types.Tag) { c.Tags = t; store.LoadBalancers.Put(write, &c) }), nil
		}
		return nil, model.Errorf("LoadBalancerNotFound", "Load balancer '%s' not found", arn)
	case strings.Contains(arn, ":targetgroup/"):
		if v, ok := store.TargetGroups.Get(tx, arn); ok {
			c := *v
			return apply(v.Tags, func(t []types.Tag) { c.Tags = t; store.TargetGroups.Put(write, &c) }), nil
		}
		return nil, noTargetGroup()
	case strings.Contains(arn, ":listener/"):
		if v, ok := store.Listeners.Get(tx, arn); ok {
			c := *v
			return apply(v.Tags, func(t []types.Tag) { c.Tags = t; store.Listeners.Put(write, &c) }), nil
		}
		return nil, noListener()
	case strings.Contains(arn, ":listener-rule/"):
		if v, ok := store.Rules.Get(tx, arn); ok {
			c := *v
			return apply(v.Tags, func(t []types.Tag) { c.Tags = t; store.Rules.Put(write, &c) }), nil
		}
		return nil, noRule()
	}
	return nil, invalid("'%s' is not a valid resource ARN", arn)
}

// maxTags is how many tags a resource may have.
const maxTags = 50

func tooManyTags() error {
	return model.Errorf("TooManyTags", "The maximum number of tags per resource is %d", maxTags)
}

// checkTags validates the tags of one request.
func checkTags(tags []types.Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		k := text(t.Key)
		if k == "" || utf8.RuneCountInString(k) > 128 || strings.HasPrefix(k, "aws:") || utf8.RuneCountInString(text(t.Value)) > 256 {
			return invalid("The tag key '%.40s' is not valid: it needs 1 to 128 characters that do not begin with 'aws:', and a value of at most 256", k)
		}
		if seen[k] {
			return model.Errorf("DuplicateTagKeys", "The tag key '%.40s' is specified more than once", k)
		}
		seen[k] = true
	}
	if len(tags) > maxTags {
		return tooManyTags()
	}
	return nil
}

func (a *api) addTags(ctx context.Context, in *elb.AddTagsInput) (*elb.AddTagsOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &elb.AddTagsOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		for _, arn := range in.ResourceArns {
			tags, err := retag(tx, arn, func(tags []types.Tag) []types.Tag {
				for _, t := range in.Tags {
					if i := slices.IndexFunc(tags, func(o types.Tag) bool { return text(o.Key) == text(t.Key) }); i >= 0 {
						tags[i] = t
					} else {
						tags = append(tags, t)
					}
				}
				return tags
			})
			if err != nil {
				return err
			}
			if len(tags) > maxTags {
				return tooManyTags()
			}
		}
		return nil
	})
}

func (a *api) removeTags(ctx context.Context, in *elb.RemoveTagsInput) (*elb.RemoveTagsOutput, error) {
	return &elb.RemoveTagsOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		for _, arn := range in.ResourceArns {
			if _, err := retag(tx, arn, func(tags []types.Tag) []types.Tag {
				return slices.DeleteFunc(tags, func(t types.Tag) bool { return slices.Contains(in.TagKeys, text(t.Key)) })
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *api) describeTags(_ context.Context, in *elb.DescribeTagsInput) (*elb.DescribeTagsOutput, error) {
	out := &elb.DescribeTagsOutput{TagDescriptions: []types.TagDescription{}}
	var err error
	a.Store.View(func(r store.Reader) {
		for _, arn := range in.ResourceArns {
			var tags []types.Tag
			if tags, err = retag(r, arn, nil); err != nil {
				return
			}
			out.TagDescriptions = append(out.TagDescriptions, types.TagDescription{ResourceArn: &arn, Tags: append([]types.Tag{}, tags...)})
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

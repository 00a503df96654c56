package ecs

import (
	"context"
	"regexp"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Bounds of tags (ecs.md 1.1).
const (
	maxTagKey   = 128
	maxTagValue = 256
)

var tagPattern = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// checkTags checks the tags of a request.
func checkTags(tags []types.Tag) error {
	if err := quota.Tags.Admit(len(tags)); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, t := range tags {
		key, val := value(t.Key), value(t.Value)
		switch {
		case t.Key == nil:
			return invalid("Tag key can not be null.")
		case t.Value == nil:
			return invalid("Tag value can not be null.")
		case key == "":
			return invalid("Tag keys cannot be empty.")
		case len([]rune(key)) > maxTagKey:
			return invalid("Tag keys can have at most %d characters.", maxTagKey)
		case len([]rune(val)) > maxTagValue:
			return invalid("Tag values can have at most %d characters.", maxTagValue)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("Tag keys cannot start with 'aws:', which is reserved for AWS use.")
		case !tagPattern.MatchString(key) || !tagPattern.MatchString(val):
			return invalid("Tag '%s' contains invalid characters.", key)
		case seen[key]:
			return invalid("Tag key '%s' is used more than once.", key)
		}
		if key == model.PartitionTag {
			if _, err := model.ParseOnPartition(val); err != nil {
				return invalid("T%s.", err.Error()[1:])
			}
		}
		seen[key] = true
	}
	return nil
}

// tagged is a stored resource whose tags can be changed.
type tagged struct {
	tags []types.Tag
	put  func(tx store.Tx, tags []types.Tag)
}

// taggedResource finds the resource of an ARN.
func (a *api) taggedResource(r store.Reader, arn string) (tagged, error) {
	rest, ok := strings.CutPrefix(arn, a.scope.ARN("ecs", ""))
	kind, id, found := strings.Cut(rest, "/")
	if !ok || !found {
		return tagged{}, invalid("Invalid resource ARN '%s'.", arn)
	}
	switch kind {
	case "cluster":
		v, ok := store.Clusters.Get(r, id)
		if !ok {
			break
		}
		if v.Status != active {
			return tagged{}, invalid("The specified cluster is inactive. Specify an active cluster and try again.")
		}
		return tagging(v, store.Clusters, v.Tags, func(c *model.Cluster, t []types.Tag) { c.Tags = t }), nil
	case "service":
		v, ok := store.Services.Get(r, id)
		if !ok {
			break
		}
		if v.Status == inactive {
			return tagged{}, invalid("The specified service is inactive. Specify an active service and try again.")
		}
		return tagging(v, store.Services, v.Tags, func(s *model.Service, t []types.Tag) { s.Tags = t }), nil
	case "task":
		cluster, task, _ := strings.Cut(id, "/")
		v, ok := store.Tasks.Get(r, task)
		if !ok || v.Cluster != cluster {
			break
		}
		if v.Ended() {
			return tagged{}, invalid("The specified task is stopped. Specify a running task and try again.")
		}
		return tagging(v, store.Tasks, v.Tags, func(s *model.Task, t []types.Tag) { s.Tags = t }), nil
	case "container-instance":
		cluster, instance, _ := strings.Cut(id, "/")
		if v, ok := store.InstanceByID(r, cluster, instance); ok && v.Status != inactive {
			return tagging(v, store.Instances, v.Tags, func(s *model.Instance, t []types.Tag) { s.Tags = t }), nil
		}
	case "capacity-provider":
		if v, ok := store.CapacityProviders.Get(r, id); ok {
			return tagging(v, store.CapacityProviders, v.Tags, func(s *model.CapacityProvider, t []types.Tag) { s.Tags = t }), nil
		}
	case "task-definition":
		if v, ok := a.revision(r, id); ok {
			return tagging(v, store.TaskDefinitions, v.Tags, func(s *model.TaskDefinition, t []types.Tag) { s.Tags = t }), nil
		}
		return tagged{}, clientError("Unable to describe task definition.")
	default:
		return tagged{}, invalid("Berth does not support tags on resources of type '%s' yet.", kind)
	}
	return tagged{}, invalid("The specified %s does not exist.", strings.ReplaceAll(kind, "-", " "))
}

func tagging[T any, P interface {
	*T
	store.Keyed
}](v P, table store.Table[T, P], tags []types.Tag, set func(P, []types.Tag)) tagged {
	return tagged{tags: tags, put: func(tx store.Tx, tags []types.Tag) {
		changed := *v
		set(&changed, tags)
		table.Put(tx, &changed)
	}}
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &sdk.TagResourceOutput{}, a.store.Update(ctx, func(tx store.Tx) error {
		r, err := a.taggedResource(tx, value(in.ResourceArn))
		if err != nil {
			return err
		}
		tags := slices.Clone(r.tags)
		for _, t := range in.Tags {
			if i := slices.IndexFunc(tags, func(has types.Tag) bool { return value(has.Key) == value(t.Key) }); i >= 0 {
				tags[i] = t
			} else {
				tags = append(tags, t)
			}
		}
		if err := quota.Tags.Admit(len(tags)); err != nil {
			return err
		}
		r.put(tx, tags)
		return nil
	})
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, a.store.Update(ctx, func(tx store.Tx) error {
		r, err := a.taggedResource(tx, value(in.ResourceArn))
		if err != nil {
			return err
		}
		r.put(tx, slices.DeleteFunc(slices.Clone(r.tags), func(t types.Tag) bool {
			return slices.Contains(in.TagKeys, value(t.Key))
		}))
		return nil
	})
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	var r tagged
	var err error
	a.store.View(func(v store.Reader) { r, err = a.taggedResource(v, value(in.ResourceArn)) })
	if err != nil {
		return nil, err
	}
	return &sdk.ListTagsForResourceOutput{Tags: filled(r.tags)}, nil
}

// filled returns s, or an empty list for nil: ECS returns such lists as [].
func filled[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

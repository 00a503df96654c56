package ssm

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
)

// maxLabels is how many a version may have.
const maxLabels = 10

var labelPattern = regexp.MustCompile(`^[a-zA-Z_.-][a-zA-Z0-9_.-]{0,99}$`)

func goodLabel(l string) bool {
	lower := strings.ToLower(l)
	return labelPattern.MatchString(l) && !strings.HasPrefix(lower, "aws") && !strings.HasPrefix(lower, "ssm")
}

func labelsOf(p *model.Parameter, number int64) []string {
	all := []string{}
	for l, n := range p.Labels {
		if n == number {
			all = append(all, l)
		}
	}
	slices.Sort(all)
	return all
}

func checkLabels(labels []string) error {
	if len(labels) == 0 || len(labels) > maxLabels {
		return invalid("1 validation error detected: Value '%.200v' at 'labels' failed to satisfy constraint: Member must have length between 1 and %d", labels, maxLabels)
	}
	return nil
}

// changeVersion changes the parameter, of which a version is named; 0 is the newest.
func (a *api) changeVersion(ctx context.Context, name *string, number int64, f func(*model.Parameter, int64) error) error {
	path, err := a.name(name)
	if err != nil {
		return err
	}
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Parameters.Get(tx, path)
		if !ok {
			return notFound()
		}
		n := number
		if n == 0 {
			n = old.Newest
		}
		if _, ok := store.ParameterVersions.Get(tx, model.ParameterVersionKey(path, n)); !ok {
			return vault.NoParameterVersion(old.Name, n)
		}
		p := *old
		p.Labels = maps.Clone(old.Labels)
		if p.Labels == nil {
			p.Labels = map[string]int64{}
		}
		if err := f(&p, n); err != nil {
			return err
		}
		store.Parameters.Put(tx, &p)
		return nil
	})
}

func (a *api) labelParameterVersion(ctx context.Context, in *sdk.LabelParameterVersionInput) (*sdk.LabelParameterVersionOutput, error) {
	if err := checkLabels(in.Labels); err != nil {
		return nil, err
	}
	var out *sdk.LabelParameterVersionOutput
	err := a.changeVersion(ctx, in.Name, value(in.ParameterVersion), func(p *model.Parameter, n int64) error {
		out = &sdk.LabelParameterVersionOutput{ParameterVersion: n, InvalidLabels: []string{}}
		for _, l := range in.Labels {
			if goodLabel(l) {
				p.Labels[l] = n // from the version that had it
			} else {
				out.InvalidLabels = append(out.InvalidLabels, l)
			}
		}
		if len(labelsOf(p, n)) > maxLabels {
			return model.Errorf("ParameterVersionLabelLimitExceeded", "A parameter version can have maximum 10 labels.Move one or more labels to another version and try again.")
		}
		return nil
	})
	return out, err
}

func (a *api) unlabelParameterVersion(ctx context.Context, in *sdk.UnlabelParameterVersionInput) (*sdk.UnlabelParameterVersionOutput, error) {
	if err := checkLabels(in.Labels); err != nil {
		return nil, err
	}
	if in.ParameterVersion == nil {
		return nil, required("parameterVersion", nil)
	}
	var out *sdk.UnlabelParameterVersionOutput
	err := a.changeVersion(ctx, in.Name, *in.ParameterVersion, func(p *model.Parameter, n int64) error {
		out = &sdk.UnlabelParameterVersionOutput{InvalidLabels: []string{}, RemovedLabels: []string{}}
		for _, l := range in.Labels {
			if had, ok := p.Labels[l]; ok && had == n {
				delete(p.Labels, l)
				out.RemovedLabels = append(out.RemovedLabels, l)
			} else {
				out.InvalidLabels = append(out.InvalidLabels, l)
			}
		}
		return nil
	})
	return out, err
}

const maxTags = 50

// checkTags validates the tags of one request.
func checkTags(tags []types.Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		switch key := value(t.Key); {
		case key == "" || utf8.RuneCountInString(key) > 128 || utf8.RuneCountInString(value(t.Value)) > 256:
			return invalid("A tag needs a key of 1 to 128 characters and a value of at most 256")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("aws: prefixed tag key names are not allowed for external use.")
		case seen[key]:
			return invalid("Duplicate tag keys: %s", key)
		default:
			seen[key] = true
		}
	}
	if len(tags) > maxTags {
		return model.Errorf("TooManyTagsError", "A parameter has %d tags at most", maxTags)
	}
	return nil
}

// changeTags changes those of the parameter that a resource type and id name.
func (a *api) changeTags(ctx context.Context, kind types.ResourceTypeForTagging, id *string, f func([]types.Tag) []types.Tag) error {
	path, err := a.tagged(kind, id)
	if err != nil {
		return err
	}
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Parameters.Get(tx, path)
		if !ok {
			return noResource(*id)
		}
		p := *old
		p.Tags = f(slices.Clone(old.Tags))
		store.Parameters.Put(tx, &p)
		return checkTags(p.Tags)
	})
}

func noResource(id string) error {
	return model.Errorf("InvalidResourceId", "The resource ID \"%.200s\" is not valid. Verify the ID and try again.", id)
}

func (a *api) tagged(kind types.ResourceTypeForTagging, id *string) (path string, err error) {
	if err := required("resourceId", id); err != nil {
		return "", err
	}
	if kind != types.ResourceTypeForTaggingParameter {
		return "", model.Errorf("InvalidResourceType", "Berth has tags of parameters (Parameter) only here, not of %.50q", kind)
	}
	if path, err = a.name(id); err != nil {
		return "", noResource(*id)
	}
	return path, nil
}

func (a *api) addTagsToResource(ctx context.Context, in *sdk.AddTagsToResourceInput) (*sdk.AddTagsToResourceOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &sdk.AddTagsToResourceOutput{}, a.changeTags(ctx, in.ResourceType, in.ResourceId, func(tags []types.Tag) []types.Tag {
		for _, t := range in.Tags {
			i := slices.IndexFunc(tags, func(o types.Tag) bool { return *o.Key == *t.Key })
			if i >= 0 {
				tags[i] = t
			} else {
				tags = append(tags, t)
			}
		}
		return tags
	})
}

func (a *api) removeTagsFromResource(ctx context.Context, in *sdk.RemoveTagsFromResourceInput) (*sdk.RemoveTagsFromResourceOutput, error) {
	return &sdk.RemoveTagsFromResourceOutput{}, a.changeTags(ctx, in.ResourceType, in.ResourceId, func(tags []types.Tag) []types.Tag {
		return slices.DeleteFunc(tags, func(t types.Tag) bool { return slices.Contains(in.TagKeys, *t.Key) })
	})
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	path, err := a.tagged(in.ResourceType, in.ResourceId)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTagsForResourceOutput{TagList: []types.Tag{}}
	err = noResource(*in.ResourceId)
	a.Store.View(func(r store.Reader) {
		if p, ok := store.Parameters.Get(r, path); ok {
			out.TagList, err = append(out.TagList, p.Tags...), nil
		}
	})
	return out, err
}

package ecs

import (
	"context"
	"regexp"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/view"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Bounds of custom attributes (the SDK's model).
const (
	maxAttributes     = 10 // a call, and an instance
	maxAttributeValue = 128
)

var attributePattern = regexp.MustCompile(`^[A-Za-z0-9_./\\-]{1,128}$`)

func checkAttributes(list []types.Attribute) error {
	if n := len(list); n == 0 || n > maxAttributes {
		return invalid("Attributes must have between 1 and %d elements.", maxAttributes)
	}
	for _, x := range list {
		switch name := value(x.Name); {
		case !attributePattern.MatchString(name):
			return invalid("Attribute name '%s' contains invalid characters.", name)
		case strings.HasPrefix(name, "ecs.") || strings.HasPrefix(name, "com.amazonaws.ecs."):
			return invalid("Attribute name '%s' is reserved: names cannot start with ecs. or com.amazonaws.ecs.", name)
		case len(value(x.Value)) > maxAttributeValue:
			return invalid("The value of attribute '%s' can have at most %d characters.", name, maxAttributeValue)
		case value(x.TargetId) == "":
			return invalid("The targetId of attribute '%s' should not be null or empty.", name)
		case x.TargetType != "" && x.TargetType != types.TargetTypeContainerInstance:
			return invalid("Invalid target type '%s'. It must be container-instance.", x.TargetType)
		}
	}
	return nil
}

// changeAttributes changes the custom attributes of the instances that list names.
func (a *api) changeAttributes(
	ctx context.Context, cluster *string, list []types.Attribute,
	change func(old []types.Attribute, x types.Attribute) []types.Attribute,
) ([]types.Attribute, error) {
	if err := checkAttributes(list); err != nil {
		return nil, err
	}
	var out []types.Attribute
	err := a.store.Update(ctx, func(tx store.Tx) error {
		out = nil
		c, err := a.cluster(tx, cluster)
		if err != nil {
			return err
		}
		for _, x := range list {
			i, ok := a.instance(tx, c.Name, *x.TargetId)
			if !ok || i.Status == inactive {
				return model.Errorf("TargetNotFoundException", "The specified target wasn't found: %s", *x.TargetId)
			}
			changed := *i
			changed.Attributes = change(slices.Clone(i.Attributes), x)
			if len(changed.Attributes) > maxAttributes {
				return model.Errorf("AttributeLimitExceededException",
					"A container instance can have at most %d custom attributes.", maxAttributes)
			}
			changed.Version++
			store.Instances.Put(tx, &changed)
			out = append(out, types.Attribute{
				Name: x.Name, Value: x.Value, TargetId: &i.ARN, TargetType: types.TargetTypeContainerInstance})
		}
		return nil
	})
	return out, err
}

func (a *api) putAttributes(ctx context.Context, in *sdk.PutAttributesInput) (*sdk.PutAttributesOutput, error) {
	out, err := a.changeAttributes(ctx, in.Cluster, in.Attributes, func(old []types.Attribute, x types.Attribute) []types.Attribute {
		return append(without(old, x), types.Attribute{Name: x.Name, Value: x.Value})
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutAttributesOutput{Attributes: out}, nil
}

func (a *api) deleteAttributes(ctx context.Context, in *sdk.DeleteAttributesInput) (*sdk.DeleteAttributesOutput, error) {
	out, err := a.changeAttributes(ctx, in.Cluster, in.Attributes, without)
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteAttributesOutput{Attributes: out}, nil
}

// without returns list without the attribute of x's name. list may be changed.
func without(list []types.Attribute, x types.Attribute) []types.Attribute {
	return slices.DeleteFunc(list, func(o types.Attribute) bool { return value(o.Name) == value(x.Name) })
}

func (a *api) listAttributes(_ context.Context, in *sdk.ListAttributesInput) (*sdk.ListAttributesOutput, error) {
	if in.TargetType != types.TargetTypeContainerInstance {
		return nil, invalid("Invalid target type '%s'. It must be container-instance.", in.TargetType)
	}
	if in.AttributeName == nil && in.AttributeValue != nil {
		return nil, invalid("An attribute value can be given only together with the name of an attribute.")
	}
	list := []types.Attribute{}
	err := a.viewCluster(a.cluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		for _, i := range store.InstancesOf(r, c.Name) {
			if i.Status == inactive {
				continue
			}
			node, _ := store.Nodes.Get(r, i.NodeID)
			for _, x := range view.InstanceAttributes(a.scope, i, node) {
				if (in.AttributeName == nil || *in.AttributeName == value(x.Name)) &&
					(in.AttributeValue == nil || *in.AttributeValue == value(x.Value)) {
					list = append(list, types.Attribute{
						Name: x.Name, Value: x.Value, TargetId: &i.ARN, TargetType: types.TargetTypeContainerInstance})
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	key := func(x types.Attribute) string { return *x.TargetId + "\x00" + value(x.Name) }
	slices.SortFunc(list, func(x, y types.Attribute) int { return strings.Compare(key(x), key(y)) })
	list, next, err := page(list, key, false, in.NextToken, in.MaxResults, 100, 100)
	if err != nil {
		return nil, err
	}
	return &sdk.ListAttributesOutput{Attributes: list, NextToken: next}, nil
}

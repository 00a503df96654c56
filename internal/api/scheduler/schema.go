package scheduler

import (
	"reflect"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
)

// The SDK's module has no schemas: these are made from its types, with what AWS's model says of paths and queries. Members are named as the
// fields, but in the types that Scheduler took over from ECS, whose members begin with small letters.

var small = []reflect.Type{reflect.TypeFor[types.NetworkConfiguration](), reflect.TypeFor[types.CapacityProviderStrategyItem](), reflect.TypeFor[types.PlacementConstraint](),
	reflect.TypeFor[types.PlacementStrategy]()}

func newShape(name string, kind smithy.ShapeType, ts ...smithy.Trait) *smithy.Schema {
	return smithy.NewSchema(smithy.ShapeID{Namespace: "com.amazonaws.scheduler", Name: name}, kind, 0, ts...)
}

// schemaOf makes the schema of a type. at gives members of the outermost one their places in a request.
func schemaOf(t reflect.Type, at map[string]smithy.Trait) *smithy.Schema {
	switch {
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), nil)
	case t == reflect.TypeFor[time.Time]():
		return newShape("Timestamp", smithy.ShapeTypeTimestamp)
	case t.Kind() == reflect.Struct:
		s := newShape(t.Name(), smithy.ShapeTypeStructure)
		for i := range t.NumField() {
			f := t.Field(i)
			if !f.IsExported() || f.Anonymous || f.Name == "ResultMetadata" {
				continue
			}
			name := f.Name
			if slices.Contains(small, t) {
				name = string(name[0]|0x20) + name[1:]
			}
			if trait := at[f.Name]; trait != nil {
				s.AddMember(name, schemaOf(f.Type, nil), trait)
			} else {
				s.AddMember(name, schemaOf(f.Type, nil))
			}
		}
		return s
	case t.Kind() == reflect.Slice:
		s := newShape("List", smithy.ShapeTypeList)
		s.AddMember("member", schemaOf(t.Elem(), nil))
		return s
	case t.Kind() == reflect.Map:
		s := newShape("Map", smithy.ShapeTypeMap)
		s.AddMember("key", schemaOf(t.Key(), nil))
		s.AddMember("value", schemaOf(t.Elem(), nil))
		return s
	case t.Kind() == reflect.Bool:
		return newShape("Boolean", smithy.ShapeTypeBoolean)
	case t.Kind() == reflect.Int32 || t.Kind() == reflect.Int64:
		return newShape("Integer", smithy.ShapeTypeInteger)
	}
	return newShape("String", smithy.ShapeTypeString)
}

func operation[In, Out any](method, uri string, at map[string]smithy.Trait) *smithy.OperationSchema {
	in := reflect.TypeFor[In]()
	name := in.Name()[:len(in.Name())-len("Input")]
	return smithy.NewOperationSchema(newShape(name, smithy.ShapeTypeOperation, &traits.HTTP{Method: method, URI: uri, Code: 200}), schemaOf(in, at),
		schemaOf(reflect.TypeFor[Out](), nil))
}

func schemas() []*smithy.OperationSchema {
	label := func(name string, queries ...string) map[string]smithy.Trait {
		out := map[string]smithy.Trait{}
		if name != "" {
			out[name] = &traits.HTTPLabel{}
		}
		for i := 0; i < len(queries); i += 2 {
			out[queries[i]] = &traits.HTTPQuery{Name: queries[i+1]}
		}
		return out
	}
	return []*smithy.OperationSchema{
		operation[sdk.CreateScheduleInput, sdk.CreateScheduleOutput]("POST", "/schedules/{Name}", label("Name")),
		operation[sdk.UpdateScheduleInput, sdk.UpdateScheduleOutput]("PUT", "/schedules/{Name}", label("Name")),
		operation[sdk.GetScheduleInput, sdk.GetScheduleOutput]("GET", "/schedules/{Name}", label("Name", "GroupName", "groupName")),
		operation[sdk.DeleteScheduleInput, sdk.DeleteScheduleOutput]("DELETE", "/schedules/{Name}", label("Name", "GroupName", "groupName", "ClientToken", "clientToken")),
		operation[sdk.ListSchedulesInput, sdk.ListSchedulesOutput]("GET", "/schedules", label("", "GroupName", "ScheduleGroup", "MaxResults", "MaxResults", "NamePrefix", "NamePrefix",
			"NextToken", "NextToken", "State", "State")),
		operation[sdk.CreateScheduleGroupInput, sdk.CreateScheduleGroupOutput]("POST", "/schedule-groups/{Name}", label("Name")),
		operation[sdk.GetScheduleGroupInput, sdk.GetScheduleGroupOutput]("GET", "/schedule-groups/{Name}", label("Name")),
		operation[sdk.DeleteScheduleGroupInput, sdk.DeleteScheduleGroupOutput]("DELETE", "/schedule-groups/{Name}", label("Name", "ClientToken", "clientToken")),
		operation[sdk.ListScheduleGroupsInput, sdk.ListScheduleGroupsOutput]("GET", "/schedule-groups", label("", "MaxResults", "MaxResults", "NamePrefix", "NamePrefix", "NextToken", "NextToken")),
		operation[sdk.ListTagsForResourceInput, sdk.ListTagsForResourceOutput]("GET", "/tags/{ResourceArn}", label("ResourceArn")),
		operation[sdk.TagResourceInput, sdk.TagResourceOutput]("POST", "/tags/{ResourceArn}", label("ResourceArn")),
		operation[sdk.UntagResourceInput, sdk.UntagResourceOutput]("DELETE", "/tags/{ResourceArn}", label("ResourceArn", "TagKeys", "TagKeys")),
	}
}

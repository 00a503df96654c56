package ecs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/api/ecs/taskdef"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxDeleted is how many revisions one DeleteTaskDefinitions takes.
const maxDeleted = 10

func (a *api) registerTaskDefinition(
	ctx context.Context, in *sdk.RegisterTaskDefinitionInput,
) (*sdk.RegisterTaskDefinitionOutput, error) {
	def, err := taskdef.Normalise(in)
	if err != nil {
		return nil, err
	}
	if err := quota.Definition.Admit(size(def)); err != nil {
		return nil, err
	}
	if err := checkDefinitionConstraints(def.PlacementConstraints); err != nil {
		return nil, err
	}
	if err, ok := errors.AsType[*model.Error](checkTags(in.Tags)); ok {
		return nil, clientError("%s", err.Message) // the code of all that this operation refuses
	}
	def.Status, def.RegisteredAt, def.RegisteredBy = types.TaskDefinitionStatusActive, new(a.now()), new(a.caller(ctx))
	family := *def.Family
	err = a.store.Update(ctx, func(tx store.Tx) error {
		last := 0
		if f, ok := store.Families.Get(tx, family); ok {
			last = f.LatestRevision
		}
		if err := quota.Revisions.Admit(last + 1); err != nil {
			return err
		}
		store.Families.Put(tx, &model.Family{Name: family, LatestRevision: last + 1})
		def.Revision = int32(last + 1)
		def.TaskDefinitionArn = new(a.scope.TaskDefinitionARN(family, last+1))
		store.TaskDefinitions.Put(tx, &model.TaskDefinition{Family: family, Revision: last + 1, Definition: def, Tags: in.Tags})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.RegisterTaskDefinitionOutput{TaskDefinition: &def, Tags: in.Tags}, nil
}

// splitRevision reads <family>:<revision>, its ARN, or a bare family, whose revision is 0.
func (a *api) splitRevision(ref string) (family string, revision int, ok bool) {
	rest, ok := a.resource("task-definition", ref)
	family, digits, found := strings.Cut(rest, ":")
	if !ok || !taskdef.ValidFamily(family) {
		return "", 0, false
	}
	if !found {
		return family, 0, true
	}
	revision, err := strconv.Atoi(digits)
	return family, revision, err == nil && revision > 0
}

// checkRevisionNumber refuses what follows a family and is no number.
func (a *api) checkRevisionNumber(ref string) error {
	rest, _ := a.resource("task-definition", ref)
	_, digits, found := strings.Cut(rest, ":")
	if n, err := strconv.Atoi(digits); found && (err != nil || n < 1) {
		return invalid("Invalid revision number. Number: %s", digits)
	}
	return nil
}

// revision finds the revision that ref names, or the latest ACTIVE one of the family that it names.
func (a *api) revision(r store.Reader, ref string) (*model.TaskDefinition, bool) {
	family, revision, ok := a.splitRevision(ref)
	if !ok {
		return nil, false
	}
	if revision > 0 {
		return store.TaskDefinitions.Get(r, model.TaskDefinitionKey(family, revision))
	}
	var latest *model.TaskDefinition
	for d := range store.TaskDefinitions.By(r, store.ByFamily, family) {
		if d.Definition.Status == types.TaskDefinitionStatusActive {
			latest = d
		}
	}
	return latest, latest != nil
}

// activeRevision finds the revision that a task or a service is to run.
func (a *api) activeRevision(r store.Reader, ref *string) (*model.TaskDefinition, error) {
	if value(ref) == "" {
		return nil, invalid("Task definition cannot be empty.")
	}
	if err := a.checkRevisionNumber(*ref); err != nil {
		return nil, err
	}
	d, ok := a.revision(r, *ref)
	if !ok {
		return nil, clientError("TaskDefinition not found.")
	}
	if d.Definition.Status != types.TaskDefinitionStatusActive {
		return nil, clientError("TaskDefinition is inactive")
	}
	return d, nil
}

func (a *api) describeTaskDefinition(
	_ context.Context, in *sdk.DescribeTaskDefinitionInput,
) (*sdk.DescribeTaskDefinitionOutput, error) {
	if err := included(in.Include, types.TaskDefinitionField("").Values()); err != nil {
		return nil, err
	}
	if err := a.checkRevisionNumber(value(in.TaskDefinition)); err != nil {
		return nil, err
	}
	var d *model.TaskDefinition
	var ok bool
	a.store.View(func(r store.Reader) { d, ok = a.revision(r, value(in.TaskDefinition)) })
	if !ok {
		return nil, clientError("Unable to describe task definition.")
	}
	def := d.Definition
	def.DeleteRequestedAt = nil // AWS keeps it to itself
	out := &sdk.DescribeTaskDefinitionOutput{TaskDefinition: &def, Tags: []types.Tag{}}
	if slices.Contains(in.Include, types.TaskDefinitionFieldTags) {
		out.Tags = filled(d.Tags)
	}
	return out, nil
}

func (a *api) deregisterTaskDefinition(
	ctx context.Context, in *sdk.DeregisterTaskDefinitionInput,
) (*sdk.DeregisterTaskDefinitionOutput, error) {
	if err := a.checkRevisionNumber(value(in.TaskDefinition)); err != nil {
		return nil, err
	}
	family, revision, ok := a.splitRevision(value(in.TaskDefinition))
	if !ok {
		return nil, clientError("Unable to deregister task definition.")
	}
	if revision == 0 {
		return nil, invalid("Revision is missing")
	}
	var out types.TaskDefinition
	err := a.store.Update(ctx, func(tx store.Tx) error {
		d, ok := store.TaskDefinitions.Get(tx, model.TaskDefinitionKey(family, revision))
		if !ok {
			return clientError("Unable to deregister task definition.")
		}
		changed := *d
		switch changed.Definition.Status {
		case types.TaskDefinitionStatusDeleteInProgress:
			return clientError("The task definition could not be deregistered because it is in the process of being deleted.")
		case types.TaskDefinitionStatusActive:
			changed.Definition.Status = types.TaskDefinitionStatusInactive
			changed.Definition.DeregisteredAt = new(a.now())
			store.TaskDefinitions.Put(tx, &changed)
		}
		out = changed.Definition
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.DeregisterTaskDefinitionOutput{TaskDefinition: &out}, nil
}

func (a *api) deleteTaskDefinitions(
	ctx context.Context, in *sdk.DeleteTaskDefinitionsInput,
) (*sdk.DeleteTaskDefinitionsOutput, error) {
	if n := len(in.TaskDefinitions); n == 0 || n > maxDeleted {
		return nil, invalid("Task definitions must have between 1 and %d elements.", maxDeleted)
	}
	var out *sdk.DeleteTaskDefinitionsOutput
	err := a.store.Update(ctx, func(tx store.Tx) error {
		out = &sdk.DeleteTaskDefinitionsOutput{TaskDefinitions: []types.TaskDefinition{}, Failures: []types.Failure{}}
		for _, ref := range in.TaskDefinitions {
			def, reason := a.deleteRevision(tx, ref)
			if reason != "" {
				out.Failures = append(out.Failures, failure(ref, reason)) // as it was sent
				continue
			}
			shown := *def
			shown.DeleteRequestedAt = nil
			out.TaskDefinitions = append(out.TaskDefinitions, shown)
		}
		return nil
	})
	return out, err
}

// deleteRevision marks an INACTIVE revision DELETE_IN_PROGRESS; reason says why not.
func (a *api) deleteRevision(tx store.Tx, ref string) (def *types.TaskDefinition, reason string) {
	family, revision, ok := a.splitRevision(ref)
	if !ok || revision == 0 {
		return nil, "The specified task definition identifier is invalid. Specify a valid name or ARN and try again."
	}
	d, ok := store.TaskDefinitions.Get(tx, model.TaskDefinitionKey(family, revision))
	if !ok {
		return nil, "The specified task definition does not exist. Specify a valid account, family, revision and try again."
	}
	if d.Definition.Status == types.TaskDefinitionStatusActive {
		return nil, "The specified task definition is still in ACTIVE status. Please deregister the target and try again."
	}
	changed := *d
	if changed.Definition.Status != types.TaskDefinitionStatusDeleteInProgress {
		changed.Definition.Status = types.TaskDefinitionStatusDeleteInProgress
		changed.Definition.DeleteRequestedAt = new(a.now())
		store.TaskDefinitions.Put(tx, &changed)
	}
	return &changed.Definition, ""
}

// listed is a revision in a listing; its key sorts by family, then by revision as a number.
type listed struct{ key, arn string }

func (a *api) listTaskDefinitions(_ context.Context, in *sdk.ListTaskDefinitionsInput) (*sdk.ListTaskDefinitionsOutput, error) {
	status := in.Status
	if status == "" {
		status = types.TaskDefinitionStatusActive
	}
	if !slices.Contains(status.Values(), status) {
		return nil, clientError("Invalid task definition status.")
	}
	if in.Sort != "" && !slices.Contains(in.Sort.Values(), in.Sort) {
		return nil, invalid("Invalid sort order.")
	}
	var list []listed
	a.store.View(func(r store.Reader) {
		add := func(d *model.TaskDefinition) {
			if d.Definition.Status == status {
				list = append(list, listed{fmt.Sprintf("%s\x00%010d", d.Family, d.Revision), *d.Definition.TaskDefinitionArn})
			}
		}
		// familyPrefix is the whole name of a family, in spite of its own name (the SDK's documentation).
		if family := value(in.FamilyPrefix); family != "" {
			for d := range store.TaskDefinitions.By(r, store.ByFamily, family) {
				add(d)
			}
			return
		}
		for d := range store.TaskDefinitions.Scan(r, "") {
			add(d)
		}
	})
	desc := in.Sort == types.SortOrderDesc
	slices.SortFunc(list, func(x, y listed) int {
		if desc {
			x, y = y, x
		}
		return strings.Compare(x.key, y.key)
	})
	list, next, err := page(list, func(l listed) string { return l.key }, desc, in.NextToken, in.MaxResults, 100, 100)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTaskDefinitionsOutput{TaskDefinitionArns: []string{}, NextToken: next}
	for _, l := range list {
		out.TaskDefinitionArns = append(out.TaskDefinitionArns, l.arn)
	}
	return out, nil
}

func (a *api) listTaskDefinitionFamilies(
	_ context.Context, in *sdk.ListTaskDefinitionFamiliesInput,
) (*sdk.ListTaskDefinitionFamiliesOutput, error) {
	if in.Status != "" && !slices.Contains(in.Status.Values(), in.Status) {
		return nil, clientError("Invalid task definition family status.")
	}
	names := []string{}
	a.store.View(func(r store.Reader) {
		for f := range store.Families.Scan(r, value(in.FamilyPrefix)) {
			_, active := a.revision(r, f.Name)
			switch in.Status {
			case types.TaskDefinitionFamilyStatusActive:
				if !active {
					continue
				}
			case types.TaskDefinitionFamilyStatusInactive:
				if active {
					continue
				}
			}
			names = append(names, f.Name)
		}
	})
	names, next, err := page(names, itself, false, in.NextToken, in.MaxResults, 100, 100)
	if err != nil {
		return nil, err
	}
	return &sdk.ListTaskDefinitionFamiliesOutput{Families: names, NextToken: next}, nil
}

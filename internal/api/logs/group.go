package logs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/berthdev/berth/internal/serve/logstore"
)

// describePage is the most, and the default, that the describe operations return at once.
const describePage = 50

func (a *api) createLogGroup(_ context.Context, in *sdk.CreateLogGroupInput) (*sdk.CreateLogGroupOutput, error) {
	if err := checkGroup(in.LogGroupName); err != nil {
		return nil, err
	}
	if in.KmsKeyId != nil {
		return nil, invalid("Berth does not encrypt log groups with KMS keys yet; leave kmsKeyId out.")
	}
	switch in.LogGroupClass {
	case "":
		in.LogGroupClass = types.LogGroupClassStandard
	case types.LogGroupClassStandard, types.LogGroupClassInfrequentAccess:
	case types.LogGroupClassDelivery:
		return nil, invalid("Berth has no log groups of class DELIVERY; use STANDARD.")
	default:
		return nil, invalidValue(string(in.LogGroupClass), "logGroupClass",
			fmt.Sprintf("Member must satisfy enum value set: %v", in.LogGroupClass.Values()))
	}
	if err := checkTags(nil, in.Tags); err != nil {
		return nil, err
	}
	err := a.Store.CreateGroup(logstore.Group{
		Name:              *in.LogGroupName,
		Tags:              in.Tags,
		Class:             string(in.LogGroupClass),
		DeletionProtected: in.DeletionProtectionEnabled != nil && *in.DeletionProtectionEnabled,
	})
	if err != nil {
		return nil, refusal(err)
	}
	return &sdk.CreateLogGroupOutput{}, nil
}

func (a *api) deleteLogGroup(_ context.Context, in *sdk.DeleteLogGroupInput) (*sdk.DeleteLogGroupOutput, error) {
	if err := checkGroup(in.LogGroupName); err != nil {
		return nil, err
	}
	if err := a.Store.DeleteGroup(*in.LogGroupName); err != nil {
		return nil, refusal(err)
	}
	return &sdk.DeleteLogGroupOutput{}, nil
}

func (a *api) describeLogGroups(_ context.Context, in *sdk.DescribeLogGroupsInput) (*sdk.DescribeLogGroupsOutput, error) {
	limit, err := limitOf(in.Limit, describePage)
	if err != nil {
		return nil, err
	}
	chosen, prefix, err := a.groupFilter(in)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeLogGroupsOutput{LogGroups: []types.LogGroup{}}
	after := ""
	if in.NextToken != nil {
		after = *in.NextToken
	}
	groups, err := a.Store.Groups(prefix, after, 0)
	if err != nil {
		return nil, refusal(err)
	}
	for _, g := range groups {
		if !chosen(g) {
			continue
		}
		if len(out.LogGroups) == limit {
			out.NextToken = out.LogGroups[limit-1].LogGroupName
			break
		}
		drawn, err := a.drawGroup(g)
		if err != nil {
			return nil, refusal(err)
		}
		out.LogGroups = append(out.LogGroups, drawn)
	}
	return out, nil
}

// groupFilter reads which groups a request asks for; prefix narrows the search.
func (a *api) groupFilter(in *sdk.DescribeLogGroupsInput) (chosen func(logstore.Group) bool, prefix string, err error) {
	if in.IncludeLinkedAccounts != nil && *in.IncludeLinkedAccounts {
		return nil, "", invalid("Berth has no linked accounts; leave includeLinkedAccounts out.")
	}
	if len(in.AccountIdentifiers) > 0 && !slices.Equal(in.AccountIdentifiers, []string{a.Scope.Account}) {
		return nil, "", invalid("Berth has no other account than %s; leave accountIdentifiers out.", a.Scope.Account)
	}
	if in.LogGroupNamePrefix != nil && in.LogGroupNamePattern != nil {
		return nil, "", invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	var names []string
	for _, identifier := range in.LogGroupIdentifiers {
		name, err := a.groupOf(nil, &identifier)
		if err != nil {
			return nil, "", err
		}
		names = append(names, name)
	}
	if in.LogGroupNamePrefix != nil {
		prefix = *in.LogGroupNamePrefix
	}
	pattern := ""
	if in.LogGroupNamePattern != nil {
		pattern = strings.ToLower(*in.LogGroupNamePattern)
	}
	return func(g logstore.Group) bool {
		return (names == nil || slices.Contains(names, g.Name)) &&
			strings.Contains(strings.ToLower(g.Name), pattern) &&
			(in.LogGroupClass == "" || string(in.LogGroupClass) == g.Class)
	}, prefix, nil
}

func (a *api) drawGroup(g logstore.Group) (types.LogGroup, error) {
	stored, err := a.Store.StoredBytes(g)
	if err != nil {
		return types.LogGroup{}, err
	}
	out := types.LogGroup{
		Arn:                       new(a.groupARN(g.Name) + ":*"),
		CreationTime:              &g.CreatedAt,
		DeletionProtectionEnabled: &g.DeletionProtected,
		LogGroupArn:               new(a.groupARN(g.Name)),
		LogGroupClass:             types.LogGroupClass(g.Class),
		LogGroupName:              &g.Name,
		MetricFilterCount:         new(int32(0)),
		StoredBytes:               &stored,
	}
	if out.LogGroupClass == "" { // made by the agent rather than through the API
		out.LogGroupClass = types.LogGroupClassStandard
	}
	if g.RetentionDays > 0 {
		out.RetentionInDays = new(int32(g.RetentionDays))
	}
	return out, nil
}

// retentionDays are the retentions that CloudWatch Logs knows.
var retentionDays = []int32{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
	3288, 3653}

func (a *api) putRetentionPolicy(_ context.Context,
	in *sdk.PutRetentionPolicyInput) (*sdk.PutRetentionPolicyOutput, error) {
	if in.RetentionInDays == nil {
		return nil, missing("retentionInDays")
	}
	days := *in.RetentionInDays
	if !slices.Contains(retentionDays, days) {
		return nil, invalidValue(fmt.Sprint(days), "retentionInDays",
			"Member must satisfy enum value set: "+strings.ReplaceAll(fmt.Sprint(retentionDays), " ", ", "))
	}
	err := a.updateGroup(in.LogGroupName, func(g *logstore.Group) error { g.RetentionDays = int(days); return nil })
	if err != nil {
		return nil, err
	}
	return &sdk.PutRetentionPolicyOutput{}, nil
}

func (a *api) deleteRetentionPolicy(_ context.Context,
	in *sdk.DeleteRetentionPolicyInput) (*sdk.DeleteRetentionPolicyOutput, error) {
	err := a.updateGroup(in.LogGroupName, func(g *logstore.Group) error { g.RetentionDays = 0; return nil })
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteRetentionPolicyOutput{}, nil
}

func (a *api) putLogGroupDeletionProtection(_ context.Context,
	in *sdk.PutLogGroupDeletionProtectionInput) (*sdk.PutLogGroupDeletionProtectionOutput, error) {
	if in.DeletionProtectionEnabled == nil {
		return nil, missing("deletionProtectionEnabled")
	}
	name, err := a.groupOf(nil, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	err = a.updateGroup(&name, func(g *logstore.Group) error { g.DeletionProtected = *in.DeletionProtectionEnabled; return nil })
	if err != nil {
		return nil, err
	}
	return &sdk.PutLogGroupDeletionProtectionOutput{}, nil
}

func (a *api) updateGroup(name *string, f func(*logstore.Group) error) error {
	if err := checkGroup(name); err != nil {
		return err
	}
	return refusal(a.Store.UpdateGroup(*name, f))
}

package logs_test

import (
	"fmt"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// TestTerraformsGroup makes the calls of the provider's aws_cloudwatch_log_group: create, read, update, delete.
func TestTerraformsGroup(t *testing.T) {
	f := setup(t)
	const name, arn = "shop", "arn:aws:logs:us-east-1:000000000000:log-group:shop"
	_, err := f.CreateLogGroup(ctx, &sdk.CreateLogGroupInput{LogGroupName: new(name), LogGroupClass: "STANDARD",
		Tags: map[string]string{"team": "a", "env": "dev"}})
	f.ok(err)
	_, err = f.PutRetentionPolicy(ctx, &sdk.PutRetentionPolicyInput{LogGroupName: new(name), RetentionInDays: new(int32(7))})
	f.ok(err)
	read := func() types.LogGroup {
		t.Helper()
		out, err := f.DescribeLogGroups(ctx, &sdk.DescribeLogGroupsInput{LogGroupNamePrefix: new(name)})
		f.ok(err)
		if len(out.LogGroups) != 1 || out.NextToken != nil {
			t.Fatalf("described %+v", out)
		}
		return out.LogGroups[0]
	}
	g := read()
	if *g.Arn != arn+":*" || *g.LogGroupArn != arn || *g.LogGroupName != name || *g.RetentionInDays != 7 || g.KmsKeyId != nil ||
		*g.CreationTime != f.now || g.LogGroupClass != "STANDARD" || *g.MetricFilterCount != 0 || *g.StoredBytes != 0 {
		t.Errorf("group %+v", g)
	}
	_, err = f.TagResource(ctx, &sdk.TagResourceInput{ResourceArn: new(arn), Tags: map[string]string{"env": "prod"}})
	f.ok(err)
	_, err = f.UntagResource(ctx, &sdk.UntagResourceInput{ResourceArn: new(arn + ":*"), TagKeys: []string{"team"}})
	f.ok(err)
	tags, err := f.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceArn: new(arn)})
	if err != nil || len(tags.Tags) != 1 || tags.Tags["env"] != "prod" {
		t.Errorf("tags %+v, %v", tags, err)
	}
	_, err = f.DeleteRetentionPolicy(ctx, &sdk.DeleteRetentionPolicyInput{LogGroupName: new(name)})
	f.ok(err)
	if g := read(); g.RetentionInDays != nil {
		t.Errorf("retention is still %d", *g.RetentionInDays)
	}
	_, err = f.DeleteLogGroup(ctx, &sdk.DeleteLogGroupInput{LogGroupName: new(name)})
	f.ok(err)
	out, err := f.DescribeLogGroups(ctx, &sdk.DescribeLogGroupsInput{LogGroupNamePrefix: new(name)})
	if err != nil || out.LogGroups == nil || len(out.LogGroups) != 0 {
		t.Errorf("after deletion %+v, %v", out, err)
	}
}

func TestDeletionProtection(t *testing.T) {
	f := setup(t)
	protect := func(on bool) {
		_, err := f.PutLogGroupDeletionProtection(ctx, &sdk.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: new(group),
			DeletionProtectionEnabled: &on})
		f.ok(err)
	}
	protect(true)
	_, err := f.DeleteLogGroup(ctx, &sdk.DeleteLogGroupInput{LogGroupName: new(group)})
	refused(t, err, "ValidationException",
		"The log group is protected from deletion; turn that off with PutLogGroupDeletionProtection first.")
	protect(false)
	_, err = f.DeleteLogGroup(ctx, &sdk.DeleteLogGroupInput{LogGroupName: new(group)})
	f.ok(err)
}

func TestDescribeLogGroupsChoosesAndPages(t *testing.T) {
	f := setup(t)
	for i := range 60 {
		_, err := f.CreateLogGroup(ctx, &sdk.CreateLogGroupInput{LogGroupName: new(fmt.Sprintf("Many/%02d", i))})
		f.ok(err)
	}
	names := func(in sdk.DescribeLogGroupsInput) (all []string) {
		t.Helper()
		pages := sdk.NewDescribeLogGroupsPaginator(f.Client, &in)
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			f.ok(err)
			for _, g := range out.LogGroups {
				all = append(all, *g.LogGroupName)
			}
		}
		return all
	}
	if all := names(sdk.DescribeLogGroupsInput{}); len(all) != 61 || all[0] != group || all[60] != "Many/59" {
		t.Errorf("all: %d, %v", len(all), all)
	}
	if some := names(sdk.DescribeLogGroupsInput{LogGroupNamePrefix: new("Many/"), Limit: new(int32(7))}); len(some) != 60 {
		t.Errorf("in pages of 7: %d, %v", len(some), some)
	}
	equal(t, "pattern", names(sdk.DescribeLogGroupsInput{LogGroupNamePattern: new("mAnY/1"), Limit: new(int32(9))}),
		"Many/10", "Many/11", "Many/12", "Many/13", "Many/14", "Many/15", "Many/16", "Many/17", "Many/18", "Many/19")
	equal(t, "identifiers", names(sdk.DescribeLogGroupsInput{LogGroupIdentifiers: []string{group,
		"arn:aws:logs:us-east-1:000000000000:log-group:Many/07"}}), group, "Many/07")
	equal(t, "class", names(sdk.DescribeLogGroupsInput{LogGroupClass: "INFREQUENT_ACCESS"}))
}

func TestGroupRefusals(t *testing.T) {
	f := setup(t)
	create := func(in sdk.CreateLogGroupInput) error {
		_, err := f.CreateLogGroup(ctx, &in)
		return err
	}
	const invalid = "InvalidParameterException"
	refused(t, create(sdk.CreateLogGroupInput{LogGroupName: new(group)}),
		"ResourceAlreadyExistsException", "The specified log group already exists")
	refused(t, create(sdk.CreateLogGroupInput{LogGroupName: new("a b")}), invalid, "1 validation error detected: "+
		`Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+`)
	refused(t, create(sdk.CreateLogGroupInput{LogGroupName: new("")}), invalid, "1 validation error detected: "+
		"Value '' at 'logGroupName' failed to satisfy constraint: Member must have length greater than or equal to 1")
	refused(t, create(sdk.CreateLogGroupInput{LogGroupName: new("k"), KmsKeyId: new("arn:aws:kms:x")}), invalid,
		"Berth does not encrypt log groups with KMS keys yet; leave kmsKeyId out.")
	refused(t, create(sdk.CreateLogGroupInput{LogGroupName: new("k"), Tags: map[string]string{"aws:x": "y"}}), invalid,
		"aws: prefixed tag key names are not allowed for external use.")
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint(i)] = ""
	}
	refused(t, create(sdk.CreateLogGroupInput{LogGroupName: new("k"), Tags: many}), "TooManyTagsException",
		"A resource can have at most 50 tags.")

	_, err := f.DeleteLogGroup(ctx, &sdk.DeleteLogGroupInput{LogGroupName: new("no")})
	refused(t, err, "ResourceNotFoundException", "The specified log group does not exist.")
	_, err = f.PutRetentionPolicy(ctx, &sdk.PutRetentionPolicyInput{LogGroupName: new(group), RetentionInDays: new(int32(2))})
	refused(t, err, invalid, "1 validation error detected: Value '2' at 'retentionInDays' failed to satisfy constraint: "+
		"Member must satisfy enum value set: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, "+
		"2557, 2922, 3288, 3653]")
	_, err = f.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{
		ResourceArn: new("arn:aws:logs:us-east-1:000000000000:log-group:no")})
	refused(t, err, "ResourceNotFoundException", "The specified log group does not exist.")
	_, err = f.DescribeLogGroups(ctx, &sdk.DescribeLogGroupsInput{LogGroupNamePrefix: new("a"), LogGroupNamePattern: new("abc")})
	refused(t, err, invalid, "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	_, err = f.DescribeLogGroups(ctx, &sdk.DescribeLogGroupsInput{Limit: new(int32(51))})
	refused(t, err, invalid, "1 validation error detected: Value '51' at 'limit' failed to satisfy constraint: "+
		"Member must have value less than or equal to 50")
	_, err = f.PutSubscriptionFilter(ctx, &sdk.PutSubscriptionFilterInput{LogGroupName: new(group), FilterName: new("f"),
		FilterPattern: new(""), DestinationArn: new("arn")})
	if err == nil || !strings.Contains(err.Error(), "PutSubscriptionFilter") {
		t.Errorf("an operation that Berth lacks: %v", err)
	}
}

func TestLegacyTags(t *testing.T) {
	f := setup(t)
	//lint:ignore SA1019 older Terraform providers call these
	_, err := f.TagLogGroup(ctx, &sdk.TagLogGroupInput{LogGroupName: new(group), Tags: map[string]string{"a": "1", "b": "2"}})
	f.ok(err)
	//lint:ignore SA1019 see above
	_, err = f.UntagLogGroup(ctx, &sdk.UntagLogGroupInput{LogGroupName: new(group), Tags: []string{"a"}})
	f.ok(err)
	//lint:ignore SA1019 see above
	out, err := f.ListTagsLogGroup(ctx, &sdk.ListTagsLogGroupInput{LogGroupName: new(group)})
	if err != nil || len(out.Tags) != 1 || out.Tags["b"] != "2" {
		t.Errorf("tags %+v, %v", out, err)
	}
}

func TestDescribeLogStreams(t *testing.T) {
	f := setup(t)
	f.put("old", f.now-30, "x")
	f.put("new", f.now-10, "x")
	f.put("middle", f.now-20, "x", "y")
	_, err := f.CreateLogStream(ctx, &sdk.CreateLogStreamInput{LogGroupName: new(group), LogStreamName: new("empty")})
	f.ok(err)
	names := func(in sdk.DescribeLogStreamsInput) (all []string) {
		t.Helper()
		in.Limit = new(int32(3))
		pages := sdk.NewDescribeLogStreamsPaginator(f.Client, &in)
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			f.ok(err)
			for _, st := range out.LogStreams {
				all = append(all, *st.LogStreamName)
			}
		}
		return all
	}
	equal(t, "by name", names(sdk.DescribeLogStreamsInput{LogGroupName: new(group)}), "empty", "middle", "new", "old")
	equal(t, "descending", names(sdk.DescribeLogStreamsInput{LogGroupName: new(group), Descending: new(true)}),
		"old", "new", "middle", "empty")
	equal(t, "by time", names(sdk.DescribeLogStreamsInput{LogGroupIdentifier: new(group), OrderBy: "LastEventTime"}),
		"empty", "old", "middle", "new")
	equal(t, "newest first", names(sdk.DescribeLogStreamsInput{LogGroupName: new(group), OrderBy: "LastEventTime",
		Descending: new(true)}), "new", "middle", "old", "empty")
	out, err := f.Client.DescribeLogStreams(ctx, &sdk.DescribeLogStreamsInput{LogGroupName: new(group),
		LogStreamNamePrefix: new("m")})
	f.ok(err)
	st := out.LogStreams[0]
	if len(out.LogStreams) != 1 || *st.Arn != "arn:aws:logs:us-east-1:000000000000:log-group:/ecs/web:log-stream:middle" ||
		*st.FirstEventTimestamp != f.now-20 || *st.LastEventTimestamp != f.now-19 || *st.LastIngestionTime != f.now {
		t.Errorf("stream %+v", st)
	}
	_, err = f.Client.DescribeLogStreams(ctx, &sdk.DescribeLogStreamsInput{LogGroupName: new(group), OrderBy: "LastEventTime",
		LogStreamNamePrefix: new("m")})
	refused(t, err, "InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix.")
	_, err = f.CreateLogStream(ctx, &sdk.CreateLogStreamInput{LogGroupName: new(group), LogStreamName: new("empty")})
	refused(t, err, "ResourceAlreadyExistsException", "The specified log stream already exists")
	_, err = f.DeleteLogStream(ctx, &sdk.DeleteLogStreamInput{LogGroupName: new(group), LogStreamName: new("empty")})
	f.ok(err)
	_, err = f.DeleteLogStream(ctx, &sdk.DeleteLogStreamInput{LogGroupName: new(group), LogStreamName: new("empty")})
	refused(t, err, "ResourceNotFoundException", "The specified log stream does not exist.")
}

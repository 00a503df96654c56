package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	smithy "github.com/aws/smithy-go"
)

func refused(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	refusal, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, part := range parts {
		if !strings.Contains(refusal.ErrorCode()+": "+refusal.ErrorMessage(), part) {
			t.Errorf("%s: %v does not say %q", what, err, part)
		}
	}
}

// TestRegionsAreApart: same names in two regions do not meet, ARNs tell the region, a restart keeps both, and a region without machines
// says so.
func TestRegionsAreApart(t *testing.T) {
	dir := t.TempDir()
	_, client, stop := up(t, dir)
	home, far := client("us-east-1"), client("eu-west-1")
	if got := clusters(t, far); len(got) != 0 { // as on AWS: its default cluster is made by who wants one
		t.Errorf("a region that nobody used has %v", got)
	}
	create(t, home, "same")
	create(t, far, "same")
	create(t, far, "default")
	for _, c := range []*ecs.Client{home, far} {
		name := "web"
		_, err := c.RegisterTaskDefinition(t.Context(), &ecs.RegisterTaskDefinitionInput{Family: &name, ContainerDefinitions: []types.ContainerDefinition{
			{Name: &name, Image: &name, Memory: new(int32(64))}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(home, far *ecs.Client) {
		t.Helper()
		for region, c := range map[string]*ecs.Client{"us-east-1": home, "eu-west-1": far} {
			got := clusters(t, c)
			if len(got) != 2 {
				t.Errorf("%s has %v", region, got)
			}
			for _, arn := range got {
				if !strings.HasPrefix(arn, "arn:aws:ecs:"+region+":") {
					t.Errorf("%s has %s", region, arn)
				}
			}
			def, err := c.DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: new("web")})
			if err != nil || def.TaskDefinition.Revision != 1 || !strings.Contains(*def.TaskDefinition.TaskDefinitionArn, ":"+region+":") {
				t.Errorf("%s: %+v, %v", region, def, err)
			}
		}
	}
	check(home, far)
	eventually(t, "no task is taken at home", func() bool { // the node connects while the API answers already
		ran, err := home.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: new("web")})
		return err == nil && len(ran.Tasks) == 1
	})
	_, err := far.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: new("web")})
	refused(t, "a task where no machine is", err, "InvalidParameterException", "eu-west-1 has no machines", "us-east-1")
	_, err = client("mars-1").ListClusters(t.Context(), &ecs.ListClustersInput{})
	refused(t, "a region that is none", err, "valid region")
	o := far.Options()
	_, err = ecr.New(ecr.Options{Region: "eu-west-1", BaseEndpoint: o.BaseEndpoint, Credentials: o.Credentials}).CreateRepository(t.Context(),
		&ecr.CreateRepositoryInput{RepositoryName: new("app")})
	refused(t, "a repository", err, "us-east-1")
	for region, groups := range map[string]int{"us-east-1": 0, "eu-west-1": 1} {
		logs := cloudwatchlogs.New(cloudwatchlogs.Options{Region: region, BaseEndpoint: o.BaseEndpoint, Credentials: o.Credentials})
		if region == "eu-west-1" {
			if _, err := logs.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: new("g")}); err != nil {
				t.Error(err)
			}
		}
		out, err := logs.DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{})
		if err != nil || len(out.LogGroups) != groups {
			t.Errorf("%s has %d log groups, %v", region, len(out.LogGroups), err)
		}
	}
	service := &ecs.CreateServiceInput{ServiceName: new("web"), TaskDefinition: new("web"), DesiredCount: new(int32(0))}
	if _, err := far.CreateService(t.Context(), service); err != nil {
		t.Error(err)
	}
	if _, err := far.DeleteService(t.Context(), &ecs.DeleteServiceInput{Service: new("web"), Force: new(true)}); err != nil {
		t.Error(err)
	}
	stop()
	_, client, stop = up(t, dir)
	defer stop()
	check(client("us-east-1"), client("eu-west-1"))
}

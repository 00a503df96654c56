package ecs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func TestRevisionsRiseAndAreNeverReused(t *testing.T) {
	r := newRig(t)
	for n := 1; n <= 3; n++ {
		if arn := r.define("web", nil); arn != fmt.Sprintf("%stask-definition/web:%d", arnPrefix, n) {
			t.Errorf("revision %d: %s", n, arn)
		}
	}
	last := arnPrefix + "task-definition/web:3"
	ok(r.deregisterTaskDefinition(r.ctx(), &sdk.DeregisterTaskDefinitionInput{TaskDefinition: &last}))(t)
	if d := ok(r.describeTaskDefinition(r.ctx(),
		&sdk.DescribeTaskDefinitionInput{TaskDefinition: new("web")}))(t); d.TaskDefinition.Revision != 2 {
		t.Errorf("a bare family is the latest ACTIVE revision, got %d", d.TaskDefinition.Revision)
	}
	d := ok(r.describeTaskDefinition(r.ctx(), &sdk.DescribeTaskDefinitionInput{TaskDefinition: &last}))(t)
	if d.TaskDefinition.Status != "INACTIVE" || d.TaskDefinition.DeregisteredAt == nil {
		t.Errorf("an INACTIVE revision stays describable: %+v", d.TaskDefinition)
	}
	ok(r.deleteTaskDefinitions(r.ctx(), &sdk.DeleteTaskDefinitionsInput{TaskDefinitions: []string{last}}))(t)
	if arn := r.define("web", nil); !strings.HasSuffix(arn, "web:4") {
		t.Errorf("a number given twice: %s", arn)
	}
	if by := *d.TaskDefinition.RegisteredBy; by != "arn:aws:iam::000000000000:root" {
		t.Errorf("registeredBy %s", by)
	}
}

func TestTaskDefinitionRefusals(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	_, err := r.describeTaskDefinition(r.ctx(), &sdk.DescribeTaskDefinitionInput{TaskDefinition: new("nope")})
	refused(t, err, "ClientException", "Unable to describe task definition.")
	_, err = r.deregisterTaskDefinition(r.ctx(), &sdk.DeregisterTaskDefinitionInput{TaskDefinition: new("web")})
	refused(t, err, "InvalidParameterException", "Revision is missing")
	_, err = r.deregisterTaskDefinition(r.ctx(), &sdk.DeregisterTaskDefinitionInput{TaskDefinition: new("web:latest")})
	refused(t, err, "InvalidParameterException", "Invalid revision number. Number: latest")
	_, err = r.deregisterTaskDefinition(r.ctx(), &sdk.DeregisterTaskDefinitionInput{TaskDefinition: new("web:9")})
	refused(t, err, "ClientException", "Unable to deregister task definition.")
	out := ok(r.deleteTaskDefinitions(r.ctx(), &sdk.DeleteTaskDefinitionsInput{TaskDefinitions: []string{"web:1"}}))(t)
	if f := out.Failures; len(f) != 1 || *f[0].Arn != "web:1" || *f[0].Reason !=
		"The specified task definition is still in ACTIVE status. Please deregister the target and try again." {
		t.Errorf("failures: %+v", out.Failures)
	}
	_, err = r.registerTaskDefinition(r.ctx(), &sdk.RegisterTaskDefinitionInput{Family: new("x"),
		ContainerDefinitions: []types.ContainerDefinition{webContainer()}, Tags: []types.Tag{{Key: new("aws:x"), Value: new("")}}})
	refused(t, err, "ClientException", "Tag keys cannot start with 'aws:', which is reserved for AWS use.")
}

// TestListTaskDefinitions: family as text, then revision as a number, over pages, both ways.
func TestListTaskDefinitions(t *testing.T) {
	r := newRig(t)
	want := []string{}
	for _, family := range []string{"a", "a-b", "b"} {
		for n := 1; n <= 11; n++ {
			want = append(want, r.define(family, nil))
		}
	}
	for _, sort := range []types.SortOrder{"", "DESC"} {
		var got []string
		var token *string
		for pages := 0; ; pages++ {
			out := ok(r.listTaskDefinitions(r.ctx(), &sdk.ListTaskDefinitionsInput{Sort: sort, MaxResults: new(int32(10)),
				NextToken: token}))(t)
			got = append(got, out.TaskDefinitionArns...)
			if token = out.NextToken; token == nil {
				break
			}
			if pages > 5 {
				t.Fatal("pages without end")
			}
		}
		if sort == "DESC" {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("sort %q: %v", sort, got)
		}
	}
	one := ok(r.listTaskDefinitions(r.ctx(), &sdk.ListTaskDefinitionsInput{FamilyPrefix: new("a")}))(t)
	if !slices.Equal(one.TaskDefinitionArns, want[:11]) {
		t.Errorf("familyPrefix names one family: %v", one.TaskDefinitionArns)
	}
	_, err := r.listTaskDefinitions(r.ctx(), &sdk.ListTaskDefinitionsInput{NextToken: new("junk")})
	refused(t, err, "InvalidParameterException", "Invalid token.")
	_, err = r.listTaskDefinitions(r.ctx(), &sdk.ListTaskDefinitionsInput{MaxResults: new(int32(101))})
	refused(t, err, "InvalidParameterException", "maxResults must be between 1 and 100.")
}

func TestListFamilies(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	old := r.define("web-old", nil)
	ok(r.deregisterTaskDefinition(r.ctx(), &sdk.DeregisterTaskDefinitionInput{TaskDefinition: &old}))(t)
	for status, want := range map[types.TaskDefinitionFamilyStatus][]string{
		"": {"web", "web-old"}, "ALL": {"web", "web-old"}, "ACTIVE": {"web"}, "INACTIVE": {"web-old"},
	} {
		out := ok(r.listTaskDefinitionFamilies(r.ctx(), &sdk.ListTaskDefinitionFamiliesInput{Status: status,
			FamilyPrefix: new("we")}))(t)
		if !slices.Equal(out.Families, want) {
			t.Errorf("status %q: %v, want %v", status, out.Families, want)
		}
	}
}

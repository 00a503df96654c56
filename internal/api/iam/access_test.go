package iam_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
)

// TestSessionsDoNotAdminister: who has a task's credentials cannot run tasks, read others' logs or push images.
func TestSessionsDoNotAdminister(t *testing.T) {
	a, err := iam.Open(filepath.Join(t.TempDir(), "root.json"), model.Scope{Account: "000000000000", Region: "us-east-1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := a.Issue("arn:aws:iam::000000000000:role/app", "task1", time.Hour)
	_, task, err := a.Secret(s.AccessKeyID, s.Token)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := a.Root()
	_, root, err := a.Secret(key, "")
	if err != nil {
		t.Fatal(err)
	}
	for action, allowed := range map[string]bool{"ecs:RunTask": false, "ecs:DescribeTasks": false, "ecs:RegisterTaskDefinition": false,
		"logs:GetLogEvents": false, "logs:DeleteLogGroup": false, "ecr:PutImage": false, "ecr:InitiateLayerUpload": false,
		"elasticloadbalancing:DeleteRule": false, "sts:AssumeRole": false, "ec2:DescribeVpcs": false,
		"sts:GetCallerIdentity": true, "logs:PutLogEvents": true, "ecr:BatchGetImage": true} {
		err := a.Allow(task, wire.Ask{Action: action})
		if allowed != (err == nil) || !allowed && (model.ErrorCode(err) != "AccessDeniedException" || err.Error() == "") {
			t.Errorf("%s: %v", action, err)
		}
		if err := a.Allow(root, wire.Ask{Action: action}); err != nil {
			t.Errorf("root, %s: %v", action, err)
		}
		token, _ := a.IssueRegistryToken(task, time.Hour)
		who, err := a.CheckRegistryToken(token)
		if err != nil || who != task.ARN || allowed != (a.AllowToken(token, action, "") == nil) {
			t.Errorf("the registry's %s: %s %v", action, who, err)
		}
	}
}

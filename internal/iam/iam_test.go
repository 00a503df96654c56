package iam_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/iam"
	"github.com/berthdev/berth/internal/model"
)

func TestKeysAndTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "root.json")
	now := time.Now()
	open := func() *iam.Authority {
		a, err := iam.Open(file, model.Scope{Account: "000000000000", Region: "us-east-1"}, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	id, secret, err := iam.ReadRoot(file)
	if err != nil || len(id) != 20 || len(secret) != 40 {
		t.Fatalf("root key %q %q %v", id, secret, err)
	}
	if st, _ := os.Stat(file); st.Mode().Perm() != 0o600 {
		t.Errorf("the root key's file is %v", st.Mode())
	}
	if got, caller, err := open().Secret(id, ""); err != nil || got != secret || caller.ARN != "arn:aws:iam::000000000000:root" {
		t.Errorf("root after reopening: %v %+v", err, caller)
	}
	s := a.Issue("arn:aws:iam::000000000000:role/app", "task1", time.Hour)
	if got, caller, err := a.Secret(s.AccessKeyID, s.Token); err != nil || got != s.SecretAccessKey ||
		caller.ARN != "arn:aws:sts::000000000000:assumed-role/app/task1" {
		t.Errorf("session: %v %+v", err, caller)
	}
	password, _ := a.IssueRegistryToken(12 * time.Hour)
	if err := a.CheckRegistryToken(password); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][2]string{"another key": {"ASIAOTHER", s.Token}, "no token": {s.AccessKeyID, ""},
		"a changed token": {s.AccessKeyID, "x" + s.Token}, "a registry password": {s.AccessKeyID, password}, "nobody": {"", ""}} {
		if _, _, err := a.Secret(bad[0], bad[1]); model.ErrorCode(err) != "UnrecognizedClientException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a.CheckRegistryToken(s.Token) == nil {
		t.Error("a session token opens the registry")
	}
	now = now.Add(13 * time.Hour)
	if _, _, err := a.Secret(s.AccessKeyID, s.Token); model.ErrorCode(err) != "ExpiredTokenException" {
		t.Errorf("an expired session: %v", err)
	}
	if err := a.CheckRegistryToken(password); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired password: %v", err)
	}
}

package iam_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/wire"
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
	if i, s := a.Root(); i != id || s != secret || !strings.HasPrefix(id, "AKIA") {
		t.Errorf("Root says %q", i)
	}
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
	password, _ := a.IssueRegistryToken(wire.Caller{}, 12*time.Hour)
	if session, err := a.CheckRegistryToken(password); err != nil || session != "" {
		t.Error(session, err)
	}
	for name, bad := range map[string][2]string{"another key": {"ASIAOTHER", s.Token}, "no token": {s.AccessKeyID, ""},
		"a changed token": {s.AccessKeyID, "x" + s.Token}, "a registry password": {s.AccessKeyID, password}, "nobody": {"", ""}} {
		if _, _, err := a.Secret(bad[0], bad[1]); model.ErrorCode(err) != "UnrecognizedClientException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.CheckRegistryToken(s.Token); err == nil {
		t.Error("a session token opens the registry")
	}
	now = now.Add(13 * time.Hour)
	if _, _, err := a.Secret(s.AccessKeyID, s.Token); model.ErrorCode(err) != "ExpiredTokenException" {
		t.Errorf("an expired session: %v", err)
	}
	if _, err := a.CheckRegistryToken(password); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired password: %v", err)
	}
}

func TestTheRootKeysFile(t *testing.T) {
	scope := model.Scope{Account: "000000000000", Region: "us-east-1"}
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"no JSON":         {"{", 0o600, "unexpected end of JSON input"},
		"no key":          {"{}", 0o600, "holds no key"},
		"open to a group": {`{"AccessKeyID":"a","SecretAccessKey":"b"}`, 0o640, "run chmod 600 on it"},
		"good":            {`{"AccessKeyID":"a","SecretAccessKey":"b"}`, 0o400, ""},
	} {
		file := filepath.Join(t.TempDir(), "root.json")
		if err := os.WriteFile(file, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := iam.Open(file, scope, time.Now); (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(),
			c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := iam.Open(filepath.Join(t.TempDir(), "no", "root.json"), scope, time.Now); err == nil {
		t.Error("a key without a folder")
	}
}

// TestOneRootKey: processes that start at once end up with the same key.
func TestOneRootKey(t *testing.T) {
	dir := t.TempDir()
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if a, err := iam.Open(filepath.Join(dir, "root.json"), model.Scope{}, time.Now); err == nil {
				ids[i], _ = a.Root()
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("%q and %q", id, ids[0])
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("files are left over: %v", left)
	}
}

// TestTokensOfAnotherBerth: a token is good only where it was made, and only whole.
func TestTokensOfAnotherBerth(t *testing.T) {
	open := func() *iam.Authority {
		a, err := iam.Open(filepath.Join(t.TempDir(), "root.json"), model.Scope{Account: "000000000000"}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a, b := open(), open()
	s := a.Issue("arn:aws:iam::000000000000:role/path/app", "s", time.Hour)
	if _, _, err := b.Secret(s.AccessKeyID, s.Token); model.ErrorCode(err) != "UnrecognizedClientException" {
		t.Errorf("another's session: %v", err)
	}
	if _, c, err := a.Secret(s.AccessKeyID, s.Token); err != nil || c.ARN != "arn:aws:sts::000000000000:assumed-role/app/s" ||
		!regexp.MustCompile(`^AROA[A-Z2-7]{17}:s$`).MatchString(c.UserID) {
		t.Errorf("%v %+v", err, c)
	}
	password, _ := a.IssueRegistryToken(wire.Caller{}, time.Hour)
	if _, err := b.CheckRegistryToken(password); err == nil {
		t.Error("another's password")
	}
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(s.Token)-1).Draw(t, "i")
		c := rapid.SampledFrom([]byte("Aa0_.")).Draw(t, "c")
		changed := s.Token[:i] + string(c) + s.Token[i+1:]
		if secret, _, err := a.Secret(s.AccessKeyID, changed); err == nil && changed != s.Token && secret == s.SecretAccessKey {
			t.Errorf("a changed token is good: %s", changed)
		}
	})
}

func FuzzTokens(f *testing.F) {
	a, err := iam.Open(filepath.Join(f.TempDir(), "root.json"), model.Scope{}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("e30.AAAA")
	f.Add(".")
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, err := a.Secret("ASIA", token); err == nil {
			t.Error("a session of nobody")
		}
		if _, err := a.CheckRegistryToken(token); err == nil {
			t.Error("a password of nobody")
		}
	})
}

package sts_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/sts"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
)

func TestGetCallerIdentity(t *testing.T) {
	ctx := context.Background()
	keys, err := iam.Open(filepath.Join(t.TempDir(), "key"), model.Scope{Account: "000000000000", Region: "us-east-1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: keys, Services: []*wire.Service{sts.New()}}))
	defer srv.Close()
	as := func(id, secret, token string) *sdk.Client {
		return sdk.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)})
	}
	id, secret := keys.Root()
	root, err := as(id, secret, "").GetCallerIdentity(ctx, nil)
	if err != nil || *root.Account != "000000000000" || *root.UserId != "000000000000" ||
		*root.Arn != "arn:aws:iam::000000000000:root" {
		t.Errorf("%v %+v", err, root)
	}
	s := keys.Issue("arn:aws:iam::000000000000:role/app", "task-1", time.Hour)
	role, err := as(s.AccessKeyID, s.SecretAccessKey, s.Token).GetCallerIdentity(ctx, nil)
	if err != nil || *role.Arn != "arn:aws:sts::000000000000:assumed-role/app/task-1" {
		t.Errorf("%v %+v", err, role)
	}
	_, err = as(id, secret, "").GetSessionToken(ctx, nil)
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "UnsupportedOperationException" {
		t.Errorf("an operation that Berth lacks: %v", err)
	}
}

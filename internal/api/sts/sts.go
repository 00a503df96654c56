// Package sts is the Security Token Service, as far as it tells callers who they are.
package sts

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/berthdev/berth/internal/api/wire"
)

// New makes the service.
func New() *wire.Service {
	s := &wire.Service{Name: "sts", Protocol: wire.Query, Version: "2011-06-15",
		Namespace: "https://sts.amazonaws.com/doc/2011-06-15/"}
	wire.Handle(s, getCallerIdentity)
	return s
}

func getCallerIdentity(ctx context.Context, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	c := wire.CallerFrom(ctx)
	return &sts.GetCallerIdentityOutput{Account: &c.Account, Arn: &c.ARN, UserId: &c.UserID}, nil
}

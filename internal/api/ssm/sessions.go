// Package ssm serves what ECS Exec needs of AWS Systems Manager.
package ssm

import (
	"context"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/berthdev/berth/internal/api/wire"
)

// Sessions are those of ECS Exec, which Session Manager's plugin resumes and ends here.
type Sessions struct {
	// Who is the ARN of a session's caller, "" when there is none.
	Who func(id string) string
	// Resume makes another token for a session's client, "" when there is none.
	Resume    func(id string) (token string)
	Terminate func(id string)
	// URL is that of a session's data channel.
	URL func(ctx context.Context, id string) string
}

// HandleSessions adds the operations of sessions to the service "ssm". Others' sessions are as if they had ended, but for root.
func HandleSessions(s *wire.Service, all Sessions) {
	mine := func(ctx context.Context, id *string) string {
		if id == nil {
			return ""
		}
		caller := wire.CallerFrom(ctx)
		if who := all.Who(*id); who == "" || who != caller.ARN && !strings.HasSuffix(caller.ARN, ":root") {
			return ""
		}
		return *id
	}
	wire.Handle(s, func(ctx context.Context, in *sdk.ResumeSessionInput) (*sdk.ResumeSessionOutput, error) {
		out := &sdk.ResumeSessionOutput{SessionId: in.SessionId, TokenValue: new("")} // the plugin says then that it timed out
		if id := mine(ctx, in.SessionId); id != "" {
			out.TokenValue, out.StreamUrl = new(all.Resume(id)), new(all.URL(ctx, id))
		}
		return out, nil
	})
	wire.Handle(s, func(ctx context.Context, in *sdk.TerminateSessionInput) (*sdk.TerminateSessionOutput, error) {
		if id := mine(ctx, in.SessionId); id != "" {
			all.Terminate(id)
		}
		return &sdk.TerminateSessionOutput{SessionId: in.SessionId}, nil
	})
}

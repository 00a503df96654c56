// Package steps is how containerd and the shim finish what they have begun.
package steps

import (
	"context"

	"github.com/berthdev/berth/internal/timeouts"
)

// Finish makes a step that its caller's end does not interrupt: whoever was killed finds on its return what it asked for.
func Finish[Req, Res any](ctx context.Context, r Req, step func(context.Context, Req) (Res, error)) (Res, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeouts.RuncStep)
	defer cancel()
	return step(ctx, r)
}

package store

import "context"

type dry struct{}

// Dry marks the Updates of ctx as a rehearsal: f runs on the newest state as ever, with the same refusals, and when it returns nil
// nothing is written. It is for handlers whose only effects are Updates: see console's checks.
func Dry(ctx context.Context) context.Context { return context.WithValue(ctx, dry{}, true) }

// IsDry tells whether ctx was marked by Dry.
func IsDry(ctx context.Context) bool { return ctx.Value(dry{}) != nil }

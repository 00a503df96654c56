package store

import "context"

type freeing struct{}

// Freeing marks the Updates of ctx as freeing something: they stop a task, take work away or delete, or tell of an end. They go on when
// the disk is so full that other Updates are refused, since what fills the disk can only be stopped by them.
func Freeing(ctx context.Context) context.Context { return context.WithValue(ctx, freeing{}, true) }

// IsFreeing tells whether ctx was marked by Freeing.
func IsFreeing(ctx context.Context) bool { return ctx.Value(freeing{}) != nil }

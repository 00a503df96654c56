//go:build race

package proxy

// A sync.Pool forgets at random when races are looked for.
func init() { pooled = false }

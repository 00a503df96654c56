package mirror

import (
	"iter"
	"maps"
	"slices"

	"github.com/berthdev/berth/internal/store"
)

// merged yields the base rows that the update has not touched and its own rows that match, in the order of their keys. What the
// update writes while the sequence is being read may or may not show.
func (t *tx) merged(table string, base iter.Seq[any], match func(key string, v any) bool) iter.Seq[any] {
	local := t.local[table]
	if len(local) == 0 {
		return base
	}
	keys := slices.Sorted(maps.Keys(local))
	own := make([]any, 0, len(keys))
	ownKeys := make([]string, 0, len(keys))
	touched := maps.Clone(local)
	for _, k := range keys {
		if v := local[k]; v != nil && match(k, v) {
			own, ownKeys = append(own, v), append(ownKeys, k)
		}
	}
	return func(yield func(any) bool) {
		i := 0
		for v := range base {
			key := v.(store.Keyed).Key()
			for ; i < len(own) && ownKeys[i] < key; i++ {
				if !yield(own[i]) {
					return
				}
			}
			if _, ok := touched[key]; ok {
				continue // ours comes in its own place, or is deleted
			}
			if !yield(v) {
				return
			}
		}
		for ; i < len(own); i++ {
			if !yield(own[i]) {
				return
			}
		}
	}
}

package containerd

import "sync"

// cache keeps the last values that were looked up; a full one forgets all, which is rare and costs one lookup each.
type cache[V any] struct {
	mu     sync.Mutex
	max    int
	values map[string]V
}

func newCache[V any](max int) *cache[V] { return &cache[V]{max: max, values: map[string]V{}} }

func (c *cache[V]) get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[key]
	return v, ok
}

func (c *cache[V]) put(key string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.values) >= c.max {
		clear(c.values)
	}
	c.values[key] = v
}

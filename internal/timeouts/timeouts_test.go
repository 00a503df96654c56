package timeouts

import (
	"strings"
	"testing"
)

func TestOrder(t *testing.T) {
	for _, r := range Order() {
		if r.Shorter > r.Longer || r.Shorter == r.Longer && !strings.Contains(r.Names, "<=") {
			t.Errorf("%s does not hold (%v, %v): %s", r.Names, r.Shorter, r.Longer, r.Why)
		}
	}
}

package quota

import (
	"strings"
	"testing"

	"github.com/berthdev/berth/internal/model"
)

// TestQuotas: each admits as many as it says, refuses one more by a code of ECS's and a sentence, and says where it is from.
func TestQuotas(t *testing.T) {
	names := map[string]bool{}
	for _, q := range All() {
		if q.Name == "" || names[q.Name] || q.Source == "" {
			t.Errorf("%q has no name or source of its own", q.Name)
		}
		names[q.Name] = true
		if err := q.Admit(q.Max); err != nil {
			t.Errorf("%s: %d are refused: %v", q.Name, q.Max, err)
		}
		err := q.Admit(q.Max + 1)
		if code := model.ErrorCode(err); code != "InvalidParameterException" && code != "ClientException" {
			t.Errorf("%s: one more gets %v", q.Name, err)
		}
		if err == nil || strings.ContainsAny(err.Error(), "{}") {
			t.Errorf("%s: the text is %v", q.Name, err)
		}
	}
	if got := Definition.Admit(66420).Error(); got != "ClientException: Actual length: '66420'. Max allowed length is '65536' bytes." {
		t.Error(got)
	}
}

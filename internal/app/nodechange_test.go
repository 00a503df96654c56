package app

import (
	"strings"
	"testing"
)

// changeNodes drains, activates and fails to remove the nodes of a server of one's own and one that is up.
func changeNodes(t *testing.T, dir string) {
	t.Helper()
	r, err := Fleet(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	in, err := LoadInstance(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range r.Nodes {
		for _, c := range []struct{ change, state string }{{"drain", "DRAINING"}, {"drain", "DRAINING"}, {"activate", "ACTIVE"}} {
			if left, err := ChangeNode(t.Context(), dir, n.ID, c.change, false); err != nil || left.Services+left.Alone != 0 {
				t.Errorf("%s: %+v, %v", c.change, left, err)
			}
			r, err := Fleet(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if now, err := r.Find(n.ID); err != nil || now.State != c.state {
				t.Errorf("after %s node %s is %s (%v)", c.change, n.ID, now.State, err)
			}
		}
		want := "--force"
		if n.ID == in.NodeID {
			want = "own node"
		}
		if _, err := ChangeNode(t.Context(), dir, n.ID, "rm", n.ID == in.NodeID); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rm: %v, want words about %s", err, want)
		}
	}
	for _, word := range []string{"nobody", "x/y"} {
		if _, err := ChangeNode(t.Context(), dir, word, "drain", false); err == nil || !strings.Contains(err.Error(), "berth node ls") {
			t.Errorf("drain %s: %v", word, err)
		}
	}
	var out strings.Builder
	if err := WaitEmpty(t.Context(), dir, in.NodeID, &out); err != nil || !strings.Contains(out.String(), "is drained") {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := ConfirmLost(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "most nodes are heard") {
		t.Errorf("nothing waits: %v", err)
	}
}

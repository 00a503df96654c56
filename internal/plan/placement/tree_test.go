package placement

import (
	"testing"

	"pgregory.net/rapid"
)

// tree is an expression, how it is written, and what it must answer for facts().
type tree struct {
	text  string
	value bool
	level int // of its operator: 0 or, 1 and, 2 not or a comparison
}

// leaves are comparisons whose answers TestQuery has.
var leaves = []tree{
	{"attribute:stack == prod", true, 2}, {"attribute:stack != prod", false, 2}, {"attribute:none exists", false, 2},
	{"attribute:none !exists", true, 2}, {"runningTasksCount >= 3", true, 2}, {"remainingCpu < 1000", false, 2},
	{"task:group == service:web", true, 2}, {"attribute:ecs.instance-type =~ t2.*", true, 2},
	{"attribute:ecs.availability-zone in [us-east-1a, 'x y']", true, 2}, {"attribute:rack not in [9, 10]", false, 2},
	{"agentConnected == true", true, 2}, {"registeredAt > 2027-01-01", false, 2},
}

func drawTree(t *rapid.T, depth int) tree {
	kind := rapid.IntRange(0, 4).Draw(t, "kind")
	if depth == 0 {
		kind = 0
	}
	word := func(words ...string) string { return rapid.SampledFrom(words).Draw(t, "word") }
	switch kind {
	case 1:
		a := drawTree(t, depth-1)
		return tree{word("not ", "!", "NOT ") + a.within(2), !a.value, 2}
	case 2:
		a, b := drawTree(t, depth-1), drawTree(t, depth-1)
		return tree{a.within(1) + word(" and ", " && ", " AND ") + b.within(1), a.value && b.value, 1}
	case 3:
		a, b := drawTree(t, depth-1), drawTree(t, depth-1)
		return tree{a.within(0) + word(" or ", " || ", " Or ") + b.within(0), a.value || b.value, 0}
	case 4:
		a := drawTree(t, depth-1)
		return tree{"( " + a.text + " )", a.value, 2}
	}
	return rapid.SampledFrom(leaves).Draw(t, "leaf")
}

// within is the expression as an operand of an operator of that level.
func (a tree) within(level int) string {
	if a.level < level {
		return "(" + a.text + ")"
	}
	return a.text
}

// TestQueryTrees: an expression of any shape answers as its parts do, by the precedence of not, and, or; and it is negated by not.
func TestQueryTrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTree(t, 5)
		for text, value := range map[string]bool{want.text: want.value, "not (" + want.text + ")": !want.value} {
			if len(text) > 2000 {
				continue
			}
			q, err := ParseQuery(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if got := q.Match(facts()); got != value {
				t.Fatalf("%s: got %t, want %t", text, got, value)
			}
		}
	})
}

package placement

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

func facts() *Facts {
	return &Facts{
		Node: &model.Node{ID: "n", Connected: true,
			Declaration: model.Declaration{Version: "1.10.2", CPU: 4096, Memory: 8000,
				Attributes: map[string]string{"ecs.instance-type": "t2.micro", "ecs.availability-zone": "us-east-1a", "stack": "prod",
					"rack": "9", "empty": ""}}},
		FreeCPU: 1000, FreeMemory: 2000,
		Live: &still{registered: time.Date(2026, 2, 18, 13, 22, 9, 0, time.UTC), running: 3, groups: []string{"family:batch", "service:web"}},
	}
}

func TestQuery(t *testing.T) {
	tests := []struct {
		expression string
		want       bool
	}{
		// the developer guide's examples
		{"attribute:ecs.instance-type =~ t2.*", true},
		{"attribute:ecs.instance-type =~ g2.* and attribute:ecs.availability-zone != us-east-1d", false},
		{"attribute:ecs.availability-zone in [us-east-1a, us-east-1b]", true},
		{"task:group == service:web", true},
		{"not(task:group == database)", true},
		{"runningTasksCount == 1", false},
		{"ec2InstanceId in ['i-abcd1234', 'i-wxyx7890']", false},
		{"attribute:ecs.instance-type == t2.small or attribute:ecs.availability-zone == us-east-1a", true},
		{"registeredAt >= 2018-02-18T13:22:09+00:00", true},
		{"registeredAt < 2026-02-18", false},
		{"agentVersion >= 1.9.4", true}, {"agentVersion < 1.10", false}, {"agentVersion == v1.10.2", true},
		{"agentConnected == true", true}, {"agentConnected == false", false},
		// operators and their names
		{"attribute:stack exists", true}, {"attribute:none exists", false}, {"attribute:none !exists", true},
		{"attribute:none not_exists", true}, {"attribute:none not exists", true}, {"attribute:empty exists", true},
		{"attribute:stack !in [a, b]", true}, {"attribute:stack not_in [prod]", false}, {"attribute:stack not in [prod]", false},
		{"attribute:none not in [prod]", true}, {"attribute:none != x", true}, {"attribute:none == ''", false},
		{"attribute:stack !~ p.*", false}, {"attribute:stack not_matches x", true}, {"attribute:stack matches pro", false},
		{"attribute:stack equals prod", true}, {"attribute:stack not_equals prod", false},
		{"attribute:rack < 10", true}, {"attribute:rack greater_than_equal 9", true}, {"attribute:rack less_than 9", false},
		{`attribute:stack == "prod"`, true}, {"attribute:stack==prod", true},
		{"registeredCpu == 4096 && registeredMemory > 7999", true}, {"remainingCpu<=999||remainingMemory>=2000", true},
		{"pendingTasksCount == 0", true},
		// precedence: not, then and, then or
		{"attribute:stack == x and attribute:stack == y or attribute:stack == prod", true},
		{"attribute:stack == x and (attribute:stack == y or attribute:stack == prod)", false},
		{"!attribute:stack == x and attribute:stack == prod", true}, {"not not attribute:stack exists", true},
		// regular expressions keep their own parentheses
		{"(attribute:ecs.instance-type =~ t2.(micro|small)) and attribute:stack exists", true},
		{"attribute:ecs.instance-type =~ 't2\\.(micro|small)'", true},
		// groups
		{"task:group != service:web", false}, {"task:group =~ service:.*", true}, {"task:group !~ service:.*", false},
		{"task:group in [x, family:batch]", true}, {"task:group not in [x, y]", true}, {"task:group exists", true},
	}
	for _, tt := range tests {
		q, err := ParseQuery(tt.expression)
		if err != nil {
			t.Errorf("%s: %v", tt.expression, err)
			continue
		}
		if got := q.Match(facts()); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.expression, got, tt.want)
		}
	}
}

func TestQueryErrors(t *testing.T) {
	tests := []struct{ expression, want string }{
		{"", `The expression "" cannot be read: expected a subject (attribute:<name>, task:group`},
		{"attribute:x ~ y", `expected an operator (==, !=, <, <=, >, >=, =~, !~, in, !in, exists or !exists) at character 13, found "~ y"`},
		{"attribute: == y", "expected a subject"},
		{"colour == red", `at character 1, found "colour == red"`},
		{"attribute:x ==", "expected a value at character 15, found the end"},
		{"attribute:x == 'open", "expected a value"},
		{"(attribute:x == y", `expected ")" at character 18`},
		{"attribute:x == y attribute:z == y", `expected "and", "or" or the end at character 18`},
		{"attribute:x in a", `expected "["`},
		{"attribute:x in [a b]", `expected "," or "]"`},
		{"attribute:x =~ a[", "the regular expression at character 16 cannot be used"},
		{"attribute:x =~ 'a)|(b'", "the regular expression at character 16 cannot be used"},
		{"runningTasksCount == many", "expected a whole number at character 22"},
		{"registeredAt > yesterday", "expected a time such as"},
		{strings.Repeat("(", 60), "it is nested deeper than 50"},
		{strings.Repeat("x", 2001), "at most 2000 are allowed"},
	}
	for _, tt := range tests {
		_, err := ParseQuery(tt.expression)
		if model.ErrorCode(err) != "InvalidParameterException" || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40s: got %v\nwant …%s…", tt.expression, err, tt.want)
		}
	}
}

// TestMatch: a query looks at the node, at what clients changed of the instance, and at the tasks of its cluster.
func TestMatch(t *testing.T) {
	n := &model.Node{ID: "n", Declaration: model.Declaration{CPU: 1000, Memory: 1000, Attributes: map[string]string{"stack": "node's"}}}
	i := &model.Instance{NodeID: "n", Cluster: "c", Attributes: []types.Attribute{{Name: new("stack"), Value: new("own")}}}
	on := []*model.Task{
		{ID: "1", Cluster: "c", Group: "service:web", Needs: model.Resources{CPU: 100, Memory: 10}, Observed: model.Observed{Status: model.Running}},
		{ID: "2", Cluster: "c", Group: "service:web", Needs: model.Resources{CPU: 100}},
		{ID: "3", Cluster: "d", Group: "service:db", Needs: model.Resources{Memory: 200}, Observed: model.Observed{Status: model.Running}},
	}
	for _, expression := range []string{"attribute:stack == own", "runningTasksCount == 1 and pendingTasksCount == 1", "remainingCpu == 800",
		"remainingMemory == 790", "task:group == service:web and not task:group == service:db", "not task:group =~ .*db"} {
		q, err := ParseQuery(expression)
		if err != nil || !Match(q, i, n, on) {
			t.Errorf("%s is not true: %v", expression, err)
		}
	}
}

// FuzzParseQuery: no input panics, and what is read can be asked.
func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{"attribute:a == b and not (task:group in [x, 'y'])", "registeredAt < 2026-01-01 or !agentConnected == true",
		"attribute:x =~ t2.(a|b)", "runningTasksCount >= 1 && attribute:y !exists"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseQuery(s)
		if err != nil {
			if model.ErrorCode(err) == "" {
				t.Fatalf("an error without a name: %v", err)
			}
			return
		}
		q.Match(facts())
	})
}

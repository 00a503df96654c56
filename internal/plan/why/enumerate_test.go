package why

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// source parses the Go files below the folders of internal/, tests and test helpers left out.
func source(t *testing.T, f func(file string, syntax *ast.File), folders ...string) {
	t.Helper()
	for _, folder := range folders {
		seen := 0
		err := filepath.WalkDir(filepath.Join("../..", folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "agenttest") ||
				strings.Contains(path, "plan/why") {
				return err
			}
			syntax, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err == nil {
				seen++
				f(path, syntax)
			}
			return err
		})
		if err != nil || seen == 0 {
			t.Fatalf("%s: %d files, %v", folder, seen, err)
		}
	}
}

// literals calls f with every string literal of a file.
func literals(syntax ast.Node, f func(text string)) {
	ast.Inspect(syntax, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil {
				f(s)
			}
		}
		return true
	})
}

// selectors calls f with the names of everything that is taken from a package or value: the B of A.B.
func selectors(syntax ast.Node, f func(name string)) {
	ast.Inspect(syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			f(s.Sel.Name)
		}
		return true
	})
}

var errorName = regexp.MustCompile(`^([A-Z][A-Za-z]+(?:Error|Exception))(: .*)?$`)

// notOfTasks are error names that answer requests and end no task.
var notOfTasks = []string{"InternalServerError"}

// Every error name that a node, a planner or control can put into a task's or a container's reason has a cure.
func TestEveryErrorNameHasACure(t *testing.T) {
	found := map[string]string{}
	source(t, func(file string, syntax *ast.File) {
		if strings.Contains(file, "agent/metadata") || strings.Contains(file, "node/upstream") {
			return // what they name answers containers' requests
		}
		literals(syntax, func(text string) {
			if m := errorName.FindStringSubmatch(text); m != nil && !slices.Contains(notOfTasks, m[1]) {
				found[m[1]] = file
			}
		})
	}, "node", "plan", "control", "places")
	if len(found) < 8 {
		t.Fatalf("only %d error names were found in the source: is the walk broken? %v", len(found), found)
	}
	for name, file := range found {
		if strings.HasSuffix(name, "Exception") {
			continue // an API's refusal
		}
		task := Task{ID: "t", Status: model.Stopped, StopCode: types.TaskStopCodeTaskFailedToStart, Reason: name + ": something",
			Containers: []Container{{Name: "web", Image: "shop/web:1", Essential: true}}}
		if f := Explain(task, time.Time{}); f.Name != name || f.Cause == "" || len(f.Cures) == 0 {
			t.Errorf("%s (%s) has no cause and cure: %+v", name, file, f)
		}
	}
}

// Every stop code that the code can write, and every one that ECS has, is explained.
func TestEveryStopCodeIsExplained(t *testing.T) {
	used := map[string]bool{}
	source(t, func(_ string, syntax *ast.File) {
		selectors(syntax, func(name string) {
			if strings.HasPrefix(name, "TaskStopCode") && name != "TaskStopCode" {
				used[name] = true
			}
		})
	}, "node", "plan", "control", "api/ecs", "app", "nodelink")
	if len(used) < 5 {
		t.Fatalf("only %d stop codes were found in the source", len(used))
	}
	for _, code := range types.TaskStopCode("").Values() {
		f := Explain(Task{ID: "t", Status: model.Stopped, StopCode: code, Reason: "because"}, time.Time{})
		if f.Cause == "" || f.Name == "Ended" {
			t.Errorf("the stop code %s is not explained: %+v", code, f)
		}
	}
}

// Every reason of placement has a cure.
func TestEveryRefusalHasACure(t *testing.T) {
	n := 0
	source(t, func(file string, syntax *ast.File) {
		ast.Inspect(syntax, func(node ast.Node) bool {
			v, ok := node.(*ast.ValueSpec)
			if !ok || len(v.Values) == 0 || !strings.HasPrefix(v.Names[0].Name, "reason") && v.Names[0].Name != "noInstances" {
				return true
			}
			literals(v, func(code string) {
				n++
				if f := Refusal(code, 256, 512); refusals[code] == nil || f.Cause == "" || len(f.Cures) == 0 {
					t.Errorf("%s: placement refuses with %q, which has no cure", file, code)
				}
			})
			return true
		})
	}, "plan/placement")
	source(t, func(file string, syntax *ast.File) {
		literals(syntax, func(s string) {
			if strings.HasPrefix(s, "RESOURCE:") && refusals[s] == nil {
				t.Errorf("%s: RunTask fails with %q, which has no cure", file, s)
			}
		})
	}, "api/ecs")
	if n < 10 {
		t.Fatalf("only %d codes were found in the source", n)
	}
}

// Every sentence with which placement explains that nothing fits is understood from the service's event.
func TestEveryPlacementEventIsUnderstood(t *testing.T) {
	source(t, func(file string, syntax *ast.File) {
		ast.Inspect(syntax, func(node ast.Node) bool {
			lit, ok := node.(*ast.CompositeLit)
			if !ok || lit.Type != nil || len(lit.Elts) != 3 {
				return true
			}
			if id, ok := lit.Elts[0].(*ast.Ident); !ok || !strings.HasPrefix(id.Name, "reason") {
				return true
			}
			text := ""
			literals(lit.Elts[1], func(s string) { text += s })
			if b, ok := lit.Elts[1].(*ast.BinaryExpr); ok { // with a constant in the middle
				ast.Inspect(b, func(n ast.Node) bool {
					if id, ok := n.(*ast.Ident); ok {
						text += map[string]string{"reasonDistinct": "distinctInstance", "reasonMemberOf": "MemberOf"}[id.Name]
					}
					return true
				})
			}
			if refusalOf("The closest matching (container-instance x) "+text) == "" {
				t.Errorf("%s: nobody understands %q", file, text)
			}
			return true
		})
	}, "plan/placement")
}

// Every way a deployment can end, in the words of its reason, is explained.
func TestEveryDeploymentReasonIsExplained(t *testing.T) {
	n := 0
	source(t, func(file string, syntax *ast.File) {
		literals(syntax, func(s string) {
			begins := strings.HasPrefix(s, "Service deployment ") || strings.HasPrefix(s, "ECS deployment ") && len(s) > len("ECS deployment ")
			continues := s == " completed." || s == " in progress." || s == " stopped by the user."
			if !begins && !continues || strings.HasSuffix(s, "because deployment ") {
				return // its end is another literal
			}
			n++
			f, ok := DeploymentReason(s)
			if !ok || f.Level == Bad && len(f.Cures) == 0 {
				t.Errorf("%s: a deployment can end with %q, which has no cause and cure", file, s)
			}
		})
	}, "plan/deploy")
	if n < 10 {
		t.Fatalf("only %d reasons were found in the source", n)
	}
}

// neutral are the events that tell of nothing wrong.
var neutral = []string{"has started", "has stopped", "stopped %d", "registered", "deregistered", "has begun draining", "rolling back to deployment", "deployment completed", "has reached a steady state", "%s"}

// Every event of a service tells of nothing wrong or is explained.
func TestEveryEventIsExplained(t *testing.T) {
	n := 0
	source(t, func(file string, syntax *ast.File) {
		ast.Inspect(syntax, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "text" && sel.Sel.Name != "event" {
				return true
			}
			text := ""
			for _, arg := range call.Args {
				literals(arg, func(s string) { text += s })
			}
			_, what, _ := strings.Cut(strings.TrimPrefix(text, "(service "), ") ")
			if text == "" || slices.ContainsFunc(neutral, func(s string) bool { return strings.Contains(what, s) || strings.HasPrefix(text, s) }) && !strings.Contains(text, "un") {
				return true
			}
			n++
			if _, ok := ExplainEvent(strings.ReplaceAll(text, "%", ""), 1, 1); !ok && !strings.Contains(text, "(deployment %s) %s") && !isNeutral(text) {
				t.Errorf("%s: the event %q has no cause and cure", file, text)
			}
			return true
		})
		literals(syntax, func(s string) {
			if strings.HasPrefix(s, "deployment failed: ") {
				if _, ok := ExplainEvent(s, 1, 1); !ok {
					t.Errorf("%s: the event %q has no cause and cure", file, s)
				}
			}
		})
	}, "plan/deploy", "control")
	if n < 5 {
		t.Fatalf("only %d events were found in the source", n)
	}
}

func isNeutral(text string) bool {
	return slices.ContainsFunc(neutral[:len(neutral)-1], func(s string) bool { return strings.Contains(text, s) })
}

// Every reason that the proxy gives of a target is explained.
func TestEveryTargetReasonIsExplained(t *testing.T) {
	values := map[string]elbtypes.TargetHealthReasonEnum{}
	for _, v := range elbtypes.TargetHealthReasonEnum("").Values() {
		values[strings.NewReplacer("Target.", "", "Elb.", "").Replace(string(v))] = v
	}
	n := 0
	source(t, func(file string, syntax *ast.File) {
		selectors(syntax, func(name string) {
			short, ok := strings.CutPrefix(name, "TargetHealthReasonEnum")
			if !ok || short == "" {
				return
			}
			n++
			v := values[short]
			f, ok := ExplainTarget(Target{Group: "web", ID: "10.0.0.1", Port: 80, Reason: v})
			if !ok || f.Cause == "" || f.Level >= Warning && len(f.Cures) == 0 {
				t.Errorf("%s: the reason %s (%s) has no cause and cure", file, name, v)
			}
		})
	}, "serve/proxy", "api/elb")
	if n < 6 {
		t.Fatalf("only %d reasons were found in the source", n)
	}
}

// Every rung of a task's ladder and every verdict of a node is explained.
func TestEveryStateIsExplained(t *testing.T) {
	ladder := []model.TaskStatus{model.Provisioning, model.Pending, model.Activating, model.Running, model.Deactivating, model.Stopping, model.Deprovisioning, model.Stopped}
	for _, s := range ladder {
		if f := hanging(&Task{Status: s}, time.Unix(1e9, 0)); f.Cause == "" || f.Name == "Unknown" {
			t.Errorf("a task that hangs in %s is not explained", s)
		}
	}
	for _, v := range []model.Verdict{model.NodeAlive, model.NodeAway, model.NodeImpaired, model.NodeLost} {
		if f, ok := ExplainNode(&model.Node{Life: model.Life{Verdict: v, Reason: "its disk is full"}}); !ok || len(f.Cures) == 0 {
			t.Errorf("a node that is %q has no cure", v)
		}
	}
}

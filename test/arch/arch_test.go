// Package arch checks the rules of the house that a compiler can't: which package may import which, and how large things grow.
package arch

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/berthdev/berth/internal/"

// rung is one line of the ladder.
type rung struct {
	from string   // the package and what lies below it; the first rung that fits counts
	to   []string // what it may import
	why  string
}

// ladder says what each wing, or room of its own, may import besides itself. Rooms of api and of plan are strangers to each other: a
// room may import only what lies below itself and what is listed, so a new room needs no line here.
var ladder = []rung{
	{"model", nil, "model is the bottom of the ladder"},
	{"timeouts", nil, "a table"},
	{"store", []string{"model"}, "the store knows the nouns only"},
	{"gate", []string{"timeouts"}, "bounds of what strangers may take know no service"},
	{"pki", nil, "keys and certificates know no noun of Berth's"},
	{"peer", []string{"pki", "timeouts"}, "the cluster port carries, and knows nothing of what"},
	{"execstream", nil, "what a container and who talks to it say, on any machine"},
	{"forward", []string{"timeouts"}, "requests go to the leader unread"},
	{"join", []string{"peer", "pki", "timeouts"}, "whoever joins has no store; laptops do it too"},
	{"relay", []string{"timeouts"}, "a relay carries bytes"},
	{"registrar", []string{"join", "peer", "pki", "store", "timeouts", "model"}, "who is taken in, and who is still known"},
	{"plan", []string{"model"}, "planners see values, and not each other"},
	{"api/wire", []string{"gate", "model"}, "protocols know no service"},
	{"places", []string{"plan/placement", "store", "model"}, "what placement knows, kept beside the store"},
	{"api", []string{"execstream", "api/wire", "plan", "places", "store", "model", "serve/registry", "serve/logstore", "serve/keys", "serve/vault", "serve/objects", "serve/metrics", "serve/events", "serve/topics"}, "handlers decide, controllers and agents act; never sideways between two APIs"},
	{"control", []string{"plan", "places", "store", "timeouts", "model"}, "arrows point down"},
	{"beat", []string{"timeouts"}, "packets know no noun but the node's id"},
	{"nodelink/ledger", []string{"nodelink", "peer", "timeouts", "model"}, "a ledger elsewhere knows what is written, and not why"},
	{"nodelink/grpc", []string{"nodelink", "peer", "pki", "timeouts", "model"}, "a transport knows the messages, and not what is done with them"},
	{"vpc", []string{"plan/blocks", "plan/secgroups", "store", "timeouts", "model"}, "which addresses are whose, beside the store"},
	{"life", []string{"beat", "plan/judge", "store", "timeouts", "model"}, "who lives, from what is heard to the rows"},
	{"nodelink", []string{"store", "timeouts", "model"}, "a session carries assignments and reports"},
	{"node/agent/agenttest", []string{"node", "plan/task", "timeouts", "model"}, "the suite makes tasks as the API does"},
	{"node/agent/network", []string{"node", "plan/secgroups", "timeouts", "model"}, "what a packet filter holds is planned; the rest as all of node"},
	{"node", []string{"node", "execstream", "beat", "timeouts", "model"}, "an agent knows only its assignments"},
	{"serve/proxy/feed", []string{"serve/proxy", "store", "timeouts", "model"}, "the data plane's joint with the store"},
	{"serve/registry/expiry", []string{"plan/lifecycle", "serve/registry", "store", "model"}, "a policy's verdicts, done to rows"},
	{"serve/proxy", []string{"gate", "timeouts", "model"}, "the data plane takes a table"},
	{"serve/metrics/data", []string{"serve/metrics", "plan/metricmath", "model"}, "math over metrics"},
	{"serve/alarms", []string{"serve/metrics", "plan/alarm", "store", "timeouts", "model"}, "the leader judges alarms"},
	{"serve/events", []string{"serve/outbox", "plan/schedule", "plan/pattern", "store", "timeouts", "model"}, "the leader runs what is scheduled, and tells of events"},
	{"serve/scaling", []string{"serve/metrics", "plan/alarm", "plan/scaling", "plan/schedule", "store", "timeouts", "model"}, "the leader scales services"},
	{"serve", []string{"serve", "execstream", "gate", "store", "timeouts", "model"}, "what answers people decides nothing"},
	{"sim", []string{"api", "control", "plan", "places", "nodelink", "store", "model"}, "a cluster without machines"},
	{"doctor", []string{"node", "join", "peer", "pki"}, "the doctor looks at the machine, and at others from there"},
	{"console", []string{"api/wire", "plan/why", "serve/logstore", "serve/metrics", "store", "model"}, "the console sees the store and asks the API: never a controller, a node or an API's own package"},
	{"client", []string{"execstream", "plan/why", "serve/build", "join", "peer", "pki", "relay", "timeouts", "model"}, "what works on any machine knows the API, and the way to it"},
	{"cli", []string{"app", "client", "doctor", "api/iam", "serve/fleet", "model"}, "commands call app"},
	{"app", []string{""}, "app wires everything"},
}

// impure is what a planner may not import of the standard library.
var impure = []string{"context", "log", "log/slog", "math/rand", "math/rand/v2", "os", "net", "net/http", "sync", "time/tzdata"}

func within(path string, pkgs []string) bool {
	for _, p := range pkgs {
		if path == p || strings.HasPrefix(path, p+"/") || p == "" {
			return true
		}
	}
	return false
}

// sources yields every Go file below internal that is no test, with its package's path below it.
func sources(t *testing.T, f func(pkg, file string, syntax *ast.File, set *token.FileSet)) {
	t.Helper()
	root := "../../internal"
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		f(filepath.ToSlash(pkg), path, syntax, set)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// room is what the package belongs to: the first two elements of its path within api and plan, whose rooms are strangers to each
// other, and within serve; else the first.
func room(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	if len(parts) > 1 && within(pkg, []string{"api", "plan", "serve"}) {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

func TestImportsPointDown(t *testing.T) {
	sources(t, func(pkg, file string, syntax *ast.File, _ *token.FileSet) {
		i := slices.IndexFunc(ladder, func(r rung) bool { return within(pkg, []string{r.from}) })
		if i < 0 {
			t.Errorf("%s: which wing does package %s belong to? Give it a rung of the ladder", file, pkg)
			return
		}
		for _, spec := range syntax.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if own, ok := strings.CutPrefix(path, module); ok && !within(own, append(ladder[i].to, room(pkg))) {
				t.Errorf("%s imports %s: %s", file, own, ladder[i].why)
			}
			if within(pkg, []string{"plan"}) && within(path, impure) && path != "net/netip" { // which are values
				t.Errorf("%s imports %s: planners are pure", file, path)
			}
		}
	})
}

// The hard bounds of the project's own budget; most files and functions are far below.
const maxFile, maxFunction = 600, 100

func TestNothingGrowsTooLarge(t *testing.T) {
	sources(t, func(_, file string, syntax *ast.File, set *token.FileSet) {
		if n := lines(t, file); n > maxFile {
			t.Errorf("%s has %d lines: is there a second noun inside?", file, n)
		}
		for _, d := range syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line; n > maxFunction {
					t.Errorf("%s: %s has %d lines", file, f.Name.Name, n)
				}
			}
		}
	})
}

func lines(t *testing.T, file string) (n int) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		n++
	}
	return n
}

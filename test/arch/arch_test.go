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
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/berthdev/berth/internal/"

// apis may not know each other, nor what does their work.
var apis = []string{"ecs", "ecr", "elb", "logs", "sts", "ec2"}

// bans say what a package (and what lies below it) may not import, and why.
var bans = []struct {
	from, to []string
	why      string
}{
	{[]string{"model"}, []string{""}, "model is the bottom of the ladder"},
	{[]string{"store"}, []string{"wire", "control", "agent", "nodelink", "app", "ecs", "deploy"}, "the store knows the nouns only"},
	{[]string{"deploy", "placement", "targets"}, []string{"store", "wire", "control", "agent", "app", "nodelink"}, "planners see values"},
	{apis, []string{"control", "agent", "nodelink", "app", "proxy"}, "handlers decide, controllers act"},
	{[]string{"agent"}, []string{"store", "control", "app", "wire", "ecs"}, "an agent knows only its assignments"},
	{[]string{"proxy"}, []string{"control", "app", "wire"}, "the data plane takes a table"},
	{[]string{"control"}, append([]string{"agent", "app", "wire"}, apis...), "arrows point down"},
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

func TestImportsPointDown(t *testing.T) {
	sources(t, func(pkg, file string, syntax *ast.File, _ *token.FileSet) {
		for _, spec := range syntax.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if own, ok := strings.CutPrefix(path, module); ok {
				for _, b := range bans {
					if within(pkg, b.from) && within(own, b.to) && !strings.HasPrefix(pkg+"/", own+"/") {
						t.Errorf("%s imports %s: %s", file, own, b.why)
					}
				}
				if within(pkg, apis) && within(own, apis) && strings.SplitN(pkg, "/", 2)[0] != strings.SplitN(own, "/", 2)[0] {
					t.Errorf("%s imports %s: never sideways between two APIs", file, own)
				}
			}
			if within(pkg, []string{"deploy", "placement", "targets"}) && within(path, impure) {
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

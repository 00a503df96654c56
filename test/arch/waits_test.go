package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// held are the folders whose waits all stand in the table; strangers are below them and have none of their own to keep in order.
var (
	held = []string{"../../internal/node", "../../internal/nodelink", "../../internal/app", "../../internal/serve/edge", "../../internal/serve/proxy",
		"../../internal/gate",
		"../../cmd/berth-shim"}
	strangers = []string{"../../internal/node/agent/fake", "../../internal/node/agent/agenttest", "../../internal/node/agent/metadata", "../../internal/node/agent/containerd/imagetest"}
)

// TestNoOtherTable finds waits of a second or more that are declared outside the table: a literal times a unit, or a unit alone.
// Pauses below a second (the pace of a loop) may stand where they are used; a unit times a number that came from elsewhere is not a wait.
func TestNoOtherTable(t *testing.T) {
	for _, root := range held {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && slices.Contains(strangers, path) {
				return fs.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			set := token.NewFileSet()
			syntax, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err == nil {
				for _, pos := range waits(syntax) {
					t.Errorf("%s: this wait belongs into internal/timeouts, with its place in Order", set.Position(pos))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func waits(file *ast.File) (found []token.Pos) {
	conversions := map[ast.Expr]bool{} // units that scale what came from elsewhere
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			for unit, other := range map[ast.Expr]ast.Expr{n.X: n.Y, n.Y: n.X} {
				_, literal := other.(*ast.BasicLit)
				if c, ok := unit.(*ast.CallExpr); ok && len(c.Args) == 1 { // float64(time.Second)
					if f, ok := c.Fun.(*ast.Ident); ok && f.Name == "float64" {
						unit = c.Args[0]
					}
				}
				if isUnit(unit) && (n.Op == token.MUL && !literal || n.Op == token.QUO) {
					conversions[unit] = true
				}
			}
		case *ast.SelectorExpr:
			if isUnit(n) && !conversions[n] {
				found = append(found, n.Pos())
			}
		}
		return true
	})
	return found
}

func isUnit(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == "time" && slices.Contains([]string{"Second", "Minute", "Hour"}, s.Sel.Name)
}

func TestWaitsAreFound(t *testing.T) {
	for expr, want := range map[string]int{
		"3 * time.Second": 1, "time.Minute": 1, "f(time.Hour)": 1, "time.Duration(n) * time.Second": 0, "time.Second / 100": 0,
		"now.Sub(x) >= time.Minute": 1, "5 * time.Millisecond": 0, "time.Second * 3": 1, "time.Duration(x * float64(time.Second))": 0, "float64(time.Second)": 1,
	} {
		syntax, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nvar y = "+expr, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(waits(syntax)); got != want {
			t.Errorf("%s: %d waits found, want %d", expr, got, want)
		}
	}
}

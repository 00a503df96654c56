package main

import (
	"os"
	"slices"
	"testing"
)

// TestDescribe: the test's own program names its modules, each once, and everything that something depends on is there.
func TestDescribe(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := describe("1.2.3", []string{program})
	if err != nil {
		t.Fatal(err)
	}
	refs := map[string]int{}
	for _, c := range b.Components {
		refs[c.Ref]++
	}
	for _, d := range b.Dependencies {
		for _, ref := range d.On {
			if refs[ref] != 1 {
				t.Errorf("%s is there %d times", ref, refs[ref])
			}
		}
	}
	if !slices.ContainsFunc(b.Components, func(c component) bool { return c.Name == "std" }) {
		t.Error("Go's own library is not among the components")
	}
	if _, err := describe("1", []string{"main.go"}); err == nil {
		t.Error("a file that is no program was described")
	}
	got := library("golang.org/x/sys", "v0.1.0", "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
	if got.PURL != "pkg:golang/golang.org/x/sys@v0.1.0" || len(got.Hashes) != 1 || got.Hashes[0].Content[:8] != "e3b0c442" {
		t.Errorf("%+v", got)
	}
}

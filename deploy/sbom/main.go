// Command sbom writes what Go programs were built from, as they say themselves, as a bill of materials in CycloneDX 1.6
// (cyclonedx.org/docs/1.6/json). Usage: sbom VERSION PROGRAM... > berth.cdx.json
package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type bom struct {
	Format       string      `json:"bomFormat"`
	Spec         string      `json:"specVersion"`
	Version      int         `json:"version"`
	Metadata     metadata    `json:"metadata"`
	Components   []component `json:"components"`
	Dependencies []depends   `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl,omitempty"`
	Hashes  []hash `json:"hashes,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type depends struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn"`
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom VERSION PROGRAM...")
		os.Exit(2)
	}
	b, err := describe(os.Args[1], os.Args[2:])
	if err == nil {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", " ")
		err = out.Encode(b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// describe unites the modules of the programs.
func describe(version string, programs []string) (*bom, error) {
	b := &bom{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{component{Type: "application", Ref: "berth", Name: "berth", Version: version}}}
	found := map[string]component{}
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return nil, err
		}
		ref := filepath.Base(program)
		used := depends{Ref: ref}
		if ref != b.Metadata.Component.Ref {
			b.Components = append(b.Components, component{Type: "application", Ref: ref, Name: ref, Version: cmp.Or(info.Main.Version, version)})
		}
		std := component{Type: "library", Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}
		std.PURL = "pkg:golang/std@" + std.Version
		add := func(c component) {
			c.Ref = c.PURL
			found[c.Ref] = c
			used.On = append(used.On, c.Ref)
		}
		add(std)
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			add(library(m.Path, m.Version, m.Sum))
		}
		slices.Sort(used.On)
		b.Dependencies = append(b.Dependencies, used)
	}
	for _, c := range found {
		b.Components = append(b.Components, c)
	}
	slices.SortFunc(b.Components, func(x, y component) int { return cmp.Compare(x.Ref, y.Ref) })
	return b, nil
}

// library is a module; sum is that of go.sum: "h1:" and the base64 of a SHA-256 over its files (go.dev/ref/mod#go-sum-files).
func library(path, version, sum string) component {
	c := component{Type: "library", Name: path, Version: version, PURL: "pkg:golang/" + path + "@" + version}
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:")); err == nil && len(raw) == 32 {
		c.Hashes = []hash{{"SHA-256", hex.EncodeToString(raw)}}
	}
	return c
}

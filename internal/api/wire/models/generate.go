//go:build ignore

// Generate lists the operations of every AWS service whose SDK module go.mod has, one file a service, named after the service in a
// signature's scope: `go generate ./internal/api/wire/models`, after a module was added or upgraded.
package main

import (
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	scope     = regexp.MustCompile(`SetSigV4SigningName\(&props, "([a-z0-9-]+)"\)`)
	operation = regexp.MustCompile(`(?m)^func \(c \*Client\) (\w+)\(ctx context\.Context, params \*\w+Input, `)
)

func main() {
	list := exec.Command("go", "list", "-m", "-f", "{{if not .Indirect}}{{.Path}} {{.Dir}}{{end}}", "all")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		module, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(module, "github.com/aws/aws-sdk-go-v2/service/") {
			continue
		}
		auth, err := os.ReadFile(filepath.Join(dir, "auth.go"))
		if err != nil {
			log.Fatal(err)
		}
		name := scope.FindSubmatch(auth)
		if name == nil {
			log.Fatalf("%s does not say what it signs for", module)
		}
		var names []string
		files, _ := filepath.Glob(filepath.Join(dir, "api_op_*.go"))
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				log.Fatal(err)
			}
			for _, m := range operation.FindAllSubmatch(text, -1) {
				names = append(names, string(m[1]))
			}
		}
		slices.Sort(names)
		if err := os.WriteFile(string(name[1])+".txt", []byte(strings.Join(names, "\n")+"\n"), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
